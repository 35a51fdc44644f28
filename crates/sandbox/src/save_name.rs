//! What may be the name of a save: the rules of names, and those of folders that are named by their paths.

use crate::error::{Error, Result};
use std::path::Path;

/// What one may be called.
const NAMES: &str = "a name such as `my-env`, or an absolute path";

/// Checks that something may be the name of a save, before anything is looked at.
///
/// # Errors
/// [`Error::InvalidValue`] for an empty name, for what leads out of the folder of saves, and for
/// the root and the home folder.
pub fn check_name(name: &str) -> Result<()> {
    let refused = |hint: &str| Error::InvalidValue {
        option: "save",
        value: name.to_owned(),
        allowed: NAMES.into(),
        hint: Some(hint.to_owned()),
    };
    let path = Path::new(name);
    if !path.is_absolute() {
        if name.starts_with('~') {
            return Err(refused("Nothing replaces `~` here; give the whole path"));
        }
        return package_layout::save::check_name(name).map_err(|error| {
            refused(&error.hint().unwrap_or_else(|| "Give it a plain name".into()))
        });
    }
    let is_plain = |part| !matches!(part, std::path::Component::ParentDir);
    if path.file_name().is_none() || !path.components().all(is_plain) || name.contains('\0') {
        return Err(refused("Name a folder of its own, without `..`"));
    }
    if std::env::home_dir().is_some_and(|home| home.starts_with(path)) {
        return Err(refused("The home folder, and what it is in, are no saves"));
    }
    Ok(())
}
