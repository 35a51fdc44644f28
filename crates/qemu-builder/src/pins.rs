//! `qemu/pins.toml`: which source packages the wheels are built from, by path and hash; and
//! `qemu/licences.toml`. The pins of the libraries have the same form.

use super::target::Target;
use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};
use xtask_base::ui::hinted;

/// The licences of what the linkers of other targets add.
pub const CROSS_FILE: &str = "cross.toml";

/// The checked-in pins; each list is in the order in which its entries are tried.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// QEMU's source.
    pub qemu: Vec<Pin>,
    /// The package with the PC firmware.
    pub seabios: Vec<Pin>,
}

/// One version of one source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The distribution's version.
    pub version: String,
    /// The version without the distribution's part, where it is needed.
    pub upstream: Option<String>,
    /// The file's path below the mirror.
    pub path: String,
    pub sha256: Sha256Hex,
    /// Our changes: files of `qemu/patches`, applied in order.
    #[serde(default)]
    pub patches: Vec<String>,
    /// More of them for some targets, by a system's name or a target's; [`Pin::for_target`] moves them to
    /// the others, so that what one target needs changes no other.
    #[serde(default, skip_serializing, rename = "patches-for")]
    pub patches_for: BTreeMap<String, Vec<String>>,
    /// The distribution's changes, whose `debian/patches/series` is applied first.
    pub debian: Option<File>,
    /// A day at whose end Debian's archive had these files: what the mirrors have dropped is looked for there.
    /// Where they come from makes nothing else of them, so that it is in no key.
    #[serde(skip_serializing)]
    pub day: Option<Day>,
}

/// A day, as in `2026-11-29`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(String);

impl Day {
    /// The day as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let number = |part: &str, length: usize| {
            let is_plain = part.len() == length && part.bytes().all(|it| it.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| is_plain)
        };
        let [year, month, day] = parts[..] else {
            return Err(format!("`{text}` is no day such as 2026-11-29"));
        };
        match (number(year, 4), number(month, 2), number(day, 2)) {
            (Some(_), Some(1..=12), Some(1..=31)) => Ok(Self(text)),
            _ => Err(format!("`{text}` is no day such as 2026-11-29")),
        }
    }
}

impl Pin {
    /// The same with the patches of one target.
    pub fn for_target(mut self, target: Target) -> Self {
        let runner = target.runner();
        let more = std::mem::take(&mut self.patches_for);
        for name in [target.system(), runner.name()] {
            self.patches.extend(more.get(name).into_iter().flatten().cloned());
        }
        self
    }
}

/// A file below the mirror.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub path: String,
    pub sha256: Sha256Hex,
}

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Sha256Hex(String);

impl Sha256Hex {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Sha256Hex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is no SHA-256: 64 hexadecimal digits are expected"))
        }
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Pins {
    /// The same with the patches of one target.
    pub fn for_target(self, target: Target) -> Self {
        let for_target =
            |pins: Vec<Pin>| pins.into_iter().map(|pin| pin.for_target(target)).collect();
        Self { qemu: for_target(self.qemu), seabios: for_target(self.seabios) }
    }

    /// Reads the pins of the workspace.
    pub fn read(qemu_folder: &Path) -> Result<Self> {
        let path = qemu_folder.join("pins.toml");
        parse(&fs::read_to_string(&path)?).map_err(|error| {
            hinted(
                format!("Failed to read `{}`: {error}", path.display()),
                "each of qemu and seabios is a list of version, path, sha256, and optionally day, patches \
                 and debian",
            )
        })
    }
}

fn parse(text: &str) -> Result<Pins, String> {
    let pins: Pins = toml::from_str(text).map_err(|error| error.to_string())?;
    check("qemu", &pins.qemu)?;
    check("seabios", &pins.seabios)?;
    Ok(pins)
}

/// Refuses a list of versions that is empty or leaves the mirror.
pub fn check(name: &str, list: &[Pin]) -> Result<(), String> {
    if list.is_empty() {
        return Err(format!("`{name}` has no entry"));
    }
    for pin in list {
        let is_known = |name: &&String| {
            matches!(name.as_str(), "linux" | "darwin" | "windows")
                || name.parse::<wheel_retag::Runner>().is_ok()
        };
        if let Some(odd) = pin.patches_for.keys().find(|name| !is_known(name)) {
            return Err(format!("`patches-for` knows no target `{odd}`"));
        }
        let paths = [Some(&pin.path), pin.debian.as_ref().map(|file| &file.path)];
        // A path climbs out of the mirror only by mistake or by malice.
        if let Some(odd) = paths
            .into_iter()
            .flatten()
            .find(|path| path.starts_with('/') || path.split('/').any(|part| part == ".."))
        {
            return Err(format!("`{odd}` is not a path below the mirror"));
        }
    }
    Ok(())
}

/// `qemu/licences.toml`: the licence of everything that can end up in a wheel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licences {
    /// What is built here or bundled, by name.
    pub bundled: BTreeMap<String, String>,
    /// The host's source packages whose files the linker adds by itself, by name or `name*`.
    pub toolchain: BTreeMap<String, String>,
    /// The source packages of what an installed QEMU needs, likewise.
    pub installed: BTreeMap<String, String>,
}

/// `qemu/cross.toml`: the same of what other targets' linkers add, apart, so that it changes nothing of
/// what is built for this host.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cross {
    toolchain: BTreeMap<String, String>,
}

