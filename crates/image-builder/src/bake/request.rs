//! A bake from a folder of recipes: what was fetched elsewhere is taken in first, the layers are baked, and what was
//! fetched is written out for others. What comes of it is not proved yet; see [`super::proved`].

use super::{BaseLayer, Finished, Host, Options, Order, Outcome, export, run, with_programs};
use crate::{
    audit::Advisories,
    package_store,
    recipe::{self, Recipe},
};
use host_platform::Arch;
use std::path::{Path, PathBuf};

/// An image of a folder of recipes to bake.
pub struct Request<'a> {
    /// The folder of recipes.
    pub recipes: &'a Path,
    /// The image's name.
    pub name: &'a str,
    /// The architecture of its machine.
    pub arch: Arch,
    /// How it is done.
    pub options: &'a Options,
    /// What another bake has exported, to be taken in before anything is fetched.
    pub import: Option<&'a Path>,
    /// Where packages and wheels are exported to.
    pub export: Option<&'a Path>,
}

/// An image whose files and wheel are made, and not proved yet.
pub struct Baked {
    /// Its recipe, with the programs of its wheels.
    pub recipe: Recipe,
    /// The architecture of its machine.
    pub arch: Arch,
    /// Its files and its wheel.
    pub finished: Finished,
}

/// The folder that packages and wheels are fetched into and found in.
///
/// # Errors
/// It cannot be made.
pub fn store_of<H: Host>(host: &H) -> Outcome<PathBuf, H> {
    host.folder("packages")
}

/// Bakes the image as far as that goes without booting it.
///
/// # Errors
/// The recipe cannot be read, or a stage failed.
pub fn make<H: Host>(host: &H, request: &Request<'_>) -> Outcome<Baked, H> {
    let (recipe, store) = inputs(host, request)?;
    let &Request { arch, options, .. } = request;
    let order = Order { recipe: &recipe, arch, store: &store, base: BaseLayer::Scratch, options };
    let finished = run(host, order)?;
    if let Some(file) = request.export {
        let n_files = export(host, &recipe, arch, &finished.locks, &store, file)?;
        host.line(&format!("    exported {n_files} files to {}", file.display()));
    }
    Ok(Baked { recipe, arch, finished })
}

/// The recipe with the programs of its wheels, and the store of packages, with what is imported in it.
///
/// # Errors
/// The recipe or what is imported cannot be read, or a wheel cannot be fetched.
pub fn inputs<H: Host>(host: &H, request: &Request<'_>) -> Outcome<(Recipe, PathBuf), H> {
    let recipe = recipe::load(request.recipes, request.name)?;
    let store = store_of(host)?;
    if let Some(file) = request.import {
        let n_new = package_store::import(file, &store)?;
        host.line(&format!("    imported {n_new} files from {}", file.display()));
    }
    let recipe = with_programs(host, &recipe, request.arch, &store, request.options.no_cache)?;
    Ok((recipe, store))
}

/// Renews the lock of the image of this name, or every lock that there is where the name is empty; see
/// [`super::to_renew`] and [`super::renew`]. `print` gets a line for each lock as soon as it is renewed and for each
/// source that changed, or all of it as JSON at the end.
///
/// # Errors
/// An advisory, a recipe or a lock cannot be read, or a lock cannot be renewed.
pub fn renew_all<H: Host>(
    host: &H,
    (recipes, name, arch): (&Path, &str, Option<Arch>),
    advisories: &[PathBuf],
    as_json: bool,
    print: &dyn Fn(&str),
) -> Outcome<(), H> {
    let advisories = Advisories::read(advisories)?;
    let store = store_of(host)?;
    let mut renewals = Vec::new();
    for (recipe, arch) in super::to_renew(recipes, name, arch)? {
        let renewal = super::renew(host, &recipe, arch, &store, &advisories)?;
        if !as_json {
            renewal.lines().iter().for_each(|line| print(line));
        }
        renewals.push(renewal);
    }
    if as_json {
        print(&format!("{:#}", serde_json::json!(renewals)));
    }
    Ok(())
}
