//! `cargo xtask bake`: from a recipe to kernel, initrd, disk and their wheel.
//!
//! Each stage is an entry of the build cache, named by the hash of what it is made from, so that a
//! change repeats what depends on it and no more. What the stages do is `image-builder`'s.

mod agent;
mod locked;
mod stages;
mod usual;

use crate::context::Context;
use anyhow::{Context as _, Result};
use fs_err as fs;
use host_platform::Arch;
use image_builder::recipe;
use package_layout::image::{Part, file_name};
use std::path::{Path, PathBuf};
pub use usual::usual;

#[derive(clap::Args)]
pub struct Args {
    /// The image: a folder of recipes/.
    name: String,

    /// The architecture of the machine, amd64 or arm64; this host's unless given.
    #[arg(long)]
    arch: Option<Arch>,

    /// Where the kernel, initrd, disk and wheel are written; dist/ unless given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Make every stage anew (packages that were fetched before are still used).
    #[arg(long)]
    no_cache: bool,

    /// Renew the lock: choose the mirror's newest packages, and print what changed.
    #[arg(long)]
    update: bool,

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
            usual: false,
            is_lenient: true,
        }
    }
}

pub fn run(context: &Context, args: &Args) -> Result<PathBuf> {
    if args.usual {
        return usual(context, &args.name);
    }
    let recipe = recipe::load(&context.root.join("recipes"), &args.name)?;
    let arch = args.arch.unwrap_or_else(host_platform::native_arch);
    agent::target(arch)?;
    let pool = context.cache.folder("packages")?;
    let lock = locked::lock(context, args, &recipe, arch, &pool)?;
    let baker = stages::Baker { context, args, recipe: &recipe, arch, lock: &lock, pool: &pool };
    let kernel = baker.kernel()?;
    let rootfs = baker.rootfs()?;
    let disk = baker.disk(&rootfs, Some(&kernel))?;
    let initrd = baker.initrd(&kernel, &agent::binary(context, arch)?)?;

    let out = args.out.clone().unwrap_or_else(|| context.dist());
    fs::create_dir_all(&out)?;
    let parts = [
        (Part::Kernel, kernel.join("kernel")),
        (Part::Initrd, initrd.join("initrd")),
        (Part::Disk, disk.join("qcow2")),
    ];
    for (part, made) in &parts {
        let name = file_name(&recipe.name, &recipe.body.version, arch.image_name(), *part);
        publish(made, &out.join(name))?;
    }
    let made = baker.wheel(&rootfs, &parts)?;
    let wheel = out.join(made.file_name().context("A wheel has a name")?);
    publish(&made, &wheel)?;
    Ok(wheel)
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
