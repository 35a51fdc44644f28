//! Builds the native module and the command, and packs the runtime's wheel: an entry of the build cache.
//!
//! Who wants a first look or runs the tests gets what the `dev` profile makes, which is the profile of
//! the tasks themselves: nearly all of it is compiled already. What ships is built for release.
//!
//! The platform tag is what the audit of both binaries proves, never a claim. The wheel says what
//! is linked into them: every crate with its licence, its texts and a bill of materials.

mod crates;

use crate::{
    cache::Key,
    compiled_paths,
    context::Context,
    preflight::{Needs, Room},
    setup,
    ui::Step,
};
use anyhow::{Context as _, Result};
use cache_key::code::{self, Reading};
use duct::cmd;
use fs_err as fs;
use host_platform::Os;
use std::path::{Path, PathBuf};
use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag};

/// The distribution: the import name is `quicksand`, which on PyPI belongs to an unrelated tool.
const NAME: &str = "quicksand-runtime";

/// The crates that end up in the wheel.
const CRATES: &[&str] = &["quicksand-python", "quicksand-cli"];

/// The crates that audit and pack it.
const PACKERS: &[&str] = &["binary-bundler", "wheel-retag"];

/// Extras, and thereby the distributions that belong to the same release.
const EXTRAS: &[&str] = &["qemu", "qemu-cross", "debian", "minimal"];

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
const RECIPE: &str = "2";

/// The oldest glibc that Rust's own standard library runs with, and every distribution of today has. zig's
/// linker knows the libraries of each glibc; the host's would bind symbols to the host's.
const GLIBC: &str = "2.17";

/// The linker, and the cargo command that knows how to call it.
const ZIG: &[&str] = &["cargo-zigbuild==0.24.0", "ziglang==0.17.1"];

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

/// Puts the wheel `dist/quicksand_runtime-VERSION-….whl` of these sources there, made unless the cache
/// has it. One for release is as good for a first look.
pub fn build(context: &Context, profile: Profile) -> Result<PathBuf> {
    let released = key(context, Profile::Release)?;
    let key = match profile {
        Profile::Dev if context.cache.find(KIND, &released).is_none() => key(context, profile)?,
        _ => released,
    };
    let entry = context.cache.entry(KIND, &key, |folder| make(context, profile, folder))?;
    let made = fs::read_dir(&entry)?.next().context("The wheel's entry is empty")??;
    fs::create_dir_all(context.dist())?;
    let wheel = context.dist().join(made.file_name());
    let beside = tempfile::NamedTempFile::new_in(context.dist())?;
    fs::copy(made.path(), beside.path())?;
    remove_others(&context.dist(), &wheel)?;
    beside.persist(&wheel)?;
    Ok(wheel)
}

/// The kind of the cache's entries.
const KIND: &str = "runtime-wheel";

/// The hash of all that a wheel is made from.
fn key(context: &Context, profile: Profile) -> Result<Key> {
    let root = &context.root;
    let mut key = Key::new("runtime-wheel");
    key.add("recipe", RECIPE.as_bytes());
    key.add("profile", format!("{profile:?}").as_bytes());
    key.add("linker", ZIG.join(" ").as_bytes());
    key.add("rustc", cmd!("rustc", "--version", "--verbose").dir(root).read()?.as_bytes());
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
fn make(context: &Context, profile: Profile, folder: &Path) -> Result<()> {
    let os = host_platform::host().os;
    let stripped = tempfile::tempdir()?;
    let binaries = context.ui.step("Build the runtime", |step| match profile {
        Profile::Release => {
            let target = context.cache.target(TARGET, &context.root)?;
            step.run(compile_release(context, &target)?)?;
            let made = binaries(&release_folder(&target, os), os);
            compiled_paths::check(&made.module, &[&target])?;
            compiled_paths::check(&made.command, &[&target])?;
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
        let platforms = platforms(&binaries, os)?;
        step.say("collecting licences");
        let linked = crates::linked(context, CRATES)?;
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
    let is_cached =
        |profile| key(context, profile).is_ok_and(|key| context.cache.find(KIND, &key).is_some());
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

/// The compiler's call for what ships.
fn compile_release(context: &Context, target: &Path) -> Result<duct::Expression> {
    let os = host_platform::host().os;
    let mut args = vec![if os == Os::Linux { "zigbuild" } else { "build" }.to_owned()];
    args.extend(["--release", "--locked"].map(str::to_owned));
    if os == Os::Linux {
        args.extend(["--target".to_owned(), format!("{}.{GLIBC}", linux_target())]);
    }
    for name in CRATES {
        args.extend(["--package", name].map(str::to_owned));
    }
    if context.offline {
        args.push("--offline".to_owned());
    }
    let cargo = match os {
        Os::Linux => with_zig(context, &args)?,
        Os::Macos => cmd("cargo", args).env("MACOSX_DEPLOYMENT_TARGET", "11.0"),
        Os::Windows => cmd("cargo", args),
    };
    let cargo = cargo
        .dir(&context.root)
        .env("CARGO_TARGET_DIR", target)
        // The stable interface needs no interpreter to build against.
        .env("PYO3_NO_PYTHON", "1");
    // A clean Windows has no C runtime of the compiler's, and a program does not look into Python's folder.
    let flags: &[&str] = match os {
        Os::Windows => &["-C", "target-feature=+crt-static"],
        Os::Linux | Os::Macos => &[],
    };
    compiled_paths::hide(cargo, flags, None)
}

/// cargo with zig as linker and C compiler.
fn with_zig(context: &Context, args: &[String]) -> Result<duct::Expression> {
    let bin = setup::python_tools(context, ZIG)?;
    let ask = "import ziglang; print(ziglang.__path__[0] + '/zig')";
    let zig = cmd!(bin.join("python"), "-c", ask).read()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin.clone()].into_iter().chain(std::env::split_paths(&path)))?;
    Ok(cmd(bin.join("cargo-zigbuild"), args).env("PATH", path).env("CARGO_ZIGBUILD_ZIG_PATH", zig))
}

/// Rust's name of this host, on Linux.
fn linux_target() -> String {
    format!("{}-unknown-linux-gnu", host_platform::native_arch().qemu_name())
}

/// Where cargo puts what is for release.
fn release_folder(target: &Path, os: Os) -> PathBuf {
    match os {
        Os::Linux => target.join(linux_target()).join("release"),
        Os::Macos | Os::Windows => target.join("release"),
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
