//! What `wheel_retag::verify` finds of many wheels, as one record of each: for JSON and for people.

use crate::Error;
use serde::Serialize;
use std::path::{Path, PathBuf};
use wheel_retag::{Finding, verify_with_warnings, wheels_in};

/// What was found about one wheel.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// The wheel.
    pub file: PathBuf,
    /// Whether it could be read and nothing was found.
    pub is_sound: bool,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// What installers take and yet is to be looked at.
    pub warnings: Vec<Finding>,
    /// Why it could not be read at all.
    pub error: Option<String>,
}

impl Verified {
    /// Verifies one wheel.
    pub fn verify(file: &Path) -> Self {
        let ((findings, warnings), error) = match verify_with_warnings(file) {
            Ok(found) => (found, None),
            Err(error) => (Default::default(), Some(with_causes(&error))),
        };
        let is_sound = findings.is_empty() && error.is_none();
        Self { file: file.to_owned(), is_sound, findings, warnings, error }
    }

    /// A line for each thing that was found.
    pub fn lines(&self) -> Vec<String> {
        let file = self.file.display();
        let sound = self.is_sound.then(|| format!("{file}: sound"));
        let error = self.error.as_ref().map(|error| format!("{file}: {error}"));
        let findings = self.findings.iter().map(|finding| format!("{file}: {finding}"));
        let warnings = self.warnings.iter().map(|warning| format!("{file}: warning: {warning}"));
        sound.into_iter().chain(error).chain(findings).chain(warnings).collect()
    }
}

/// An error when a wheel is not sound.
///
/// # Errors
/// One is not.
pub fn check_sound(wheels: &[Verified]) -> Result<(), Error> {
    let n_unsound = wheels.iter().filter(|wheel| !wheel.is_sound).count();
    match n_unsound {
        0 => Ok(()),
        _ => Err(Error::Unsound { n_unsound, n_wheels: wheels.len() }),
    }
}

/// Wheels as they are named, and for a folder the wheels in it.
///
/// # Errors
/// A folder cannot be read or has none.
pub fn expanded(files: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut list = Vec::new();
    for file in files {
        if !file.is_dir() {
            list.push(file.clone());
            continue;
        }
        let wheels = wheels_in(file)?;
        if wheels.is_empty() {
            return Err(Error::NoWheels { folder: file.clone() });
        }
        list.extend(wheels);
    }
    Ok(list)
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
