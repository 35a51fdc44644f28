//! `cargo xtask build-qemu`: QEMU from pinned source to wheels in `dist/`.
//!
//! `source`, `pins` and `choice` say what to build, `target` for which machine, `toolchain` with what;
//! `fetch` and `download` get it, `libraries` builds what QEMU is linked from and `compile` QEMU itself, `linked` finds out
//! what went in, `bundle` keeps the result in the cache, `pack` and `wheels` make wheels of it. `installed`
//! takes a QEMU that another built instead; `renew` and `renewal` move the pins. The data beside this code is in `qemu/`: pins, libraries,
//! device lists, patches, licences.

mod bundle;
mod choice;
mod compile;
mod configure;
mod download;
mod emulator;
mod fetch;
mod headers;
pub mod installation;
mod installed;
mod libraries;
mod link_log;
pub mod linked;
mod pack;
mod pins;
mod precompiled;
mod renew;
mod renewal;
mod source;
mod source_tree;
mod sysroot;
mod target;
mod toolchain;
mod wheels;
mod zig;

use anyhow::{Context as _, Result, ensure};
use bundle::Sources;
use cache_key::code;
use choice::Choice;
use compile::Workshop;
use emulator::Emulator;
use fetch::PrivateApt;
use fs_err as fs;
use host_platform::{Arch, beside};
use libraries::{Chosen, Libraries};
use pins::{Licences, Pins, Sha256Hex};
use source::Source;
use std::path::{Path, PathBuf};
use sysroot::Sysroot;
use toolchain::{CLibrary, Toolchain};
use wheel_retag::Runner;
use xtask_base::{cache::Key, context::Context, ui::hinted};
use xtask_host::{
    preflight::{Needs, Registry, Room},
    setup,
};

pub use target::{Target, runner};
pub use wheels::remove_other_versions;

/// What compiles QEMU and its libraries. Development files of any library but the C library are not
/// among it: what the host happens to have is not looked for.
const PACKAGES: &[&str] = &["bzip2", "gcc", "libc6-dev", "make", "patch", "pkg-config", "xz-utils"];

/// QEMU 10.2 needs a newer meson than Debian 12 has; pycotap and distlib are what its configure
/// would otherwise download.
const PYTHON_TOOLS: &[&str] =
    &["meson==1.12.1", "ninja==1.13.2", "pycotap==1.3.1", "distlib==0.4.4", "packaging==26.3"];

/// Seconds of one processor for a build with its libraries: the steps of `dist`'s plan.
const SECONDS: f64 = 460.0;

/// The most that a build writes.
const ROOM: Room = Room { cache: 2500, target: 0, temporary: 100 };

/// The crates that decide what a bundle holds besides its pinned sources: this one builds it, the others
/// write what is said of it.
const CODE: &[&str] = &[
    "qemu-builder",
    "bill-of-materials",
    "binary-bundler",
    "checksum",
    "package-layout",
    "wheel-retag",
];

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

    /// Build for this machine of the release; this host unless given. Linux on x86_64 builds for all but
    /// macOS.
    #[arg(long, value_parser = runner, conflicts_with = "from")]
    target: Option<Runner>,

    /// Print how it is built, the libraries and QEMU's configuration, and build nothing.
    #[arg(long, conflicts_with = "from")]
    plan: bool,

    /// Move the pins in qemu/ to the newest versions of their series that Debian has, say what that changes
    /// and names as mended, and build nothing.
    #[arg(long, conflicts_with_all = ["from", "plan", "target", "cross", "source", "sha256"])]
    renew: bool,

    /// The emulator of the other architecture too, and its wheel.
    #[arg(long)]
    cross: bool,

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
        Self {
            source: "apt".to_owned(),
            sha256: None,
            target: None,
            plan: false,
            renew: false,
            cross: false,
            from: None,
            components: None,
        }
    }
}

impl Args {
    /// The wheels of both emulators from the pinned source, as a release has them.
    pub fn for_release() -> Self {
        Self { cross: true, ..Self::default() }
    }

    /// The wheels of the QEMU that is installed here, as a release has them where none is built.
    pub fn for_installed() -> Self {
        Self { from: Some("system".to_owned()), ..Self::for_release() }
    }

    /// The emulator of one machine of the release, from the pinned source.
    pub fn for_machine(machine: Runner) -> Self {
        Self { target: Some(machine), ..Self::default() }
    }

    /// The wheels of both emulators for one of the machines that this host builds for.
    pub fn for_release_target(target: Target) -> Self {
        Self { target: Some(target.runner()), ..Self::for_release() }
    }

