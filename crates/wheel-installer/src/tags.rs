//! Which wheels fit a host, and which of two that fit is the better one. Pure.
//!
//! Differences from pip: wheels without a binary interface of Python (`py3-none-…`: QEMU, images)
//! are chosen by the hardware first and by the interpreter second. An emulated x86_64 Python on Arm
//! gets Arm's QEMU, where pip only sees what fits the interpreter.

use host_platform::{Arch, Host, LibC, Os};
use wheel_retag::WheelTag;

/// What decides about platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    pub os: Os,
    pub arch: Arch,
    /// The C library, on Linux.
    pub libc: LibC,
    /// The version of macOS, on macOS.
    pub macos: (u32, u32),
}

/// The part of an interpreter that tags speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PythonTag {
    pub minor: u32,
    /// CPython, whose extension modules we know the names for.
    pub is_cpython: bool,
    /// A build without the global lock has an interface of its own and no stable one.
    pub is_free_threaded: bool,
}

/// Everything that fits, best first.
#[derive(Clone, Debug)]
pub struct Compatible {
    /// Python and abi parts, best first.
    interfaces: Vec<(String, String)>,
    /// Platforms of the hardware, then those that only the interpreter fits.
    by_hardware: Vec<String>,
    /// Platforms of the interpreter.
    by_python: Vec<String>,
}

/// How well a wheel fits; less is better.
pub type Rank = (usize, usize);

impl Compatible {
    /// What fits this hardware, and the interpreter if there is one.
    pub fn new(hardware: Platform, python: Option<(PythonTag, Platform)>) -> Self {
        let by_python =
            python.map_or_else(Vec::new, |(_, platform)| with_any(platforms(&platform)));
        let mut by_hardware = platforms(&hardware);
        for platform in with_any(by_python.clone()) {
            if !by_hardware.contains(&platform) {
                by_hardware.push(platform);
            }
        }
        Self { interfaces: interfaces(python.map(|(tag, _)| tag)), by_hardware, by_python }
    }

    /// How well the tag fits; `None` when it does not.
    pub fn rank(&self, tag: &WheelTag) -> Option<Rank> {
        let mut best = None;
        for (interface, (python, abi)) in self.interfaces.iter().enumerate() {
            let has = |set: &str, member: &str| set.split('.').any(|each| each == member);
            if !has(&tag.python, python) || !has(&tag.abi, abi) {
                continue;
            }
            let platforms = if abi == "none" { &self.by_hardware } else { &self.by_python };
            for (index, platform) in platforms.iter().enumerate() {
                if tag.platforms.contains(platform) {
                    let rank = (index, interface);
                    best = Some(best.map_or(rank, |known: Rank| known.min(rank)));
                }
            }
        }
        best
    }

    /// The best platform of the hardware, for messages.
    pub fn describe(&self) -> &str {
        self.by_hardware.first().map_or("any", String::as_str)
    }
}

fn with_any(mut platforms: Vec<String>) -> Vec<String> {
    platforms.push("any".to_owned());
    platforms
}

/// Python and abi parts in the order of the packaging library, without what our minimum of Python
/// 3 rules out.
fn interfaces(python: Option<PythonTag>) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut add = |python: String, abi: &str| list.push((python, abi.to_owned()));
    if let Some(PythonTag { minor, is_cpython, is_free_threaded }) = python {
        if is_cpython {
            let own = format!("cp3{minor}");
            add(own.clone(), &format!("{own}{}", if is_free_threaded { "t" } else { "" }));
            if !is_free_threaded {
                (2..=minor).rev().for_each(|minor| add(format!("cp3{minor}"), "abi3"));
            }
            add(own, "none");
        }
        add(format!("py3{minor}"), "none");
        add("py3".to_owned(), "none");
        (0..minor).rev().for_each(|minor| add(format!("py3{minor}"), "none"));
    } else {
        add("py3".to_owned(), "none");
    }
    list
}

/// The platform tags that run on a platform, best (newest) first: PEP 600 and its aliases, PEP 656,
/// and macOS' own rules.
fn platforms(platform: &Platform) -> Vec<String> {
    let Platform { os, arch, libc, macos } = *platform;
    let machine = arch.qemu_name();
    match os {
        Os::Windows => vec![format!("win_{}", arch.image_name())],
        Os::Linux => {
            let mut list = Vec::new();
            match libc {
                LibC::Glibc { minor, .. } => {
                    for minor in (5..=minor).rev() {
                        list.push(format!("manylinux_2_{minor}_{machine}"));
                        let alias = match minor {
                            17 => "manylinux2014",
                            12 => "manylinux2010",
                            5 => "manylinux1",
                            _ => continue,
                        };
                        list.push(format!("{alias}_{machine}"));
                    }
                }
                LibC::Musl => {
                    (0..=2).rev().for_each(|minor| {
                        list.push(format!("musllinux_1_{minor}_{machine}"));
                    });
                }
                LibC::Unknown => {}
            }
            list.push(format!("linux_{machine}"));
            list
        }
        Os::Macos => {
            let own = if arch == Arch::Arm64 { "arm64" } else { "x86_64" };
            let (major, minor) = macos;
            let mut list = Vec::new();
            for major in (11..=major).rev() {
                list.extend([own, "universal2"].map(|own| format!("macosx_{major}_0_{own}")));
            }
            if arch == Arch::Amd64 {
                let newest = if major > 10 { 16 } else { minor };
                for minor in (4..=newest).rev() {
                    list.extend([own, "universal2"].map(|own| format!("macosx_10_{minor}_{own}")));
                }
            }
            list
        }
    }
}

