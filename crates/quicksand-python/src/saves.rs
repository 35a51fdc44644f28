//! Saves on disk for Python: checks, lists, removals, and saves as one file.
//!
//! Answers are JSON in the words of `python/quicksand/_saves.py`; what a save is, is `sandbox`'s
//! business.

use crate::errors;
use pyo3::prelude::*;
use runtime_locator::Search;
use sandbox::save;
use std::path::Path;

/// Runs what reads and writes files without the interpreter's lock.
fn off_lock<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&Search) -> sandbox::Result<T> + Send,
) -> PyResult<T> {
    py.detach(|| work(&Search::from_process(Vec::new()))).map_err(|error| errors::raise(&error))
}

/// Checks a save, and gives its manifest.
#[pyfunction]
pub fn validate_save(py: Python<'_>, path: &str) -> PyResult<String> {
    off_lock(py, |search| {
        let path = save::find(search, path, None)?;
        Ok(save::validate(&path)?.to_json())
    })
}

/// All saves.
#[pyfunction]
pub fn list_saves(py: Python<'_>, workspace: Option<&str>) -> PyResult<String> {
    let saves = off_lock(py, |search| Ok(save::list(search, workspace.map(Path::new))))?;
    Ok(serde_json::to_value(saves).unwrap_or_default().to_string())
}

/// Removes a save.
#[pyfunction]
pub fn remove_save(py: Python<'_>, name: &str, workspace: Option<&str>) -> PyResult<()> {
    off_lock(py, |search| save::remove(&save::find(search, name, workspace.map(Path::new))?))
}

/// Writes a save to one file, and gives its manifest.
#[pyfunction]
pub fn export_save(
    py: Python<'_>,
    name: &str,
    file: &str,
    workspace: Option<&str>,
) -> PyResult<String> {
    off_lock(py, |search| {
        let path = save::find(search, name, workspace.map(Path::new))?;
        Ok(save::export(&path, Path::new(file))?.to_json())
    })
}

/// Makes a save of one file, and gives its manifest.
#[pyfunction]
pub fn import_save(
    py: Python<'_>,
    file: &str,
    name: &str,
    workspace: Option<&str>,
    replace: bool,
) -> PyResult<String> {
    off_lock(py, |search| {
        let target = save::place(search, name, workspace.map(Path::new))?;
        let data_dir = search.data_dir.as_deref();
        Ok(save::import(Path::new(file), &target, replace, data_dir)?.to_json())
    })
}
