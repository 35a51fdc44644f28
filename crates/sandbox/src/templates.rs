//! The templates of this user: files of machines that have booted once (`store`), each under the digest of
//! what it depends on (`key`). How they come about and what a start does with them is `warm`'s.
//!
//! Only Linux has any: elsewhere the lists are empty.

#[cfg(target_os = "linux")]
pub(crate) mod key;
#[cfg(target_os = "linux")]
mod store;

#[cfg(target_os = "linux")]
pub(crate) use store::{Parts, Store, Template};

use crate::error::{Error, Result};
use runtime_locator::Search;
use std::time::SystemTime;

/// A machine that has booted once and is copied at later starts.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateEntry {
    /// What it depends on, as a digest.
    pub key: String,
    /// The image that it was made of.
    pub image: String,
    /// The bytes that it takes on the disk.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
}

/// All templates, the one that was used last first.
///
/// # Errors
/// [`Error::System`] when the folder of templates cannot be read, or is not this user's alone.
pub fn list(search: &Search) -> Result<Vec<TemplateEntry>> {
    #[cfg(target_os = "linux")]
    return match &search.cache_dir {
        Some(folder) if folder.join(store::FOLDER).is_dir() => {
            let listed = Store::open(folder).and_then(|store| store.list());
            listed.map_err(|source| Error::System { action: "list the templates", source })
        }
        _ => Ok(Vec::new()),
    };
    #[cfg(not(target_os = "linux"))]
    {
        let _ = search;
        Ok::<_, Error>(Vec::new())
    }
}

/// Removes a template. Machines that were copied from it go on.
pub fn remove(search: &Search, key: &str) {
    #[cfg(target_os = "linux")]
    if let Some(store) = store_of(search) {
        store.remove(key);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (search, key);
}

/// The folder of this user's templates, where there can be one.
#[cfg(target_os = "linux")]
pub(crate) fn store_of(search: &Search) -> Option<Store> {
    search.cache_dir.as_deref().and_then(|folder| Store::open(folder).ok())
}
