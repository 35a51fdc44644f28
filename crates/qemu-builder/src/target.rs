//! The machines that QEMU is built for, and the host that builds for each. Knows names and nothing of
//! compilers.

use anyhow::Result;
use host_platform::{Arch, Host, Os};
use std::fmt;
use wheel_retag::Runner;
use xtask_base::ui::hinted;

/// A machine that QEMU runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(Runner);

impl Target {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 5] = [
        Self(Runner::LinuxX64),
        Self(Runner::LinuxArm64),
        Self(Runner::MacosArm64),
        Self(Runner::WindowsX64),
        Self(Runner::WindowsArm64),
    ];

    /// The machine of that name.
    pub fn new(runner: Runner) -> Self {
        Self(runner)
    }

    /// This host, as its processes see it; none where a release has no such machine.
    pub fn for_host() -> Option<Self> {
        let host = host_platform::host();
        Runner::for_host(host.os, host.process_arch).map(Self)
    }

    /// The machine's word in the release.
    pub fn runner(self) -> Runner {
        self.0
    }

    /// Its system.
    pub fn os(self) -> Os {
        match self.0 {
            Runner::LinuxX64 | Runner::LinuxArm64 => Os::Linux,
            Runner::MacosArm64 => Os::Macos,
            Runner::WindowsX64 | Runner::WindowsArm64 => Os::Windows,
        }
    }

    /// Its processor.
    pub fn arch(self) -> Arch {
        match self.0 {
            Runner::LinuxX64 | Runner::WindowsX64 => Arch::Amd64,
            Runner::LinuxArm64 | Runner::MacosArm64 | Runner::WindowsArm64 => Arch::Arm64,
        }
    }

    /// The machine as a host of its own.
    pub fn as_host(self) -> Host {
        Host { os: self.os(), arch: self.arch(), process_arch: self.arch() }
    }

    /// Its system by meson's name.
    pub fn system(self) -> &'static str {
        match self.os() {
            Os::Linux => "linux",
            Os::Macos => "darwin",
            Os::Windows => "windows",
        }
    }

    /// The end of a program's file name.
    pub fn suffix(self) -> &'static str {
        if self.os() == Os::Windows { ".exe" } else { "" }
    }

    /// Whether it is the machine that builds.
    pub fn is_host(self) -> bool {
        Self::for_host() == Some(self)
    }

    /// Whether a machine builds for this one: Linux on x86_64 builds for all but macOS.
    pub fn is_built_on(self, host: Option<Self>) -> bool {
        host == Some(Self(Runner::LinuxX64)) && self.os() != Os::Macos
    }

    /// An error when this host does not build for it.
    pub fn check(self) -> Result<()> {
        if self.is_built_on(Self::for_host()) {
            return Ok(());
        }
        let (what, hint) = match self.os() {
            Os::Macos => (
                "for macos-arm64 nowhere yet".to_owned(),
                "`--plan` prints how it would; Homebrew's QEMU is packed by `build-qemu --from system`",
            ),
            Os::Linux | Os::Windows => (
                format!("for {self} on Linux on x86_64 only, so far"),
                "install QEMU by the system's own means: `build-qemu --from system` packs it",
            ),
        };
        Err(hinted(format!("build-qemu builds {what}"), hint))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name())
    }
}

/// Reads a runner's name, with the allowed ones in the message.
pub fn runner(text: &str) -> Result<Runner, String> {
    text.parse().map_err(|error: wheel_retag::Error| {
        format!("{error}: {}", error.hint().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_builds_for_four_machines() {
        let host = Some(Target(Runner::LinuxX64));
        let built: Vec<String> = Target::ALL
            .iter()
            .filter(|target| target.is_built_on(host))
            .map(ToString::to_string)
            .collect();
        assert_eq!(built, ["linux-x64", "linux-arm64", "windows-x64", "windows-arm64"]);
        for target in Target::ALL {
            assert!(!target.is_built_on(None) && !target.is_built_on(Some(Target::ALL[4])));
            assert_eq!(Runner::for_host(target.os(), target.arch()), Some(target.runner()));
        }
    }
}
