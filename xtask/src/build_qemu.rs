//! `cargo xtask build_qemu`.

use crate::context::Context;
use anyhow::Result;
use std::path::PathBuf;

#[derive(clap::Args, Default)]
pub struct Args {}

pub fn run(_context: &Context, _args: &Args) -> Result<Vec<PathBuf>> {
    anyhow::bail!("not there yet")
}
