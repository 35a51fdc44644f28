//! `cargo xtask demo`: the main job, from nothing to a command in a sandbox of our own making.

use crate::{bake, context::Context, dist, environment, preflight::Needs, side_by_side, ui};
use anyhow::Result;
use duct::cmd;
use runtime_builder::Profile;

/// The image of the quick start.
const IMAGE: &str = "debian";

/// No options of its own.
#[derive(clap::Args)]
pub struct Args {}

pub fn needs(context: &Context) -> Needs {
    dist::needs(context, &[IMAGE], Profile::Dev).and(Needs { python: true, ..Needs::default() })
}

/// Makes the wheels that the quick start needs, installs them in an environment, unless they are in it from
/// the last time, and runs it there.
pub fn run(context: &Context, _args: &Args) -> Result<()> {
    context.ui.plan(dist::PLAN);
    let images = [bake::Args::for_image(IMAGE)];
    let wanted = dist::Wanted { profile: Profile::Dev, images: &images, cross: false };
    // One environment for all demos, so another one waits until this one has run.
    let _turn = context.cache.turn("demo")?;
    let root = context.cache.folder("demo")?.join("venv");
    let is_there = environment::is_whole(&root);
    let (wheels, empty) = side_by_side::both(
        &context.ui,
        || dist::make(context, &wanted),
        || (!is_there).then(|| environment::empty(context, &root)).transpose(),
    )?;
    let environment = environment::with_wheels(context, &root, empty, &wheels, &[IMAGE])?;
    context.ui.end_plan();
    let used = ui::used().map(|used| format!(" (ready after {used})")).unwrap_or_default();
    context.ui.line(&format!("==> Run examples/quickstart.py{used}"));
    // The quick start runs outside the tree, so that only what pip installed can be imported.
    cmd!(environment.program("python"), context.root.join("examples/quickstart.py"))
        .dir(context.cache.folder("demo")?)
        .env_remove("PYTHONPATH")
        .run()?;
    Ok(())
}