    fn emulators(&self) -> &'static [Emulator] {
        if self.cross { &[Emulator::Own, Emulator::Cross] } else { &[Emulator::Own] }
    }

    /// The machine to build for; none where this host is none of the release's.
    fn target(&self) -> Option<Target> {
        self.target.map(Target::new).or_else(Target::for_host)
    }

    /// The same, of which this host is known to build for.
    fn buildable(&self) -> Result<Target> {
        let target = self.target().ok_or_else(|| {
            hinted(
                "build-qemu builds on Linux on x86_64 only, so far",
                "install QEMU by the system's own means: `build-qemu --from system` packs it",
            )
        })?;
        target.check()?;
        Ok(target)
    }
}

/// Builds QEMU, unless the cache has it or an installed one is asked for, and writes its wheels.
pub fn run(context: &Context, args: &Args) -> Result<Vec<PathBuf>> {
    if args.renew {
        renew::run(context)?;
        return Ok(vec![]);
    }
    if args.plan {
        print_plan(context, args)?;
        return Ok(vec![]);
    }
    let is_installed_wanted = args.target.is_none() && args.buildable().is_err();
    let from = args.from.as_deref().or_else(|| is_installed_wanted.then_some("system"));
    if let Some(from) = from {
        fs::create_dir_all(context.dist())?;
        let place = tempfile::Builder::new().prefix(".qemu-").tempdir_in(context.dist())?;
        for emulator in args.emulators() {
            let components = args.components.as_deref();
            installed::wheel(context, from, *emulator, components, place.path())?;
        }
        return wheels::put_into_dist(context, place.path());
    }
    let target = args.buildable()?;
    let emulators = args.emulators();
    let mut made = vec![];
    for (emulator, bundle) in emulators.iter().zip(bundles(context, args, emulators)?) {
        made.extend(wheels::pack_bundle(context, *emulator, bundle, target)?);
    }
    Ok(made)
}

/// Prints what [`run`] would do: of the libraries their first pinned version.
fn print_plan(context: &Context, args: &Args) -> Result<()> {
    let target = args.target().map_or_else(|| args.buildable(), Ok)?;
    let toolchain = Toolchain::for_target(target);
    let folder = context.root.join("qemu");
    let pins = Pins::read(&folder)?.for_target(target);
    print!("{}", libraries::plan_of(&folder, target, &toolchain)?);
    for pin in pins.qemu.iter().take(1) {
        println!("qemu {} {}", pin.version, pin.patches.join(" "));
    }
    for argument in configure::arguments(target, &toolchain, &configure::Places::NAMED) {
        println!("  {argument}");
    }
    Ok(())
}

/// The bundle of the machine's own emulator in the cache, with the key of what it was built from; built
/// unless it is there.
pub fn bundle(context: &Context, args: &Args) -> Result<(PathBuf, Key)> {
    Ok(bundles(context, args, &[Emulator::Own])?.remove(0))
}

/// The same of the other architecture's emulator.
pub fn cross_bundle(context: &Context, args: &Args) -> Result<(PathBuf, Key)> {
    Ok(bundles(context, args, &[Emulator::Cross])?.remove(0))
}

/// The bundle whose emulator has a machine of this architecture, as built unless told otherwise.
pub fn bundle_for(context: &Context, arch: Arch) -> Result<(PathBuf, Key)> {
    let args = Args::default();
    match arch == host_platform::host().process_arch {
        true => bundle(context, &args),
        false => cross_bundle(context, &args),
    }
}

