//! `cargo xtask demo`: the main job, from nothing to a command in a sandbox of our own making.

use crate::{context::Context, dist, environment, preflight::Needs};
use anyhow::Result;
use duct::cmd;
use std::time::Instant;

/// No options of its own.
#[derive(clap::Args)]
pub struct Args {}

/// What it needs.
pub fn needs(context: &Context) -> Needs {
    dist::needs(context).and(Needs { python: true, ..Needs::default() })
}

/// Makes the wheels, installs them in a new environment and runs the quick start there.
pub fn run(context: &Context, _args: &Args) -> Result<()> {
    let start = Instant::now();
    dist::run(context, &dist::Args::default())?;
    let environment = environment::create(context, &context.cache.folder("demo")?.join("venv"))?;
    let n_seconds = start.elapsed().as_secs_f64();
    context.ui.line(&format!("==> Run examples/quickstart.py (ready after {n_seconds:.1} s)"));
    // The quick start runs outside the tree, so that only what pip installed can be imported.
    cmd!(environment.program("python"), context.root.join("examples/quickstart.py"))
        .dir(context.cache.folder("demo")?)
        .env_remove("PYTHONPATH")
        .run()?;
    Ok(())
}
