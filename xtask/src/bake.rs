//! `cargo xtask bake`.

use crate::context::Context;
use anyhow::Result;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {}

impl Args {
    /// Bakes this image with the defaults.
    pub fn of(_name: &str) -> Self {
        Self {}
    }
}

pub fn run(_context: &Context, _args: &Args) -> Result<PathBuf> {
    anyhow::bail!("not there yet")
}