/// The bundles of these emulators, in this order.
fn bundles(context: &Context, args: &Args, emulators: &[Emulator]) -> Result<Vec<(PathBuf, Key)>> {
    let source = Source::parse(&args.source, args.sha256.as_ref())?;
    let target = args.buildable()?;
    let folder = context.root.join("qemu");
    let pins = Pins::read(&folder)?.for_target(target);
    let choices = choice::choices(&source, &pins)?;
    setup::ensure_packages(context, &packages(target))?;
    let tools = setup::python_tools(context, PYTHON_TOOLS)?;
    let toolchain = Toolchain::for_target(target);
    let sysroot = match toolchain.c_library() {
        Some(CLibrary::Sysroot) => Some(Sysroot::for_arch(context, target.arch())?),
        _ => None,
    };
    let of_target = (target, &toolchain, sysroot.as_ref());
    let libraries = Libraries::read(context, of_target, &folder, PYTHON_TOOLS)?;
    let base = inputs(&folder, &pins, of_target, &code::own(&context.root, CODE)?)?;
    let find_all = |key: &Key| -> Option<Vec<(PathBuf, Key)>> {
        let find = |emulator: &Emulator| context.cache.find(&emulator.kind(target), key);
        emulators.iter().map(|emulator| Some((find(emulator)?, key.clone()))).collect()
    };
    let expected = libraries.expected()?;
    let cached = choices.iter().find_map(|choice| find_all(&key_of(&base, choice, &expected)));
    if let Some(found) = cached {
        return Ok(found);
    }
    ensure!(context.cache.makes_entries(), "QEMU is not in the build cache");
    let order =
        Order { context, folder: &folder, pins: &pins, choices: &choices, base, tools, target };
    let zig = match toolchain.c_library() {
        Some(CLibrary::OfCompiler) => Some(zig::ready(context)?),
        _ => None,
    };
    order.build(&libraries, emulators, (toolchain.clone(), sysroot.clone(), zig))
}

/// The packages that a build for a target needs.
fn packages(target: Target) -> Vec<&'static str> {
    [PACKAGES, toolchain::packages(target)].concat()
}

/// What a build needs; its tools alone when it is in the cache.
pub fn needs(context: &Context, args: &Args) -> Needs {
    if args.renew {
        return renew::needs();
    }
    let Ok(target) = args.buildable() else { return Needs::default() };
    if args.from.is_some() || args.plan {
        return Needs::default();
    }
    let needs = setup::needs_of_python_tools(context, PYTHON_TOOLS).packages(&packages(target));
    if bundles(&context.looking(), args, args.emulators()).is_ok() {
        return needs;
    }
    let from = Registry::Images("debian", "stable".to_owned());
    let needs = Needs { makes_in_cache: true, ..needs };
    needs.packages(fetch::PACKAGES).fetch("QEMU's sources", from).build("QEMU", SECONDS, ROOM)
}

/// The hash of everything but QEMU's tarball and the libraries: our data and the tools.
fn inputs(
    folder: &Path,
    pins: &Pins,
    (target, toolchain, sysroot): (Target, &Toolchain, Option<&Sysroot>),
    code: &str,
) -> Result<Key> {
    let mut key = Key::new("qemu");
    key.add("code", code.as_bytes());
    for arg in configure::arguments(target, toolchain, &configure::Places::NAMED) {
        key.add("configure", arg.as_bytes());
    }
    key.add("pins", &serde_json::to_vec(pins)?);
    key.add_file(&folder.join("licences.toml"))?;
    key.add_tree(&folder.join("devices"))?;
    for name in pins.qemu.iter().flat_map(|pin| &pin.patches) {
        key.add_file(&folder.join("patches").join(name))?;
    }
    for tool in PYTHON_TOOLS {
        key.add("tool", tool.as_bytes());
    }
    toolchain.add_to(&mut key)?;
    if toolchain.cross.is_some() {
        key.add_file(&folder.join(pins::CROSS_FILE))?;
    }
    if let Some(sysroot) = sysroot {
        key.add("sysroot", sysroot.digest().as_bytes());
    }
    Ok(key)
}

/// The key of a bundle.
fn key_of(base: &Key, choice: &Choice, libraries: &[Chosen]) -> Key {
    let mut key = base.clone();
    key.add("sha256", choice.sha256.as_bytes());
    for library in libraries {
        key.add(library.name(), library.key.digest().as_bytes());
    }
    key
}

/// What a build is made from.
struct Order<'a> {
    context: &'a Context,
    folder: &'a Path,
    pins: &'a Pins,
    choices: &'a [Choice],
    base: Key,
    tools: PathBuf,
    target: Target,
}

