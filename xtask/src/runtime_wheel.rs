//! Builds the native module and the command, and packs the runtime's wheel.
//!
//! The platform tag is what the audit of both binaries proves, never a claim. The wheel says what
//! is linked into them: every crate with its licence, its texts and a bill of materials.

mod crates;

use crate::{
    compiled_paths,
    context::Context,
    preflight::{Needs, Room},
};
use anyhow::Result;
use duct::cmd;
use fs_err as fs;
use host_platform::Os;
use std::path::{Path, PathBuf};
use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag};

/// The distribution: the import name is `quicksand`, which on PyPI belongs to an unrelated tool.
const NAME: &str = "quicksand-runtime";

/// The crates that end up in the wheel.
const CRATES: &[&str] = &["quicksand-python", "quicksand-cli"];

/// Extras, and thereby the distributions that belong to the same release.
const EXTRAS: &[&str] = &["qemu", "qemu-cross", "debian", "minimal"];

/// The folder of the cache that it is compiled in.
const TARGET: &str = "target-runtime";

/// Seconds of one processor for a first build; later ones compile what changed.
const SECONDS: f64 = 400.0;

/// The most that a build writes.
const ROOM: Room = Room { cache: 700, target: 0, temporary: 100 };

/// What was built.
struct Binaries {
    module: PathBuf,
    command: PathBuf,
}

/// Builds both binaries in release mode and writes `dist/quicksand_runtime-VERSION-….whl`.
pub fn build(context: &Context) -> Result<PathBuf> {
    let os = host_platform::host().os;
    let binaries = context.ui.step("Build the runtime", |step| {
        let target = context.cache.folder(TARGET)?;
        step.run(compile(context, &target)?)?;
        let made = binaries(&target.join("release"), os);
        compiled_paths::check(&made.module, &[&target])?;
        compiled_paths::check(&made.command, &[&target])?;
        Ok(made)
    })?;
    context.ui.step("Pack the runtime's wheel", |step| {
        step.say("auditing the binaries");
        let platforms = platforms(&binaries, os)?;
        step.say("collecting licences");
        let linked = crates::linked(context, CRATES)?;
        step.say("writing the wheel");
        let spec = spec(context, &binaries, os, platforms, &linked)?;
        fs::create_dir_all(context.dist())?;
        let wheel = wheel_retag::write(&spec, &context.dist())?;
        remove_others(&context.dist(), &wheel)?;
        Ok(wheel)
    })
}

/// What a build needs.
pub fn needs(context: &Context) -> Needs {
    let needs = Needs { compiles: true, ..Needs::default() };
    let built = context.cache.root().join(TARGET).join("release");
    match binaries(&built, host_platform::host().os).command.is_file() {
        true => needs,
        false => needs.build("the runtime", SECONDS, ROOM),
    }
}

/// The compiler's call.
fn compile(context: &Context, target: &Path) -> Result<duct::Expression> {
    let mut args = vec!["build", "--release", "--locked"];
    for name in CRATES {
        args.extend(["--package", name]);
    }
    if context.offline {
        args.push("--offline");
    }
    let cargo = cmd("cargo", args)
        .dir(&context.root)
        .env("CARGO_TARGET_DIR", target)
        // The stable interface needs no interpreter to build against.
        .env("PYO3_NO_PYTHON", "1");
    compiled_paths::hide(cargo, &[], None)
}

fn binaries(folder: &Path, os: Os) -> Binaries {
    let (module, command) = match os {
        Os::Linux => ("lib_native.so", "quicksand"),
        Os::Macos => ("lib_native.dylib", "quicksand"),
        Os::Windows => ("_native.dll", "quicksand.exe"),
    };
    Binaries { module: folder.join(module), command: folder.join(command) }
}

fn platforms(binaries: &Binaries, os: Os) -> Result<Vec<String>> {
    let files = [&binaries.module, &binaries.command];
    if os == Os::Linux {
        let floors = files.into_iter().map(|path| binary_bundler::audit_elf(path));
        return Ok(binary_bundler::wheel_platforms(&floors.collect::<Result<Vec<_>, _>>()?, None)?);
    }
    let files = files.map(PathBuf::clone);
    Ok(vec![crate::audit::one_tag(NAME, &files)?])
}

fn spec(
    context: &Context,
    binaries: &Binaries,
    os: Os,
    platforms: Vec<String>,
    linked: &crates::Linked,
) -> Result<WheelSpec> {
    let version = env!("CARGO_PKG_VERSION");
    let root = &context.root;
    let (module, command) = match os {
        Os::Windows => ("_native.pyd", "quicksand.exe"),
        Os::Linux | Os::Macos => ("_native.abi3.so", "quicksand"),
    };
    let license_expression = linked.license_expression()?;
    let subject = binary_bundler::Subject {
        name: NAME.to_owned(),
        version: version.to_owned(),
        license: license_expression.clone(),
    };
    let mut spec = WheelSpec {
        name: NAME.to_owned(),
        version: version.to_owned(),
        tag: WheelTag::new("cp310", "abi3", platforms),
        metadata: Metadata {
            summary: "Virtual machines for untrusted work".to_owned(),
            license_expression,
            requires_python: ">=3.10".to_owned(),
            extras: EXTRAS
                .iter()
                .map(|extra| ((*extra).to_owned(), vec![format!("quicksand-{extra}=={version}")]))
                .collect(),
            description: Some(fs::read_to_string(root.join("README.md"))?),
            classifiers: vec!["Typing :: Typed".to_owned()],
            ..Metadata::default()
        },
        licenses: vec![
            ("LICENSE-MIT".to_owned(), fs::read(root.join("LICENSE-MIT"))?),
            ("LICENSE-APACHE".to_owned(), fs::read(root.join("LICENSE-APACHE"))?),
            ("THIRD-PARTY.txt".to_owned(), linked.texts()?.into_bytes()),
        ],
        sboms: vec![(
            "quicksand-runtime.cdx.json".to_owned(),
            binary_bundler::cyclonedx(&subject, &linked.components).into_bytes(),
        )],
        ..WheelSpec::default()
    };
    spec.files = package_files(&root.join("python/quicksand"))?;
    let module =
        WheelFile::deflated(format!("quicksand/{module}"), Source::Path(binaries.module.clone()));
    let command = WheelFile::deflated(
        format!("{}/scripts/{command}", spec.data_dir()?),
        Source::Path(binaries.command.clone()),
    );
    spec.files.extend([module.executable(), command.executable()]);
    Ok(spec)
}

/// The pure Python part: modules, stubs and the marker of PEP 561.
fn package_files(package: &Path) -> Result<Vec<WheelFile>> {
    let mut files = vec![];
    for entry in walkdir::WalkDir::new(package).sort_by_file_name() {
        let entry = entry?;
        let name = entry.path().strip_prefix(package)?.to_string_lossy().replace('\\', "/");
        let is_ours = name.ends_with(".py") || name.ends_with(".pyi") || name == "py.typed";
        if entry.file_type().is_file() && is_ours {
            let source = Source::Path(entry.path().to_path_buf());
            files.push(WheelFile::deflated(format!("quicksand/{name}"), source));
        }
    }
    Ok(files)
}

/// Removes runtime wheels of other tags, so that pip cannot choose an older one.
fn remove_others(dist: &Path, wheel: &Path) -> Result<()> {
    for entry in fs::read_dir(dist)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("quicksand_runtime-") && name.ends_with(".whl") && path != wheel {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
