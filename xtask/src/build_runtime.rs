//! `cargo xtask build-runtime`: the runtime's wheel as it ships.

use crate::context::Context;
use anyhow::Result;
use qemu_builder::Target;
use runtime_builder::{Profile, build_for, check_target, this_host};
use wheel_retag::Runner;

/// What to build.
#[derive(clap::Args)]
pub struct Args {
    /// The machine of the release to build for; this host unless given. Linux on x86_64 builds for Linux on
    /// arm64 too.
    #[arg(long, value_parser = qemu_builder::runner)]
    target: Option<Runner>,
}

/// Builds the wheel and prints its path.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let target = args.target.map(Target::new).map_or_else(this_host, Ok)?;
    check_target(target)?;
    println!("{}", build_for(context, Profile::Release, target)?.display());
    Ok(())
}
