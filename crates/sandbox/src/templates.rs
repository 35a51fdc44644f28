//! The templates of this user, as the command lists and removes them.
//!
//! Only Linux has any: elsewhere the lists are empty.

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
    return crate::template::list(search)
        .map_err(|source| Error::System { action: "list the templates", source });
    #[cfg(not(target_os = "linux"))]
    {
        let _ = search;
        Ok::<_, Error>(Vec::new())
    }
}

/// Removes a template. Machines that were copied from it go on.
pub fn remove(search: &Search, key: &str) {
    #[cfg(target_os = "linux")]
    crate::template::remove(search, key);
    #[cfg(not(target_os = "linux"))]
    let _ = (search, key);
}
