//! `cargo xtask bake`.

use crate::context::Context;
use anyhow::Result;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_context: &Context, _args: &Args) -> Result<PathBuf> {
    anyhow::bail!("not there yet")
}
