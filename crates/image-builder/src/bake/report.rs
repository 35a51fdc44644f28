//! The report of a bake: what the image is, its files by digest, what it was made from, what was proved.
//!
//! It is no part of the wheel: the same lock gives the same wheel, and no two boots take the same time.

use super::Finished;
use crate::recipe::Recipe;
use fs_err as fs;
use host_platform::Arch;
use serde_json::{Map, Value, json};
use std::{io, path::Path};

/// What the report of an image is called.
pub fn report_name(recipe: &Recipe, arch: Arch) -> String {
    format!("{}-{}-{}.json", recipe.name, recipe.body.version, arch.image_name())
}

impl Finished {
    /// The report; `proof` is null where nothing was proved.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn report(&self, recipe: &Recipe, arch: Arch, proof: &Value) -> io::Result<Value> {
        let mut files = Map::new();
        for (made, name) in &self.files {
            files.insert(name.clone(), digest(made)?);
        }
        let wheel = self.wheel.file_name().unwrap_or_default().to_string_lossy();
        files.insert(wheel.into_owned(), digest(&self.wheel)?);
        let lock = self.locks.last();
        Ok(json!({
            "image": recipe.name,
            "version": recipe.body.version,
            "arch": arch.image_name(),
            "base": recipe.body.base,
            "files": files,
            "source_date": lock.map(|lock| lock.source_date),
            "n_packages": lock.map(|lock| lock.all().count()),
            "proof": proof,
        }))
    }
}

fn digest(path: &Path) -> io::Result<Value> {
    let bytes = fs::metadata(path)?.len();
    Ok(json!({"sha256": checksum::sha256_of(fs::File::open(path)?)?, "bytes": bytes}))
}