impl Licences {
    /// Reads the tables of the workspace.
    pub fn read(qemu_folder: &Path) -> Result<Self> {
        let mut licences: Self = read(
            &qemu_folder.join("licences.toml"),
            "the tables are `bundled`, `toolchain` and `installed`, each from name to SPDX expression",
        )?;
        let path = qemu_folder.join(CROSS_FILE);
        let cross: Cross = read(&path, "the table is `toolchain`, from name to SPDX expression")?;
        licences.toolchain.extend(cross.toolchain);
        Ok(licences)
    }

    /// The licence of something bundled.
    pub fn for_bundled(&self, name: &str) -> Result<String> {
        self.bundled.get(name).cloned().ok_or_else(|| {
            hinted(
                format!("The licence of `{name}` is not known, and it is in the bundle"),
                "read its copyright file and add it to [bundled] of qemu/licences.toml",
            )
        })
    }

    /// The licence of a source package of the compiler or the C library; none of any other.
    pub fn for_toolchain(&self, source: &str) -> Option<String> {
        find(&self.toolchain, source)
    }

    /// The licence of a source package, when the tables have it.
    pub fn known(&self, source: &str) -> Option<String> {
        find(&self.installed, source).or_else(|| self.for_toolchain(source))
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, hint: &str) -> Result<T> {
    toml::from_str(&fs::read_to_string(path)?)
        .map_err(|error| hinted(format!("Failed to read `{}`: {error}", path.display()), hint))
}

fn find(table: &BTreeMap<String, String>, source: &str) -> Option<String> {
    let by_start = || {
        let fits = |(name, _): &(&String, &String)| {
            name.strip_suffix('*').is_some_and(|start| source.starts_with(start))
        };
        table.iter().find(fits).map(|(_, licence)| licence)
    };
    table.get(source).or_else(by_start).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::qemu_folder;

    fn entry(extra: &str) -> String {
        let hash = "ab".repeat(32);
        let pin = |name: &str, extra: &str| {
            format!("[[{name}]]\nversion = '1'\npath = 'pool/x'\nsha256 = '{hash}'\n{extra}\n")
        };
        pin("qemu", extra) + &pin("seabios", "")
    }

    #[test]
    fn the_checked_in_files_are_read() {
        let pins = Pins::read(&qemu_folder()).unwrap();
        let named = |pin: &Pin| {
            let more = pin.patches_for.values().flatten();
            pin.patches.iter().chain(more).cloned().collect::<Vec<_>>()
        };
        assert!(pins.qemu.iter().chain(&pins.seabios).all(|pin| pin.day.is_some()));
        for patch in pins.qemu.iter().flat_map(named) {
            assert!(qemu_folder().join("patches").join(&patch).is_file(), "{patch}");
        }
        let licences = Licences::read(&qemu_folder()).unwrap();
        for name in ["qemu", "qboot", "seabios"] {
            licences.for_bundled(name).unwrap();
        }
        assert_eq!(licences.for_toolchain("gcc-12"), licences.for_toolchain("gcc-14"));
        assert!(licences.for_toolchain("gcc-14").is_some());
        for name in ["mingw-w64", "ziglang"] {
            spdx::Expression::parse(&licences.for_toolchain(name).unwrap()).unwrap();
        }
        // What a host's packages hold never gets into a QEMU of ours.
        assert_eq!(licences.for_toolchain("glib2.0"), None);
        assert!(licences.known("glib2.0").is_some() && licences.known("glibc").is_some());
        let error = licences.for_bundled("mystery").unwrap_err().to_string();
        assert_eq!(error, "The licence of `mystery` is not known, and it is in the bundle");
    }

    #[test]
    fn what_one_target_needs_changes_no_other() {
        let plain = parse(&entry("day = '2026-11-29'\npatches = ['a.patch']")).unwrap();
        let more = "patches = ['a.patch']\npatches-for.windows = ['w.patch']\n\
                    patches-for.windows-arm64 = ['z.patch']";
        let with = || parse(&entry(more)).unwrap();
        let of = |runner| with().for_target(Target::new(runner)).qemu.remove(0);
        use wheel_retag::Runner;
        assert_eq!(of(Runner::WindowsArm64).patches, ["a.patch", "w.patch", "z.patch"]);
        assert_eq!(of(Runner::WindowsX64).patches, ["a.patch", "w.patch"]);
        // Nor its key: the pins are part of it.
        let text = |pin: &Pin| serde_json::to_string(pin).unwrap();
        // Nor does the day at which the archive had it.
        assert_eq!(text(&of(Runner::LinuxX64)), text(&plain.qemu[0]));
        assert!(!text(&plain.qemu[0]).contains("day"), "{}", text(&plain.qemu[0]));
    }

    #[test]
    fn a_mistake_in_the_pins_is_named() {
        let check = |text: &str, expect: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        assert!(parse(&entry("patches = ['a.patch']")).is_ok());
        check(&entry("sha265 = 'x'"), "unknown field `sha265`");
        check(&entry("day = '29.11.2026'"), "`29.11.2026` is no day such as 2026-11-29");
        check(&entry("day = '2026-13-01'"), "`2026-13-01` is no day");
        check(&entry("").replacen(&"ab".repeat(32), "abc", 1), "`abc` is no SHA-256");
        check(&entry("").replacen("pool/x", "../x", 1), "`../x` is not a path below the mirror");
        check(&entry("patches-for.solaris = []"), "`patches-for` knows no target `solaris`");
        check("qemu = []\nseabios = []", "`qemu` has no entry");
        check(&(entry("") + "[[seabois]]\n"), "unknown field `seabois`");
    }
}
