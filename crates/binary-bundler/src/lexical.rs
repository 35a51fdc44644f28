//! Paths without links, resolved by name alone: those of a wheel's entries, and those that a linker writes.

use std::path::{Component, Path, PathBuf};

/// Resolves `.` and `..`: inside a wheel there are no links, and gcc names its start files by paths such as
/// `12/../../../x.o`. What leads above the top keeps its `..`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}
