//! Which wheels are made on which runner, and under which other tags they ship as well.
//!
//! Image wheels hold disks, not programs of the host, so one build serves several systems: that
//! is the whole of [`RETAGS`]. What holds programs of the host is never retagged.

use crate::{Error, WheelFileName, WheelTag, retag};
use host_platform::{Arch, Os};
use package_layout::qemu;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A machine of the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    LinuxX64,
    LinuxArm64,
    /// macOS on Apple silicon.
    MacosArm64,
    WindowsX64,
    WindowsArm64,
}

impl Runner {
    /// The five runners.
    pub const ALL: [Self; 5] =
        [Self::LinuxX64, Self::LinuxArm64, Self::MacosArm64, Self::WindowsX64, Self::WindowsArm64];

    /// The word for command lines and workflows.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinuxX64 => "linux-x64",
            Self::LinuxArm64 => "linux-arm64",
            Self::MacosArm64 => "macos-arm64",
            Self::WindowsX64 => "windows-x64",
            Self::WindowsArm64 => "windows-arm64",
        }
    }

    /// The runner that a host of that system and hardware is; there is none for Intel Macs.
    pub fn for_host(os: Os, arch: Arch) -> Option<Self> {
        match (os, arch) {
            (Os::Linux, Arch::Amd64) => Some(Self::LinuxX64),
            (Os::Linux, Arch::Arm64) => Some(Self::LinuxArm64),
            (Os::Macos, Arch::Arm64) => Some(Self::MacosArm64),
            (Os::Macos, Arch::Amd64) => None,
            (Os::Windows, Arch::Amd64) => Some(Self::WindowsX64),
            (Os::Windows, Arch::Arm64) => Some(Self::WindowsArm64),
        }
    }

    /// Whether a platform tag is one that this runner builds.
    pub fn builds(self, platform: &str) -> bool {
        let linux = |machine: &str| {
            let family = ["linux_", "manylinux", "musllinux"];
            family.iter().any(|start| platform.starts_with(start)) && platform.ends_with(machine)
        };
        match self {
            Self::LinuxX64 => linux("_x86_64"),
            Self::LinuxArm64 => linux("_aarch64"),
            Self::MacosArm64 => platform.starts_with("macosx_") && platform.ends_with("_arm64"),
            Self::WindowsX64 => platform == "win_amd64",
            Self::WindowsArm64 => platform == "win_arm64",
        }
    }
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Runner {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|runner| runner.name() == text)
            .ok_or_else(|| Error::Runner { name: text.to_owned() })
    }
}

/// The platforms that an image wheel of a runner ships for as well. Runners that are not here
/// retag nothing.
pub const RETAGS: [(Runner, [&str; 2]); 2] = [
    (Runner::LinuxX64, ["macosx_10_13_x86_64", "win_amd64"]),
    (Runner::MacosArm64, ["linux_aarch64", "win_arm64"]),
];

/// Distributions (as in file names) that hold programs of the host.
pub const NEVER_RETAGGED: [&str; 3] = [qemu::PACKAGE, qemu::CROSS_PACKAGE, "quicksand_runtime"];

/// The tags under which a wheel of that runner ships as well. Nothing for wheels of other
/// platforms (so that a second run adds nothing), for programs, and for what is tied to an
/// interpreter's binary interface.
pub fn retags(runner: Runner, wheel: &WheelFileName) -> Vec<WheelTag> {
    let holds_programs = NEVER_RETAGGED.contains(&wheel.distribution.to_ascii_lowercase().as_str());
    let is_its_own = wheel.tag.platforms.iter().all(|platform| runner.builds(platform));
    if holds_programs || !is_its_own || wheel.tag.abi != "none" {
        return Vec::new();
    }
    let targets = RETAGS.iter().filter(|(its, _)| *its == runner).flat_map(|(_, targets)| targets);
    targets.map(|target| wheel.tag.with_platforms([*target])).collect()
}

/// Applies the matrix to every wheel in a folder and returns the new wheels, sorted.
pub fn retag_folder(folder: &Path, runner: Runner) -> Result<Vec<PathBuf>, Error> {
    let mut plan = Vec::new();
    for wheel in wheels_in(folder)? {
        let file_name = wheel.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let tags = retags(runner, &file_name.parse()?);
        plan.push((wheel, tags));
    }
    retag_each(&plan, folder)
}

