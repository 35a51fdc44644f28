//! `cargo xtask bake`: from a recipe to kernel, initrd, disk and their wheel.
//!
//! The order of the stages is `image_builder::bake`'s; here are the flags, the build cache that it works in
//! (`host`), and the proof by boot.

mod boot;
mod host;
mod needs;
mod renewal;
mod usual;

#[cfg(test)]
mod tests;

use crate::context::Context;
use anyhow::Result;
use fs_err as fs;
use host::Baking;
use host_platform::Arch;
use image_builder::{
    bake::{self, Finished, Ground, Options, Order},
    pool,
    recipe::{self, Recipe},
    rootfs::Ownership,
};
pub use needs::needs;
use std::path::{Path, PathBuf};
pub use usual::{repository, usual};

/// What `--help` says at the end.
const NOTES: &str = "\
Needs neither Docker nor root. Prints the wheel's path, and tells on stderr what it does. Exits with 1 when a stage or a check \
of the recipe failed, and with 2 when the command line is wrong. Recipes, locks and mirrors: recipes/README.md";

#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// The image: a folder of recipes/, such as debian. Without one --renew moves every lock that there is.
    #[arg(required_unless_present = "renew")]
    name: Option<String>,

    /// The architecture of the machine: amd64 (also x86_64) or arm64 (also aarch64); this host's
    /// unless given. Another one is compiled for, installed and booted by emulation.
    #[arg(long)]
    arch: Option<Arch>,

    /// Where the image's files, its wheel and the report NAME-VERSION-ARCH.json are written; dist/
    /// unless given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Make every stage anew, and boot again to prove it (packages and wheels that were fetched
    /// before are still used).
    #[arg(long)]
    no_cache: bool,

    /// Renew recipe.lock of this image: choose the mirror's newest packages, and print what changed.
    /// The image that an overlay lies on keeps its own.
    #[arg(long)]
    update: bool,

    /// Renew recipe.lock without baking, and print which versions change and which known flaws that mends, by the
    /// packages' own changelogs. A lock whose packages are the newest already stays as it is.
    #[arg(long, conflicts_with_all = ["update", "out", "no_cache", "export_cache", "import_cache", "no_boot", "usual"])]
    renew: bool,

    /// With --renew: advisories in OSV form, as for `image audit`; what they say is mended is named too.
    #[arg(long, value_name = "FILE", requires = "renew")]
    advisories: Vec<PathBuf>,

    /// With --renew: print JSON.
    #[arg(long, requires = "renew")]
    json: bool,

    /// Write the packages and wheels of the image and of what it lies on to this file, for hosts
    /// and days whose mirror no longer has them.
    #[arg(long, value_name = "FILE")]
    export_cache: Option<PathBuf>,

    /// Take the packages and wheels that --export-cache wrote, before anything is fetched.
    #[arg(long, value_name = "FILE")]
    import_cache: Option<PathBuf>,

    /// Do not boot the image at the end to prove it; then the recipe's checks are not run.
    #[arg(long)]
    no_boot: bool,

    /// Where the owners of files are kept while packages are installed: `disk` (as root, or with a
    /// range of ids in /etc/subuid) or `map` (neither is needed, and it is slower). Unless given, the
    /// disk where that is possible. The image is the same.
    #[arg(long, value_name = "disk|map")]
    ownership: Option<Ownership>,

    /// The folder of recipes; this repository's unless given.
    #[arg(long, value_name = "DIR", hide = true)]
    recipes: Option<PathBuf>,

    /// Bake the variant that the benchmarks put beside ours: the distribution's own kernel file,
    /// initramfs and services. Prints its folder.
    #[arg(long, hide = true)]
    usual: bool,

    /// Choose packages anew for this bake alone when the lock's are gone from the mirror.
    #[arg(skip)]
    is_lenient: bool,
}

