//! Bills of materials in wheels against CycloneDX's own schema, by its project's library for Python, which
//! carries the schemas.

use crate::{context::Context, preflight::Needs, setup, ui::hinted};
use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use std::path::{Path, PathBuf};

/// What carries the schemas and judges by them, pinned.
const VALIDATOR: &[&str] = &["cyclonedx-python-lib[json-validation]==11.12.0"];
/// Reads bills and prints what is wrong.
const SCRIPT: &str = include_str!("bills.py");
/// How the names of bills end.
const SUFFIX: &str = ".cdx.json";
/// A bill whose component has no type, which the schema asks for.
const FALSE: &str =
    r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "x"}]}"#;

/// What the check needs.
pub fn needs(context: &Context) -> Needs {
    setup::needs_of_python_tools(context, VALIDATOR)
}

/// Validates every bill in these wheels, and gives how many there are. A wheel without one is not wrong here.
///
/// # Errors
/// A bill is not what the schema says; each fault is named with its wheel.
pub fn check(context: &Context, wheels: &[PathBuf]) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let mut bills = Vec::new();
    for wheel in wheels {
        bills.extend(extract(wheel, folder.path())?);
    }
    if bills.is_empty() {
        return Ok(0);
    }
    let python = setup::python_tools(context, VALIDATOR)?.join("python");
    let (script, wrong) = (folder.path().join("bills.py"), folder.path().join("false.json"));
    fs::write(&script, SCRIPT)?;
    fs::write(&wrong, FALSE)?;
    let files = [script, wrong].into_iter().chain(bills.iter().cloned());
    let said = cmd(python, files).env("PYTHONDONTWRITEBYTECODE", "1").stderr_capture().read();
    let faults = said.context("The bills of materials cannot be validated")?;
    if faults.is_empty() {
        return Ok(bills.len());
    }
    Err(hinted(
        format!("Bills of materials are not as CycloneDX's schema has them:\n{faults}"),
        "they are written by crates/bill-of-materials; the format: https://cyclonedx.org/docs/1.6/json/",
    ))
}

/// Writes a wheel's bills into a folder, by the wheel's name.
fn extract(wheel: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut bills = Vec::new();
    wheel_retag::read_entries(wheel, |path, _, reader| {
        if path.contains(".dist-info/sboms/") && path.ends_with(SUFFIX) {
            let bill = folder.join(format!("{name}-{}{SUFFIX}", bills.len()));
            let mut file = fs::File::create(&bill)?;
            std::io::copy(reader, &mut file)?;
            bills.push(bill);
        }
        Ok(())
    })?;
    Ok(bills)
}
