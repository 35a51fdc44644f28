//! `cargo xtask dist`: every wheel that this host can make, into `dist/`.

use crate::{bake, build_qemu, context::Context, preflight::Needs, runtime_wheel};
use anyhow::Result;
use std::path::PathBuf;

/// Images whose wheels are made on every host.
pub const IMAGES: &[&str] = &["minimal", "debian"];

/// No options of its own.
#[derive(clap::Args, Default)]
pub struct Args {}

/// What they need.
pub fn needs(context: &Context) -> Needs {
    let images = IMAGES.iter().map(|image| bake::needs(context, &bake::Args::of(image)));
    let first = build_qemu::needs(context, &build_qemu::Args::default());
    images.fold(first.and(runtime_wheel::needs(context)), Needs::and)
}

/// Makes the wheels; what is in the caches already is only packed again.
pub fn run(context: &Context, _args: &Args) -> Result<Vec<PathBuf>> {
    let mut wheels = build_qemu::run(context, &build_qemu::Args::default())?;
    wheels.push(runtime_wheel::build(context)?);
    for image in IMAGES {
        wheels.push(bake::run(context, &bake::Args::of(image))?);
    }
    Ok(wheels)
}
