//! `cargo xtask bake`: from a recipe to kernel, initrd, disk and their wheel.
//!
//! Each stage is an entry of the build cache, named by the hash of what it is made from, so that a
//! change repeats what depends on it and no more. What the stages do is `image-builder`'s.

mod agent;
mod boot;
mod emulator;
mod locked;
mod needs;
mod overlays;
mod rootfs;
mod stages;
mod usual;
mod wheels;

#[cfg(test)]
mod tests;

use crate::{context::Context, side_by_side};
use anyhow::{Context as _, Result};
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    lock::ArchLock,
    pool,
    recipe::{self, Recipe},
    rootfs::Ownership,
};
pub use needs::needs;
use overlays::Below;
use package_layout::image::{MANIFEST_FILE, Part, file_name, overlay_file};
use std::path::{Path, PathBuf};
pub use usual::{repository, usual};

/// What `--help` says at the end.
const NOTES: &str = "\
Needs neither Docker nor root. Prints the wheel's path, and tells on stderr what it does. Exits with 1 when a stage or a check \
of the recipe failed, and with 2 when the command line is wrong. Recipes, locks and mirrors: recipes/README.md";

#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// The image: a folder of recipes/, such as debian.
    name: String,

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
            name: name.to_owned(),
            arch: None,
            out: None,
            no_cache: false,
            update: false,
            export_cache: None,
            import_cache: None,
            no_boot: false,
            ownership: None,
            recipes: None,
            usual: false,
            is_lenient: true,
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

pub fn run(context: &Context, args: &Args) -> Result<PathBuf> {
    if args.usual {
        return usual(context, &args.name);
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
    let arch = args.arch();
    let (recipe, pool) = inputs(context, args, &args.recipes(context), arch)?;
    let finished = bake(context, args, &recipe, arch, &pool)?;
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
    for (made, name) in &finished.files {
        let place = out.join(name);
        fs::create_dir_all(place.parent().context("A finished file has a folder")?)?;
        publish(made, &place)?;
    }
    let wheel = out.join(finished.wheel.file_name().context("A wheel has a name")?);
    publish(&finished.wheel, &wheel)?;
    publish(&report, &out.join(boot::report_name(recipe, *arch)))?;
    Ok(wheel)
}

/// The recipe with the programs of its wheels, and the pool of packages, with what is imported in it.
fn inputs(context: &Context, args: &Args, recipes: &Path, arch: Arch) -> Result<(Recipe, PathBuf)> {
    let recipe = recipe::load(recipes, &args.name)?;
    let pool = context.cache.folder("packages")?;
    if let Some(file) = &args.import_cache {
        let n_new = pool::import(file, &pool)?;
        context.ui.line(&format!("    imported {n_new} files from {}", file.display()));
    }
    let recipe = wheels::with_programs(context, args, &recipe, arch, &pool)?;
    Ok((recipe, pool))
}

/// Writes all that was fetched for the image, if that is asked for.
fn export(
    context: &Context,
    args: &Args,
    recipe: &Recipe,
    arch: Arch,
    locks: &[&ArchLock],
    pool: &Path,
) -> Result<()> {
    let Some(file) = &args.export_cache else { return Ok(()) };
    let wheels = wheels::in_pool(context, recipe, arch, pool)?;
    let n_written = pool::export(locks, &wheels, pool, file)?;
    context.ui.line(&format!("    exported {n_written} files to {}", file.display()));
    Ok(())
}

/// What a bake made, still in the cache.
struct Finished {
    /// The files of the image, and what they are called below the folder they are published to.
    files: Vec<(PathBuf, String)>,
    /// The same for the images below it.
    below: Vec<(PathBuf, String)>,
    /// The wheel.
    wheel: PathBuf,
    /// The lock of the topmost layer.
    lock: ArchLock,
}

/// Bakes the layers of the image, the bottom one first.
fn bake(
    context: &Context,
    args: &Args,
    recipe: &Recipe,
    arch: Arch,
    pool: &Path,
) -> Result<Finished> {
    let mut locks: Vec<ArchLock> = Vec::new();
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    let mut below: Option<Below> = None;
    for layer in recipe.layers() {
        let path = layer.lock_path();
        let wanted =
            locked::Wanted { context, recipe: layer, arch, pool, base: &locks, path: &path };
        let lock = locked::lock(args, &wanted)?;
        let is_top = layer.name == recipe.name;
        let base = locks.as_slice();
        let baker = stages::Baker { context, args, recipe: layer, arch, lock: &lock, base, pool };
        let name = |part| file_name(&layer.name, &layer.body.version, arch.image_name(), part);
        let n_below = files.len();
        let (entry, rootfs, kernel) = match &below {
            None => {
                let (kernel, rootfs, agent) = side_by_side::three(
                    &context.ui,
                    || baker.kernel(),
                    || baker.rootfs(),
                    || agent::binary(context, arch),
                )?;
                let disk = baker.disk(&rootfs, Some(&kernel))?;
                let initrd = baker.initrd(&kernel, &agent)?;
                files.push((kernel.join("kernel"), name(Part::Kernel)));
                files.push((initrd.join("initrd"), name(Part::Initrd)));
                files.push((disk.join("qcow2"), name(Part::Disk)));
                (disk, rootfs, Some(kernel))
            }
            Some(below) => {
                let rootfs = baker.install_over(&below.entry)?;
                let overlay = baker.overlay(below, &rootfs)?;
                let place = |file: &str| format!("{}/{file}", layer.name);
                files.push((overlay.join("qcow2"), place(&overlay_file(0))));
                files.push((overlay.join(MANIFEST_FILE), place(MANIFEST_FILE)));
                (overlay, rootfs, None)
            }
        };
        if is_top {
            let all: Vec<&ArchLock> = locks.iter().chain([&lock]).collect();
            export(context, args, recipe, arch, &all, pool)?;
            let own = files.split_off(n_below);
            let lies_on = below.as_ref().map(|below| below.entry.as_path());
            let wheel = baker.wheel(&rootfs, &own, kernel.as_deref(), lies_on)?;
            return Ok(Finished { files: own, below: files, wheel, lock });
        }
        let mut chain = below.map(|below| below.chain).unwrap_or_default();
        chain.push(entry.join("qcow2"));
        below = Some(Below { entry, chain, name: name(Part::Disk) });
        locks.push(lock);
    }
    anyhow::bail!("The recipe `{}` has no layers", recipe.name)
}

/// Copies a finished file to its place, beside it first, unless it is there already. A copy and
/// no link: what people do to their file must not reach the cache.
fn publish(made: &Path, place: &Path) -> Result<()> {
    let from = fs::metadata(made)?;
    if let Ok(there) = fs::metadata(place)
        && there.len() == from.len()
        && there.modified()? == from.modified()?
    {
        return Ok(());
    }
    let folder = place.parent().context("A finished file has a folder")?;
    let beside = tempfile::Builder::new().prefix(".part-").tempfile_in(folder)?;
    std::io::copy(&mut fs::File::open(made)?, &mut beside.as_file())?;
    beside.as_file().set_modified(from.modified()?)?;
    beside.as_file().set_permissions(from.permissions())?;
    beside.persist(place)?;
    Ok(())
}
