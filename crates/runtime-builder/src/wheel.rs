//! The runtime's wheel: builds the native module and the command, and packs them. An entry of the build cache.
//!
//! Who wants a first look or runs the tests gets what the `dev` profile makes, which is the profile of
//! the tasks themselves: nearly all of it is compiled already. What ships is built for release.
//!
//! The platform tag is what the audit of both binaries proves, never a claim. The wheel says what
//! is linked into them: every crate with its licence, its texts and a bill of materials.

use crate::{
    compile::{self, CRATES, Compiler, ZIG},
    compiled_paths, crates,
};
use anyhow::{Context as _, Result};
use cache_key::{
    Key,
    code::{self, Reading},
};
use duct::cmd;
use fs_err as fs;
use host_platform::Os;
use package_layout::known;
use qemu_builder::Target;
use std::path::{Path, PathBuf};
use wheel_retag::{Metadata, Runner, Source, WheelFile, WheelSpec, WheelTag};
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
};
use xtask_host::{
    preflight::{Needs, Room},
    setup,
};

/// The distribution: the import name is `quicksand`, which on PyPI belongs to an unrelated tool.
const NAME: &str = "quicksand-runtime";

/// The crates that audit and pack it.
const PACKERS: &[&str] = &["binary-bundler", "wheel-retag"];

/// Extras, and thereby the distributions that belong to the same release: QEMU's and those of published images.
pub fn extras() -> Vec<&'static str> {
    ["qemu", "qemu-cross"].into_iter().chain(known::published()).collect()
}

/// What the cache calls the folder that it is compiled in.
const TARGET: &str = "runtime";

/// Seconds of one processor for a first build for release; later ones compile what changed.
const SECONDS: f64 = 400.0;

/// The most that a build writes.
const ROOM: Room = Room { cache: 700, target: 0, temporary: 100 };

/// The same beside the tasks, which are compiled already.
const DEV_SECONDS: f64 = 100.0;

/// The most that this writes.
const DEV_ROOM: Room = Room { cache: 20, target: 700, temporary: 100 };

/// The build number of a wheel that is not for release; PEP 427 has it start with a digit.
const DEV_BUILD: &str = "0dev";

/// Raise it when the code here changes what a wheel holds.
const RECIPE: &str = "3";

/// How the runtime is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quickly, together with the tasks; the wheel names paths of this machine.
    Dev,
    /// To ship.
    Release,
}

/// What was built.
struct Binaries {
    module: PathBuf,
    command: PathBuf,
}

/// Whether the wheel for a machine is made on this host.
///
/// # Errors
/// It is not, or the release has no machine like this host.
pub fn check_target(target: Target) -> Result<()> {
    let host = this_host()?.runner();
    if machines(host).contains(&target.runner()) || target.is_host() {
        return Ok(());
    }
    Err(hinted(
        format!("The runtime for {target} is not built on {host}"),
        "Linux on x86_64 builds for linux-x64 and linux-arm64, every other machine for itself",
    ))
}

/// The machines of the release that a runner builds the wheel for.
pub fn machines(runner: Runner) -> Vec<Runner> {
    match runner {
        Runner::LinuxX64 => vec![Runner::LinuxX64, Runner::LinuxArm64],
        Runner::LinuxArm64 => vec![],
        Runner::MacosArm64 | Runner::WindowsX64 | Runner::WindowsArm64 => vec![runner],
    }
}

/// The machine of the release that this host is.
///
/// # Errors
/// The release has none like it.
pub fn this_host() -> Result<Target> {
    Target::for_host().context("The release has no machine like this host")
}

/// Builds the wheel of this host's machine, as [`build_for`] does.
///
/// # Errors
/// As there.
pub fn build(context: &Context, profile: Profile) -> Result<PathBuf> {
    build_for(context, profile, this_host()?)
}