impl Args {
    /// Bakes this image with the defaults, as set-up does: a lock that the mirror has outlived is
    /// a warning there and not the end.
    pub fn of(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            arch: None,
            out: None,
            no_cache: false,
            update: false,
            renew: false,
            advisories: Vec::new(),
            json: false,
            export_cache: None,
            import_cache: None,
            no_boot: false,
            ownership: None,
            recipes: None,
            usual: false,
            is_lenient: true,
        }
    }

    /// The image's name; empty where all are meant.
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// How the bake is done.
    fn options(&self) -> Options {
        Options {
            no_cache: self.no_cache,
            renewed: self.update.then(|| self.name().to_owned()),
            is_lenient: self.is_lenient,
            ownership: self.ownership,
            ..Options::default()
        }
    }

    /// The folder of recipes.
    fn recipes(&self, context: &Context) -> PathBuf {
        self.recipes.clone().unwrap_or_else(|| context.root.join("recipes"))
    }

    /// The architecture of the machine.
    fn arch(&self) -> Arch {
        self.arch.unwrap_or_else(host_platform::native_arch)
    }

    /// The same, into a folder.
    pub fn to(name: &str, out: &Path) -> Self {
        Self { out: Some(out.to_owned()), ..Self::of(name) }
    }

    /// The same, for the architecture that this host is not.
    pub fn of_other_arch(name: &str, out: &Path) -> Self {
        Self { arch: Some(host_platform::native_arch().other()), ..Self::to(name, out) }
    }
}

/// Does what the command line says, and prints what came of it.
pub fn task(context: &Context, args: &Args) -> Result<()> {
    if args.renew {
        return renewal::run(context, args);
    }
    println!("{}", run(context, args)?.display());
    Ok(())
}

pub fn run(context: &Context, args: &Args) -> Result<PathBuf> {
    if args.usual {
        return usual(context, args.name());
    }
    publish_proved(context, args, &make(context, args)?)
}

/// An image that is made and not proved yet, still in the cache.
pub struct Made {
    recipe: Recipe,
    arch: Arch,
    finished: Finished,
}

/// Bakes the image as far as that goes without QEMU.
pub fn make(context: &Context, args: &Args) -> Result<Made> {
    let (arch, options) = (args.arch(), args.options());
    let (recipe, pool) = inputs(context, args, &args.recipes(context), arch)?;
    let order =
        Order { recipe: &recipe, arch, pool: &pool, ground: Ground::Nothing, options: &options };
    let finished = bake::run(&Baking(context), order)?;
    if let Some(file) = &args.export_cache {
        let n_files = bake::export(&Baking(context), &recipe, arch, &finished.locks, &pool, file)?;
        context.ui.line(&format!("    exported {n_files} files to {}", file.display()));
    }
    Ok(Made { recipe, arch, finished })
}

/// Boots the image to prove it, and puts its files and its wheel where they are wanted.
pub fn publish_proved(context: &Context, args: &Args, made: &Made) -> Result<PathBuf> {
    let Made { recipe, arch, finished } = made;
    let out = args.out.clone().unwrap_or_else(|| context.dist());
    fs::create_dir_all(&out)?;
    // What is not proved is not published, unless that is what was asked for.
    let report = boot::report(context, args, recipe, *arch, finished).inspect_err(|_| {
        let place = out.display();
        context
            .ui
            .line(&format!("    nothing was written to {place}; --no-boot does without proof"));
    })?;
    let wheel = finished.publish(&out)?;
    bake::publish(&report, &out.join(boot::report_name(recipe, *arch)))?;
    Ok(wheel)
}

/// The recipe with the programs of its wheels, and the pool of packages, with what is imported in it.
fn inputs(context: &Context, args: &Args, recipes: &Path, arch: Arch) -> Result<(Recipe, PathBuf)> {
    let recipe = recipe::load(recipes, args.name())?;
    let pool = context.cache.folder("packages")?;
    if let Some(file) = &args.import_cache {
        let n_new = pool::import(file, &pool)?;
        context.ui.line(&format!("    imported {n_new} files from {}", file.display()));
    }
    let recipe = bake::with_programs(&Baking(context), &recipe, arch, &pool, args.no_cache)?;
    Ok((recipe, pool))
}
