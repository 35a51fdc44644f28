//! The other tags of the image wheels of a folder. The matrix is `wheel_retag::RETAGS`.
//!
//! What the matrix allows by name is looked into as well: a wheel that holds a program of its host
//! would lie under another host's tag.

use crate::{Error, audit_wheel};
use std::path::{Path, PathBuf};
use wheel_retag::{Runner, WheelTag, retag_each, retags, wheels_in};

/// What came of a folder.
#[derive(Debug)]
pub struct Retagged {
    /// The new wheels, by name.
    pub made: Vec<PathBuf>,
    /// Wheels that the matrix names and that hold programs, in words.
    pub warnings: Vec<String>,
}

/// Adds the other tags of a runner's wheels in a folder. Everything is decided before the first wheel is written.
///
/// # Errors
/// A wheel cannot be read or written, or two would get one name.
pub fn retag_images(folder: &Path, runner: Runner) -> Result<Retagged, Error> {
    let mut plan: Vec<(PathBuf, Vec<WheelTag>)> = Vec::new();
    let mut warnings = Vec::new();
    for wheel in wheels_in(folder)? {
        let name = wheel.file_name().unwrap_or_default().to_string_lossy();
        let tags = retags(runner, &name.parse()?);
        if tags.is_empty() {
            continue;
        }
        match audit_wheel(&wheel)?.verdicts.first() {
            None => plan.push((wheel, tags)),
            Some(verdict) => warnings.push(format!(
                "`{}` is not retagged: it holds programs for {}",
                wheel.display(),
                verdict.tag
            )),
        }
    }
    let made = retag_each(&plan, folder)?;
    Ok(Retagged { made, warnings })
}