impl Order<'_> {
    /// Fetches the sources and builds the bundles into the cache.
    fn build(
        &self,
        libraries: &Libraries<'_>,
        emulators: &[Emulator],
        (toolchain, sysroot, zig): (Toolchain, Option<Sysroot>, Option<PathBuf>),
    ) -> Result<Vec<(PathBuf, Key)>> {
        let Self { context, target, .. } = *self;
        let apt = PrivateApt::open(context)?;
        let (tarball, choice, fetched, seabios) =
            context.ui.step(&self.title("Fetch the sources of QEMU"), |step| {
                let (tarball, choice) = choice::fetch(context, step, &apt, self.choices)?;
                let fetched = libraries.fetch(&apt, step)?;
                let seabios = apt.fetch(context, step, "seabios", &self.pins.seabios)?;
                Ok((tarball, choice, fetched, seabios))
            })?;
        let chosen: Vec<Chosen> = fetched.iter().map(|(chosen, _)| chosen.clone()).collect();
        let sources = Sources {
            patches: choice.patches(self.pins, self.folder),
            choice,
            seabios,
            libraries: chosen,
            licences: Licences::read(self.folder)?,
        };
        let key = key_of(&self.base, &sources.choice, &sources.libraries);
        // Nothing is built when the choice of the mirror is in the cache after all.
        let is_absent =
            |emulator: &&Emulator| context.cache.find(&emulator.kind(target), &key).is_none();
        if emulators.iter().any(|emulator| is_absent(&emulator)) {
            let work = beside(&context.cache.folder(&Emulator::Own.kind(target))?)?;
            let n_jobs = std::thread::available_parallelism().map_or(1, usize::from);
            let host_headers = headers::prepare(context, &Toolchain::for_host(), None)?;
            let headers = headers::prepare(context, &toolchain, sysroot.as_ref())?;
            // The linker's map names files by their real places.
            let (root, tools) = (fs::canonicalize(work.path())?, self.tools.clone());
            let own_zig = zig.as_ref().map(|_| root.join("zig"));
            if let (Some(from), Some(to)) = (&zig, &own_zig) {
                libraries::copy_tree(from, to)?;
            }
            let shop = Workshop {
                root,
                tools,
                target,
                toolchain,
                sysroot,
                zig: own_zig,
                headers,
                host_headers,
                n_jobs,
            };
            let programs: Vec<PathBuf> =
                std::iter::once(shop.tools.clone()).chain(zig.map(|it| it.join("bin"))).collect();
            std::thread::scope(|scope| {
                let unpacked = scope.spawn(|| self.unpack(&shop, &apt, &tarball, &sources));
                libraries.build(&fetched, (&shop.tools, &programs, &shop.headers), n_jobs)?;
                unpacked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            for library in &sources.libraries {
                let prefix = library.entry(context)?.join("prefix");
                libraries::copy_tree(&prefix, &shop.libraries())?;
            }
            let devices = self.folder.join("devices");
            let title = self.title("Configure QEMU");
            context.ui.step(&title, |step| compile::configure(&shop, step, &devices))?;
            for emulator in emulators.iter().filter(is_absent) {
                context.cache.entry(&emulator.kind(target), &key, |entry| {
                    self.build_one(&shop, &apt, &sources, *emulator, entry)
                })?;
            }
        }
        let find = |emulator: &Emulator| {
            let found = context.cache.find(&emulator.kind(target), &key);
            Ok((found.context("The bundle is not in the build cache any more")?, key.clone()))
        };
        emulators.iter().map(find).collect()
    }

    /// The title of a step: two targets may be built side by side, each with a log of its own.
    fn title(&self, words: &str) -> String {
        match self.target.is_host() {
            true => words.to_owned(),
            false => format!("{words} ({})", self.target),
        }
    }

    /// What can be done while the libraries are built.
    fn unpack(
        &self,
        shop: &Workshop,
        apt: &PrivateApt,
        tarball: &Path,
        sources: &Sources,
    ) -> Result<()> {
        self.context.ui.step(&self.title("Unpack QEMU"), |step| {
            source_tree::unpack(step, tarball, &shop.qemu())?;
            for patch in &sources.patches {
                source_tree::patch(step, patch, &shop.qemu())?;
            }
            if let Err(error) = apt.update(self.context, step) {
                // What was linked is known by the hashes of its archives all the same.
                let warning =
                    "warning: the hashes of the C library's source packages stay out of SOURCES";
                self.context.ui.line(&format!("{warning}: {error}"));
            }
            Ok(())
        })
    }

    fn build_one(
        &self,
        shop: &Workshop,
        apt: &PrivateApt,
        sources: &Sources,
        emulator: Emulator,
        entry: &Path,
    ) -> Result<()> {
        let programs = emulator.programs(self.target);
        let title = match emulator {
            Emulator::Own => "Build QEMU",
            Emulator::Cross => "Build QEMU for the other architecture",
        };
        self.context
            .ui
            .step(&self.title(title), |step| compile::programs(shop, step, &programs))?;
        self.context.ui.step(&self.title("Gather QEMU's bundle"), |step| {
            bundle::gather(self.context, shop, step, apt, sources, emulator, entry)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn qemu_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../qemu")
    }
}