/// Puts the wheel `dist/quicksand_runtime-VERSION-….whl` of these sources there, made unless the cache
/// has it. One for release is as good for a first look.
///
/// # Errors
/// It cannot be compiled, or its binaries are not what they have to be.
pub fn build_for(context: &Context, profile: Profile, target: Target) -> Result<PathBuf> {
    let compiler = Compiler::for_target(context, target)?;
    let key_of = |profile| key(context, profile, target, &compiler);
    let released = key_of(Profile::Release)?;
    let key = match profile {
        Profile::Dev if context.cache.find(KIND, &released).is_none() => key_of(profile)?,
        _ => released,
    };
    let make = |folder: &Path| make(context, profile, target, &compiler, folder);
    let entry = context.cache.entry(KIND, &key, make)?;
    let made = fs::read_dir(&entry)?.next().context("The wheel's entry is empty")??;
    fs::create_dir_all(context.dist())?;
    let wheel = context.dist().join(made.file_name());
    host_platform::copy_whole(&made.path(), &wheel)?;
    qemu_builder::remove_other_versions(&context.dist(), &made.file_name().to_string_lossy())?;
    Ok(wheel)
}

/// The kind of the cache's entries.
const KIND: &str = "runtime-wheel";

/// The hash of all that a wheel is made from.
fn key(context: &Context, profile: Profile, target: Target, compiler: &Compiler) -> Result<Key> {
    let root = &context.root;
    let mut key = Key::new("runtime-wheel");
    if !target.is_host() {
        key.add("target", target.to_string().as_bytes());
    }
    key.add("recipe", RECIPE.as_bytes());
    key.add("profile", format!("{profile:?}").as_bytes());
    key.add("linker", ZIG.join(" ").as_bytes());
    key.add("rustc", compiler.version(context)?.as_bytes());
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        let value = std::env::var_os(variable).unwrap_or_default();
        key.add(variable, value.as_encoded_bytes());
    }
    for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        key.add_file(&root.join(file))?;
    }
    key.add_tree(&root.join("python/quicksand"))?;
    key.add("code", code::digest(root, CRATES, Reading::Exact)?.as_bytes());
    key.add("packing", code::digest(root, PACKERS, Reading::Meaning)?.as_bytes());
    Ok(key)
}

/// Builds both binaries and packs them into a wheel in `folder`.
fn make(
    context: &Context,
    profile: Profile,
    target: Target,
    compiler: &Compiler,
    folder: &Path,
) -> Result<()> {
    let os = target.os();
    let title = match target.is_host() {
        true => "Build the runtime".to_owned(),
        false => format!("Build the runtime for {target}"),
    };
    let stripped = tempfile::tempdir()?;
    let binaries = context.ui.step(&title, |step| match profile {
        Profile::Release => {
            let place = context.cache.target(TARGET, &context.root)?;
            step.run(compiler.command(context, target, &place)?)?;
            let made = binaries(&release_folder(&place, target), os);
            compiled_paths::check(&made.module, &[&place])?;
            compiled_paths::check(&made.command, &[&place])?;
            Ok(made)
        }
        Profile::Dev => {
            step.run(compile_dev(context))?;
            let made = binaries(&target_folder(context)?.join("debug"), os);
            // What only a debugger reads is most of them.
            strip(step, made, stripped.path(), os)
        }
    })?;
    context.ui.step("Pack the runtime's wheel", |step| {
        step.say("auditing the binaries");
        let platforms = platforms(&binaries, target)?;
        binary_bundler::check_claim(&target.as_host(), &platforms)?;
        step.say("collecting licences");
        let rustc = compiler.version(context)?;
        let triple = match target.is_host() {
            true => crates::said(&rustc, "host: ")?,
            false => compile::triple(target).to_owned(),
        };
        let mut linked = crates::linked(context, CRATES, &rustc, &triple)?;
        linked.add_novnc(&context.root)?;
        step.say("writing the wheel");
        let mut spec = spec(context, &binaries, os, platforms, &linked)?;
        spec.build = (profile == Profile::Dev).then(|| DEV_BUILD.to_owned());
        wheel_retag::write(&spec, folder)?;
        Ok(())
    })
}

