//! Recipes outside of this repository: one `recipe.toml` on an installed image. There are no recipes
//! and locks of the base then, only its finished files, so what is needed of it is read from its
//! disk.
//!
//! The result is an overlay on the base; or, where the recipe brings a root file system of its own,
//! an image with that and the base's kernel, modules and agent. This module must not know where
//! images are installed nor what boots them: the caller finds the base and brings the prover.

mod bake;
mod host;
mod lock;
mod step;
pub mod template;

pub use crate::base::Base;
use crate::{
    Error, RecipeError,
    lock::{ArchLock, Package},
    packages as database,
    recipe::{self, Disk, DiskSize, Distribution, DistributionName, Kernel, Method, Recipe},
    tree::Tree,
};
pub use bake::{Options, Pull, Pulled, bake};
use fs_err as fs;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The file to edit.
pub const RECIPE: &str = "recipe.toml";
/// The lock beside it.
pub const LOCK: &str = "recipe.lock";
/// What renews the lock.
const RENEWAL: &str = "quicksand dev bake --update";

/// The name of the base that the recipe in a folder names.
pub fn base_of(folder: &Path) -> Result<String, Error> {
    let path = folder.join(RECIPE);
    let text = recipe::read_text(&path)?;
    recipe::base_name(&text, &path)?.ok_or_else(|| {
        Error::Recipe(RecipeError::Invalid {
            path,
            line: 1,
            column: 1,
            message: "missing field `base`".to_owned(),
            hint: Some(
                "a recipe outside of quicksand's repository lies on an image: base = \"debian\""
                    .to_owned(),
            ),
        })
    })
}

/// Reads the recipe in a folder, on a base whose disk holds `tree` and `disk_bytes`. The image is
/// called as the folder is.
fn load(folder: &Path, base: &Base, tree: &Tree, disk_bytes: u64) -> Result<Recipe, Error> {
    let path = folder.join(RECIPE);
    let text = recipe::read_text(&path)?;
    let below = describe(base, tree, disk_bytes)?;
    let body = recipe::parse_on(&text, &path, &below)?;
    let name = fs::canonicalize(folder)?
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    package_layout::image::check_name(&name)?;
    Ok(Recipe { name, folder: folder.to_owned(), body, base: Some(Box::new(below)) })
}

/// An installed image as the recipe that it might have been made from.
fn describe(base: &Base, tree: &Tree, disk_bytes: u64) -> Result<Recipe, Error> {
    let release = tree.read("etc/os-release")?.unwrap_or_else(|| [].into());
    let release = String::from_utf8_lossy(&release).into_owned();
    let field = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim().trim_matches('"').to_owned())
    };
    let distribution = Distribution {
        name: match field("ID").as_deref() {
            Some("ubuntu") => DistributionName::Ubuntu,
            Some("alpine") => DistributionName::Alpine,
            _ => DistributionName::Debian,
        },
        suite: field("VERSION_CODENAME").unwrap_or_default(),
        components: vec!["main".to_owned()],
        method: Method::Install,
    };
    let body = recipe::Body {
        base: None,
        version: base.version.clone(),
        summary: base.name.clone(),
        packages: Vec::new(),
        fragment_packages: Vec::new(),
        exclude: Vec::new(),
        keep: Vec::new(),
        commands: Vec::new(),
        distribution,
        kernel: Kernel { package: String::new(), initrd: Vec::new(), modules: Vec::new() },
        disk: Disk { size: DiskSize(disk_bytes) },
        root: None,
        defaults: recipe::Defaults::default(),
        user: Vec::new(),
        file: Vec::new(),
        link: Vec::new(),
        links: Vec::new(),
        wheel: Vec::new(),
        checks: BTreeMap::new(),
    };
    Ok(Recipe { name: base.name.clone(), folder: PathBuf::new(), body, base: None })
}

/// The packages of a tree as a lock names them, without the files that they came from.
fn as_locked(tree: &Tree, time: i64) -> Result<ArchLock, Error> {
    let package = database::installed(tree)?
        .into_iter()
        .map(|package| Package {
            name: package.name,
            version: package.version,
            arch: package.arch,
            archive: String::new(),
            path: String::new(),
            size: 0,
            sha256: String::new(),
        })
        .collect();
    Ok(ArchLock {
        request: String::new(),
        source_date: time,
        release: Vec::new(),
        package,
        kernel: None,
        kernel_modules: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
