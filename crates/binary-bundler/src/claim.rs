//! What a wheel claims where it is built, held against what the audit of its binaries proved.
//!
//! The claim comes from the hardware (`host_platform::wheel_platform_tag`, on Windows by the registry). An emulated
//! Python on Windows on Arm says `win-amd64`, and so does a program that was compiled for it: two runners would
//! make wheels of one name, and the fat wheel would lack its half for Arm.

use crate::Error;
use host_platform::{Host, Os, wheel_platform_tag};

/// Whether a platform tag is one of the host's system, whichever its machine.
pub fn is_of_system(host: &Host, tag: &str) -> bool {
    match host.os {
        Os::Linux => ["linux_", "manylinux", "musllinux"].iter().any(|it| tag.starts_with(it)),
        Os::Macos => tag.starts_with("macosx_"),
        Os::Windows => tag.starts_with("win"),
    }
}

/// Refuses tags that a wheel built for this host's hardware does not have.
///
/// # Errors
/// The binaries are for another machine; both tags are named.
pub fn check_claim(host: &Host, proved: &[String]) -> Result<(), Error> {
    for tag in proved {
        let claim = wheel_platform_tag(host, macos_minimum(tag));
        let is_claimed = match host.os {
            // Which C library it needs is what only the audit knows.
            Os::Linux => {
                let machine = claim.trim_start_matches("linux");
                is_of_system(host, tag) && tag.ends_with(machine)
            }
            Os::Macos | Os::Windows => *tag == claim,
        };
        if !is_claimed {
            return Err(Error::OtherMachine { proved: tag.clone(), claim });
        }
    }
    Ok(())
}

/// The lowest macOS that a tag names.
fn macos_minimum(tag: &str) -> Option<(u32, u32)> {
    let mut numbers = tag.strip_prefix("macosx_")?.splitn(3, '_');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_platform::Arch::{self, Amd64, Arm64};

    /// The rows of the installation document's table: system, hardware, the interpreter's architecture, the tag
    /// of QEMU for the hardware, and what the interpreter's architecture would have made of it.
    const ROWS: [(Os, Arch, Arch, &str, &str); 8] = [
        (Os::Linux, Amd64, Amd64, "manylinux_2_17_x86_64", "manylinux_2_17_aarch64"),
        (Os::Linux, Arm64, Arm64, "manylinux_2_17_aarch64", "manylinux_2_17_x86_64"),
        (Os::Macos, Amd64, Amd64, "macosx_10_13_x86_64", "macosx_11_0_arm64"),
        (Os::Macos, Arm64, Arm64, "macosx_11_0_arm64", "macosx_10_13_x86_64"),
        (Os::Macos, Arm64, Amd64, "macosx_15_0_arm64", "macosx_15_0_x86_64"),
        (Os::Windows, Amd64, Amd64, "win_amd64", "win_arm64"),
        (Os::Windows, Arm64, Amd64, "win_arm64", "win_amd64"),
        (Os::Windows, Arm64, Arm64, "win_arm64", "win_amd64"),
    ];

    #[test]
    fn the_hardware_decides_in_every_row_of_the_table() {
        for (os, arch, process_arch, own, other) in ROWS {
            let host = Host { os, arch, process_arch };
            check_claim(&host, &[own.to_owned()]).unwrap();
            let error = check_claim(&host, &[own.to_owned(), other.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(other) && error.hint().is_some(), "{error}");
            assert!(is_of_system(&host, own) && is_of_system(&host, other), "{host:?}");
        }
    }

    #[test]
    fn another_system_is_distinguished() {
        let host = Host { os: Os::Linux, arch: Amd64, process_arch: Amd64 };
        for tag in ["win_amd64", "macosx_10_13_x86_64"] {
            assert!(!is_of_system(&host, tag) && check_claim(&host, &[tag.to_owned()]).is_err());
        }
        check_claim(&host, &["linux_x86_64".to_owned(), "musllinux_1_2_x86_64".to_owned()])
            .unwrap();
    }
}