/// What a build needs.
pub fn needs(context: &Context, profile: Profile) -> Needs {
    let needs = Needs { compiles: true, ..Needs::default() };
    let Ok(host) = this_host() else { return needs };
    let is_cached = |profile| {
        let key = key(context, profile, host, &Compiler::Toolchain);
        key.is_ok_and(|key| context.cache.find(KIND, &key).is_some())
    };
    if is_cached(Profile::Release) || is_cached(profile) {
        return needs;
    }
    match profile {
        Profile::Release => {
            let tools = match host_platform::host().os {
                Os::Linux => setup::needs_of_python_tools(context, ZIG),
                Os::Macos | Os::Windows => Needs::default(),
            };
            needs.and(tools).build("the runtime for release", SECONDS, ROOM)
        }
        Profile::Dev => needs.build("the runtime", DEV_SECONDS, DEV_ROOM),
    }
}

/// Where cargo puts what is for release.
fn release_folder(place: &Path, target: Target) -> PathBuf {
    match target.os() {
        Os::Linux => place.join(compile::triple(target)).join("release"),
        Os::Macos | Os::Windows => place.join("release"),
    }
}

/// The compiler's call for a first look. The tasks are among its packages, although they are compiled
/// already: what they and the runtime depend on gets the features of both, so that it is compiled once.
fn compile_dev(context: &Context) -> duct::Expression {
    let mut args = vec!["build", "--locked", "--lib", "--bin", "quicksand", "--package", "xtask"];
    for name in CRATES {
        args.extend(["--package", name]);
    }
    if context.offline {
        args.push("--offline");
    }
    cmd("cargo", args).dir(&context.root)
}

/// Where cargo puts what it makes for this workspace.
fn target_folder(context: &Context) -> Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(context.root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("Failed to read cargo's metadata")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Copies of the binaries in `folder` without what only a debugger reads, where there is a tool for it:
/// Rust links with a compiler's tools, and `strip` is one of them on Linux.
fn strip(step: &Step, made: Binaries, folder: &Path, os: Os) -> Result<Binaries> {
    if os != Os::Linux {
        return Ok(made);
    }
    let stripped = binaries(folder, os);
    for (from, to) in [(&made.module, &stripped.module), (&made.command, &stripped.command)] {
        step.run(cmd!("strip", "--strip-all", "-o", to, from))?;
    }
    Ok(stripped)
}

fn binaries(folder: &Path, os: Os) -> Binaries {
    let (module, command) = match os {
        Os::Linux => ("lib_native.so", "quicksand"),
        Os::Macos => ("lib_native.dylib", "quicksand"),
        Os::Windows => ("_native.dll", "quicksand.exe"),
    };
    Binaries { module: folder.join(module), command: folder.join(command) }
}

fn platforms(binaries: &Binaries, target: Target) -> Result<Vec<String>> {
    let files = [&binaries.module, &binaries.command];
    if target.os() == Os::Linux {
        let floors = files.into_iter().map(|path| binary_bundler::audit_elf(path));
        let floors = floors.collect::<Result<Vec<_>, _>>()?;
        return Ok(binary_bundler::wheel_platforms(&floors, None)?);
    }
    let files = files.map(PathBuf::clone);
    Ok(vec![wheel_audit::one_tag(NAME, &files)?])
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
    let subject = bill_of_materials::Subject {
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
            extras: extras()
                .into_iter()
                .map(|extra| (extra.to_owned(), vec![format!("quicksand-{extra}=={version}")]))
                .collect(),
            description: Some(fs::read_to_string(root.join("README.md"))?),
            classifiers: vec!["Typing :: Typed".to_owned()],
            ..Metadata::default()
        },
        licenses: vec![
            ("LICENSE-MIT".to_owned(), fs::read(root.join("LICENSE-MIT"))?),
            ("LICENSE-APACHE".to_owned(), fs::read(root.join("LICENSE-APACHE"))?),
            ("THIRD-PARTY.txt".to_owned(), linked.texts("quicksand")?.into_bytes()),
        ],
        sboms: vec![(
            "quicksand-runtime.cdx.json".to_owned(),
            bill_of_materials::bill(&subject, &linked.components).into_bytes(),
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
