//! `cargo xtask bench`.

use crate::context::Context;
use anyhow::Result;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_context: &Context, _args: &Args) -> Result<()> {
    anyhow::bail!("not there yet")
}