/// The platform of the hardware where no interpreter tells more.
pub fn hardware(host: &Host, libc: LibC, macos: (u32, u32)) -> Platform {
    Platform { os: host.os, arch: host.arch, libc, macos }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PY312: PythonTag = PythonTag { minor: 12, is_cpython: true, is_free_threaded: false };

    fn platform(os: Os, arch: Arch) -> Platform {
        Platform { os, arch, libc: LibC::Glibc { major: 2, minor: 36 }, macos: (14, 2) }
    }

    /// The best of some wheels of one release for a host with that hardware and interpreter.
    fn best<'a>(os: Os, hardware: Arch, python: Option<Arch>, wheels: &[&'a str]) -> &'a str {
        let python = python.map(|arch| (PY312, platform(os, arch)));
        let compatible = Compatible::new(platform(os, hardware), python);
        wheels
            .iter()
            .filter_map(|tag| Some((compatible.rank(&tag.parse().unwrap())?, *tag)))
            .min()
            .map_or("none", |(_, tag)| tag)
    }

    const QEMU: [&str; 5] = [
        "py3-none-manylinux_2_17_x86_64",
        "py3-none-manylinux_2_17_aarch64",
        "py3-none-macosx_11_0_arm64",
        "py3-none-win_amd64",
        "py3-none-win_arm64",
    ];

    /// The eight hosts of the installation document. Rosetta and the emulated Python of Windows get
    /// what fits their hardware, which pip cannot do.
    #[test]
    fn each_host_gets_what_fits_its_hardware() {
        use Arch::{Amd64, Arm64};
        use Os::{Linux, Macos, Windows};
        for (os, hardware, python, expect) in [
            (Linux, Amd64, Amd64, "py3-none-manylinux_2_17_x86_64"),
            (Linux, Arm64, Arm64, "py3-none-manylinux_2_17_aarch64"),
            (Macos, Amd64, Amd64, "none"),
            (Macos, Arm64, Arm64, "py3-none-macosx_11_0_arm64"),
            (Macos, Arm64, Amd64, "py3-none-macosx_11_0_arm64"),
            (Windows, Amd64, Amd64, "py3-none-win_amd64"),
            (Windows, Arm64, Amd64, "py3-none-win_arm64"),
            (Windows, Arm64, Arm64, "py3-none-win_arm64"),
        ] {
            let row = format!("{os} {hardware} {python}");
            assert_eq!(best(os, hardware, Some(python), &QEMU), expect, "{row}");
            assert_eq!(best(os, hardware, None, &QEMU), expect, "{row} without Python");
        }
        // The fat wheel is what an emulated Python has where there is no other.
        assert_eq!(best(Windows, Arm64, Some(Amd64), &QEMU[..4]), "py3-none-win_amd64");
        assert_eq!(best(Windows, Amd64, Some(Amd64), &QEMU[4..]), "none");
    }

    #[test]
    fn extension_modules_follow_the_interpreter() {
        let wheels = ["cp310-abi3-win_arm64", "cp310-abi3-win_amd64", "cp313-abi3-win_amd64"];
        let (os, arm, amd) = (Os::Windows, Arch::Arm64, Arch::Amd64);
        assert_eq!(best(os, arm, Some(amd), &wheels), "cp310-abi3-win_amd64");
        assert_eq!(best(os, arm, Some(arm), &wheels), "cp310-abi3-win_arm64");
        assert_eq!(best(os, arm, None, &wheels), "none");
    }

    #[test]
    fn the_newest_that_runs_is_the_best() {
        let linux = |wheels: &[&'static str]| best(Os::Linux, Arch::Amd64, None, wheels);
        assert_eq!(
            linux(&["py3-none-manylinux_2_17_x86_64", "py3-none-manylinux_2_34_x86_64"]),
            "py3-none-manylinux_2_34_x86_64"
        );
        assert_eq!(linux(&["py3-none-manylinux_2_39_x86_64"]), "none");
        assert_eq!(linux(&["py3-none-musllinux_1_2_x86_64"]), "none");
        assert_ne!(linux(&["py3-none-manylinux2014_x86_64"]), "none");
        assert_ne!(linux(&["py2.py3-none-linux_x86_64"]), "none");
        assert_ne!(linux(&["py3-none-any"]), "none");
        assert_eq!(linux(&["py2-none-any"]), "none");
        let mac = |wheels: &[&'static str]| best(Os::Macos, Arch::Arm64, None, wheels);
        assert_eq!(mac(&["py3-none-macosx_15_0_arm64"]), "none");
        assert_ne!(mac(&["py3-none-macosx_12_0_universal2"]), "none");
        let intel = best(Os::Macos, Arch::Amd64, None, &["py3-none-macosx_10_13_x86_64"]);
        assert_ne!(intel, "none");
    }
}
