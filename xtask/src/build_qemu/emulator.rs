//! The two bundles that QEMU's programs are kept in: what every host of the wheel needs, and the
//! emulator of the other architecture, which only a release and its tests need.

use host_platform::Arch;
use package_layout::qemu;

/// Which bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// The emulator of the host's own architecture, and qemu-img.
    Own,
    /// The emulator of the other architecture.
    Cross,
}

impl Emulator {
    /// The kind of its entries of the build cache.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Own => "qemu",
            Self::Cross => "qemu-cross",
        }
    }

    /// Its programs on a host of this architecture, by file name.
    pub fn programs(self, host: Arch) -> Vec<String> {
        match self {
            Self::Own => {
                vec![qemu::system_binary(host.qemu_name(), ""), qemu::img_binary("")]
            }
            Self::Cross => vec![qemu::system_binary(host.other().qemu_name(), "")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bundle_has_its_own_emulator() {
        assert_eq!(Emulator::Own.programs(Arch::Amd64), ["qemu-system-x86_64", "qemu-img"]);
        assert_eq!(Emulator::Cross.programs(Arch::Amd64), ["qemu-system-aarch64"]);
        assert_eq!(Emulator::Cross.programs(Arch::Arm64), ["qemu-system-x86_64"]);
    }
}
