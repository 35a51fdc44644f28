//! `cargo xtask bake`: from a recipe to kernel, initrd, disk and their wheel.
//!
//! The order of the stages and what is proved and published is `image_builder::bake`'s. Here are the flags (`args`),
//! what the host must have (`needs`), and whose store, programs and machines are used (`host`).

mod args;
mod host;
mod needs;
mod usual;

use crate::context::Context;
use anyhow::Result;
pub use args::Args;
use host::Baking;
use host_platform::Os;
use image_builder::bake::{self, Baked};
pub use needs::needs;
use std::path::PathBuf;
pub use usual::{repository, usual};

/// Does what the command line says, and prints what came of it.
pub fn task(context: &Context, args: &Args) -> Result<()> {
    if args.renew {
        let (recipes, print) = (args.recipes(context), |line: &str| println!("{line}"));
        let which = (recipes.as_path(), args.name(), args.arch);
        return bake::renew_all(&Baking(context), which, &args.advisories, args.json, &print);
    }
    println!("{}", run(context, args)?.display());
    Ok(())
}

pub fn run(context: &Context, args: &Args) -> Result<PathBuf> {
    bake::check_system(Os::OF_PROCESS)?;
    if args.usual {
        return usual(context, args.name());
    }
    publish_proved(context, args, &make(context, args)?)
}

/// Bakes the image as far as that goes without QEMU.
pub fn make(context: &Context, args: &Args) -> Result<Baked> {
    let (recipes, options) = (args.recipes(context), args.options());
    bake::make(&Baking(context), &args.request(&recipes, &options))
}

/// Boots the image to prove it, and puts its files and its wheel where they are wanted.
pub fn publish_proved(context: &Context, args: &Args, baked: &Baked) -> Result<PathBuf> {
    let (baking, out) = (Baking(context), args.out(context));
    bake::publish_proved(&baking, baked, &args.publication(&out, &baking))
}
