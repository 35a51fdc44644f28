//! The platform tag (PEP 425) of wheels that are built on a host for that host.
//!
//! Differences from Python's `sysconfig.get_platform()`: that one follows the interpreter, so an
//! emulated x86_64 Python on Arm Windows says `win-amd64` for Arm binaries, and a macOS Python
//! says the version it was itself built for. This one follows the hardware and asks for the
//! lowest system that the files need.

use crate::{Arch, Host, Os};

/// The platform tag of a wheel whose native files run on `host`'s hardware.
///
/// `macos_minimum` is the lowest macOS as (major, minor) that the files need; `None` means files
/// that need nothing, which gives the lowest tag that installers of that architecture know
/// (10.13 for Intel, 11.0 for Apple silicon). Linux gets the plain `linux_<machine>`: a manylinux
/// or musllinux tag is a claim about the files, which only an audit of them can make.
pub fn wheel_platform_tag(host: &Host, macos_minimum: Option<(u32, u32)>) -> String {
    match (host.os, host.arch) {
        (Os::Linux, arch) => format!("linux_{}", arch.qemu_name()),
        (Os::Windows, arch) => format!("win_{}", arch.image_name()),
        (Os::Macos, Arch::Amd64) => {
            let (major, minor) = macos_minimum.unwrap_or((10, 13));
            format!("macosx_{major}_{minor}_x86_64")
        }
        (Os::Macos, Arch::Arm64) => {
            let (major, minor) = macos_minimum.unwrap_or((11, 0)).max((11, 0));
            format!("macosx_{major}_{minor}_arm64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The build runners of the installation document with the tag that each must produce. The
    /// fifth is the one that goes wrong without the registry.
    #[test]
    fn each_build_runner_makes_its_tag() {
        use Arch::{Amd64, Arm64};
        use Os::{Linux, Macos, Windows};
        let table = [
            (Linux, Amd64, Amd64, "linux_x86_64"),
            (Linux, Arm64, Arm64, "linux_aarch64"),
            (Macos, Arm64, Arm64, "macosx_11_0_arm64"),
            (Macos, Amd64, Amd64, "macosx_10_13_x86_64"),
            (Windows, Amd64, Amd64, "win_amd64"),
            (Windows, Arm64, Amd64, "win_arm64"),
            (Windows, Arm64, Arm64, "win_arm64"),
        ];
        for (os, arch, process_arch, expect) in table {
            let host = Host { os, arch, process_arch };
            assert_eq!(wheel_platform_tag(&host, None), expect, "{host:?}");
        }
    }

    #[test]
    fn a_stated_minimum_is_kept_but_never_below_the_first_arm_macos() {
        let mac = |arch| Host { os: Os::Macos, arch, process_arch: arch };
        let tag = |arch, minimum| wheel_platform_tag(&mac(arch), Some(minimum));
        assert_eq!(tag(Arch::Arm64, (15, 0)), "macosx_15_0_arm64");
        assert_eq!(tag(Arch::Arm64, (10, 15)), "macosx_11_0_arm64");
        assert_eq!(tag(Arch::Amd64, (10, 9)), "macosx_10_9_x86_64");
    }
}
