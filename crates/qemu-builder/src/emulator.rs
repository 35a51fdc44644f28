//! The two bundles that QEMU's programs are kept in: what every host of the wheel needs, and the
//! emulator of the other architecture, which only a release and its tests need.

use super::target::Target;
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
    pub fn kind(self, target: Target) -> String {
        let kind = match self {
            Self::Own => "qemu",
            Self::Cross => "qemu-cross",
        };
        if target.is_host() { kind.to_owned() } else { format!("{kind}-{target}") }
    }

    /// Whose guests it runs.
    pub fn guest(self, target: Target) -> Arch {
        self.guest_on(target.arch())
    }

    /// The same on a host of that architecture.
    pub fn guest_on(self, host: Arch) -> Arch {
        match self {
            Self::Own => host,
            Self::Cross => host.other(),
        }
    }

    /// Its programs, by file name.
    pub fn programs(self, target: Target) -> Vec<String> {
        let suffix = target.suffix();
        let mut programs = vec![qemu::system_binary(self.guest(target).qemu_name(), suffix)];
        if self == Self::Own {
            programs.push(qemu::img_binary(suffix));
        }
        programs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheel_retag::Runner;

    #[test]
    fn each_bundle_has_its_own_emulator() {
        let of = |emulator: Emulator, runner| emulator.programs(Target::new(runner));
        assert_eq!(of(Emulator::Own, Runner::LinuxX64), ["qemu-system-x86_64", "qemu-img"]);
        assert_eq!(of(Emulator::Cross, Runner::LinuxX64), ["qemu-system-aarch64"]);
        assert_eq!(of(Emulator::Cross, Runner::LinuxArm64), ["qemu-system-x86_64"]);
        let own = of(Emulator::Own, Runner::WindowsArm64);
        assert_eq!(own, ["qemu-system-aarch64.exe", "qemu-img.exe"]);
    }
}
