//! Where Windows looks for a DLL: the program's own folder first ("Dynamic-link library search
//! order"). The folders of the machine's PATH are not searched: what is there is not the program's.

use super::{Hit, Object, Root};
use crate::error::Error;
use std::path::{Path, PathBuf};

/// The DLL `name` for the first of `chain`; the last is the program.
pub(super) fn search(
    root: &Root,
    name: &str,
    chain: &[&Object],
    more: &[PathBuf],
) -> Result<Option<Hit>, Error> {
    let own = chain.last().and_then(|program| program.file.parent());
    let beside = chain[0].file.parent();
    for folder in own.into_iter().chain(beside).chain(more.iter().map(PathBuf::as_path)) {
        if let Some(file) = without_case(&root.join(folder), name)? {
            return Ok(Some(Hit::plain(file)));
        }
    }
    Ok(None)
}

/// Windows compares names without case; the host's file system may not.
fn without_case(folder: &Path, name: &str) -> Result<Option<PathBuf>, Error> {
    let exact = folder.join(name);
    if exact.is_file() {
        return Ok(Some(exact));
    }
    let Ok(entries) = fs_err::read_dir(folder) else { return Ok(None) };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().eq_ignore_ascii_case(name) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}