/// Gives each wheel its further tags, in a folder, and returns the new wheels, sorted.
///
/// # Errors
/// A wheel cannot be read or written; before the first is written: two would get one name.
pub fn retag_each(plan: &[(PathBuf, Vec<WheelTag>)], folder: &Path) -> Result<Vec<PathBuf>, Error> {
    check_names(plan)?;
    let mut made = Vec::new();
    for (wheel, tags) in plan {
        for tag in tags {
            made.push(retag(wheel, tag, folder)?);
        }
    }
    made.sort();
    Ok(made)
}

/// Whether each wheel of a plan gets names of its own: which of two sources would win is nobody's to
/// guess.
///
/// # Errors
/// When two wheels would get one name.
fn check_names(plan: &[(PathBuf, Vec<WheelTag>)]) -> Result<(), Error> {
    let mut taken: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for (wheel, tags) in plan {
        let file_name = wheel.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name: WheelFileName = file_name.parse()?;
        for tag in tags {
            let target = WheelFileName { tag: tag.clone(), ..name.clone() }.to_string();
            if let Some(one) = taken.insert(target.to_ascii_lowercase(), wheel) {
                let (one, other) = (one.clone(), wheel.clone());
                return Err(Error::SameName { one, other, name: target });
            }
        }
    }
    Ok(())
}

/// The wheels in a folder, sorted.
pub fn wheels_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut wheels = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(Error::io("read the folder", folder))? {
        let path = entry.map_err(Error::io("read the folder", folder))?.path();
        // Files that are still being written start with a dot.
        let is_hidden =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    wheels.sort();
    Ok(wheels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_of_the_installation_document() {
        let retagged = |runner: Runner, wheel: &str| -> Vec<String> {
            let tags = retags(runner, &wheel.parse().unwrap());
            tags.iter().flat_map(|tag| tag.platforms.clone()).collect()
        };
        let table: [(Runner, &str, &[&str]); 14] = [
            (Runner::LinuxX64, "linux_x86_64", &["macosx_10_13_x86_64", "win_amd64"]),
            (Runner::LinuxX64, "manylinux_2_17_x86_64", &["macosx_10_13_x86_64", "win_amd64"]),
            (Runner::MacosArm64, "macosx_11_0_arm64", &["linux_aarch64", "win_arm64"]),
            (Runner::LinuxArm64, "linux_aarch64", &[]),
            (Runner::WindowsX64, "win_amd64", &[]),
            (Runner::WindowsArm64, "win_arm64", &[]),
            // What a first run made is not retagged by a second one.
            (Runner::LinuxX64, "win_amd64", &[]),
            (Runner::LinuxX64, "macosx_10_13_x86_64", &[]),
            (Runner::MacosArm64, "linux_aarch64", &[]),
            (Runner::MacosArm64, "win_arm64", &[]),
            (Runner::MacosArm64, "macosx_10_13_x86_64", &[]),
            (Runner::LinuxX64, "linux_aarch64", &[]),
            (Runner::LinuxX64, "any", &[]),
            (Runner::LinuxX64, "win_amd64.linux_x86_64", &[]),
        ];
        for (runner, platform, expect) in table {
            let wheel = format!("quicksand_ubuntu-24.4-py3-none-{platform}.whl");
            assert_eq!(retagged(runner, &wheel), expect, "{runner} {platform}");
            for distribution in NEVER_RETAGGED {
                let wheel = format!("{distribution}-1.0-py3-none-{platform}.whl");
                assert_eq!(retagged(runner, &wheel), Vec::<String>::new(), "{wheel}");
            }
        }
        let native = "other-1.0-cp310-abi3-linux_x86_64.whl";
        assert_eq!(retagged(Runner::LinuxX64, native), Vec::<String>::new());
    }

    #[test]
    fn runners_are_named() {
        for runner in Runner::ALL {
            assert_eq!(runner.name().parse::<Runner>().unwrap(), runner);
            assert_eq!(serde_json::to_string(&runner).unwrap(), format!("\"{runner}\""));
        }
        let error = "linux".parse::<Runner>().unwrap_err();
        assert!(error.hint().unwrap().contains("linux-x64"));
        assert_eq!(Runner::for_host(Os::Macos, Arch::Amd64), None);
        assert_eq!(Runner::for_host(Os::Windows, Arch::Arm64), Some(Runner::WindowsArm64));
    }
}
