//! The hardware's architecture, seen through the emulation that a process may run under.
//!
//! On Windows an x86_64 Python runs on Arm hardware without knowing it, and every question to the
//! interpreter or to the process is answered "AMD64". The registry value
//! `HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment\PROCESSOR_ARCHITECTURE`
//! always tells the hardware, so it wins.

use crate::{Arch, Os};
use serde::Serialize;

/// What is known of a host before any conclusion; the trait exists so that tests can play every
/// host on one.
pub trait HostFacts {
    /// The operating system.
    fn os(&self) -> Os;

    /// The architecture that the process was compiled for.
    fn process_arch(&self) -> Arch;

    /// The registry's PROCESSOR_ARCHITECTURE for the whole machine; `None` where there is no
    /// registry or it cannot be read.
    fn registry_processor_architecture(&self) -> Option<String>;

    /// True when macOS translates this x86_64 process on Arm hardware (Rosetta 2).
    fn is_translated_by_rosetta(&self) -> bool;
}

/// The host that this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisHost;

impl HostFacts for ThisHost {
    fn os(&self) -> Os {
        Os::OF_PROCESS
    }

    fn process_arch(&self) -> Arch {
        Arch::OF_PROCESS
    }

    #[cfg(windows)]
    fn registry_processor_architecture(&self) -> Option<String> {
        const ENVIRONMENT: &str = r"SYSTEM\CurrentControlSet\Control\Session Manager\Environment";
        winreg::RegKey::predef(winreg::enums::HKEY_LOCAL_MACHINE)
            .open_subkey(ENVIRONMENT)
            .and_then(|key| key.get_value::<String, _>("PROCESSOR_ARCHITECTURE"))
            .ok()
    }

    #[cfg(not(windows))]
    fn registry_processor_architecture(&self) -> Option<String> {
        None
    }

    #[cfg(target_os = "macos")]
    fn is_translated_by_rosetta(&self) -> bool {
        let mut value: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>();
        // SAFETY: the name is NUL-terminated, `value` and `size` outlive the call and agree.
        let status = unsafe {
            libc::sysctlbyname(
                c"sysctl.proc_translated".as_ptr(),
                (&raw mut value).cast(),
                &raw mut size,
                std::ptr::null_mut(),
                0,
            )
        };
        status == 0 && value == 1
    }

    #[cfg(not(target_os = "macos"))]
    fn is_translated_by_rosetta(&self) -> bool {
        false
    }
}

/// A host: its system, its hardware, and what the process on it was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Host {
    /// The operating system.
    pub os: Os,
    /// The architecture of the hardware.
    pub arch: Arch,
    /// The architecture of this process, which differs from `arch` under emulation.
    pub process_arch: Arch,
}

impl Host {
    /// True when the system translates this process' instructions.
    pub fn is_emulated(&self) -> bool {
        self.arch != self.process_arch
    }
}

/// Concludes the host from its facts. A registry value of neither architecture (or none) leaves
/// the process' own, which is then the best that is known.
pub fn host_from(facts: &dyn HostFacts) -> Host {
    let (os, process_arch) = (facts.os(), facts.process_arch());
    let arch = match os {
        Os::Windows => facts
            .registry_processor_architecture()
            .and_then(|value| value.parse().ok())
            .unwrap_or(process_arch),
        Os::Macos if facts.is_translated_by_rosetta() => Arch::Arm64,
        Os::Macos | Os::Linux => process_arch,
    };
    Host { os, arch, process_arch }
}

/// The host that this process runs on.
pub fn host() -> Host {
    host_from(&ThisHost)
}

/// The architecture of this host's hardware.
pub fn native_arch() -> Arch {
    host().arch
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        os: Os,
        process: Arch,
        registry: Option<&'static str>,
        rosetta: bool,
    }

    impl HostFacts for Fake {
        fn os(&self) -> Os {
            self.os
        }
        fn process_arch(&self) -> Arch {
            self.process
        }
        fn registry_processor_architecture(&self) -> Option<String> {
            self.registry.map(str::to_owned)
        }
        fn is_translated_by_rosetta(&self) -> bool {
            self.rosetta
        }
    }

    #[test]
    fn the_hardware_is_seen_through_emulation() {
        use Arch::{Amd64, Arm64};
        use Os::{Linux, Macos, Windows};
        let table = [
            (Linux, Amd64, None, false, Amd64),
            (Linux, Arm64, None, false, Arm64),
            // A registry has no meaning elsewhere, even when a variable of that name is set.
            (Linux, Amd64, Some("ARM64"), false, Amd64),
            (Macos, Amd64, None, false, Amd64),
            (Macos, Arm64, None, false, Arm64),
            (Macos, Amd64, None, true, Arm64),
            (Windows, Amd64, Some("AMD64"), false, Amd64),
            (Windows, Amd64, Some("ARM64"), false, Arm64),
            (Windows, Arm64, Some("ARM64"), false, Arm64),
            (Windows, Arm64, Some("AMD64"), false, Amd64),
            (Windows, Amd64, Some("arm64 "), false, Arm64),
            // Unreadable or unknown: what the process knows is the best guess.
            (Windows, Amd64, None, false, Amd64),
            (Windows, Arm64, None, false, Arm64),
            (Windows, Amd64, Some("x86"), false, Amd64),
            (Windows, Arm64, Some(""), false, Arm64),
        ];
        for (os, process, registry, rosetta, expect) in table {
            let host = host_from(&Fake { os, process, registry, rosetta });
            let row = format!("{os} {process} {registry:?} rosetta={rosetta}");
            assert_eq!(host, Host { os, arch: expect, process_arch: process }, "{row}");
            assert_eq!(host.is_emulated(), expect != process, "{row}");
        }
    }

    #[test]
    fn this_host_agrees_with_its_kernel() {
        let host = host();
        assert_eq!(host.process_arch, Arch::OF_PROCESS);
        assert_eq!(host.os.name(), std::env::consts::OS);
        assert_eq!(native_arch(), host.arch);
    }
}
