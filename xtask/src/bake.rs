//! `cargo xtask bake`: from a recipe to kernel, initrd, disk and their wheel.
//!
//! The order of the stages is `image_builder::bake`'s; here are the flags (`args`), the build cache that
//! it works in (`host`), and the proof by boot (`boot`).

mod args;
mod boot;
mod host;
mod needs;
mod renewal;
mod usual;

#[cfg(test)]
mod tests;

use crate::context::Context;
use anyhow::Result;
pub use args::Args;
use fs_err as fs;
use host::Baking;
use host_platform::{Arch, Os};
use image_builder::{
    bake::{self, Finished, Ground, Order},
    pool,
    recipe::{self, Recipe},
};
pub use needs::needs;
use std::path::{Path, PathBuf};
pub use usual::{repository, usual};

/// Does what the command line says, and prints what came of it.
pub fn task(context: &Context, args: &Args) -> Result<()> {
    if args.renew {
        return renewal::run(context, args);
    }
    println!("{}", run(context, args)?.display());
    Ok(())
}

pub fn run(context: &Context, args: &Args) -> Result<PathBuf> {
    image_builder::bake::check_system(Os::OF_PROCESS)?;
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
    bake::publish(&report, &out.join(bake::report_name(recipe, *arch)))?;
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
