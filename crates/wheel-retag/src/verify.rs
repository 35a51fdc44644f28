//! Finds what installers let pass: pip and uv choose by the file name and check neither RECORD nor
//! whether the name, WHEEL and METADATA agree.
//!
//! Differences from `wheel unpack` and `check-wheel-contents`: the archive itself is checked too
//! (headers that disagree, overlaps, hidden entries, bombs), every finding of a wheel is reported,
//! not the first, and wheels of our own writer must be in its exact form, bit for bit.

mod archive_form;
pub(crate) mod dist_info;
mod entries;
mod own_form;
mod record_rows;
mod schemes;
mod scripts;

use crate::{Error, WheelFileName, archive::Archive};
use serde::Serialize;
use std::{fmt, path::Path};

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The file name is not a wheel's.
    FileName,
    /// The archive cannot be read, or its parts contradict each other.
    Archive,
    /// Two entries of one name.
    Duplicate,
    /// Two entries share bytes, or one hides between others.
    Overlap,
    /// A path that leaves the environment or means different files on different systems.
    Path,
    /// Two paths that are one file where case is ignored.
    CaseCollision,
    /// Two entries that are installed as one file, or one that pip installs nowhere.
    Scheme,
    /// A script that cannot be started.
    Script,
    /// A file that runs code at each start of Python.
    Startup,
    /// A mode that loses or grants too much.
    Mode,
    /// An entry that unpacks to far more than it should.
    Bomb,
    /// An entry whose bytes do not fit its checksum or size.
    Contents,
    /// RECORD cannot be read or has rows for nothing, or none for something.
    Record,
    /// A hash or size that RECORD says and the bytes do not have.
    Hash,
    /// WHEEL is missing, unreadable or of an unknown version.
    Wheel,
    /// The tags of WHEEL and of the file name differ.
    Tag,
    /// Name or version differ between file name, METADATA and the folders.
    Name,
    /// METADATA is missing or incomplete.
    Metadata,
    /// An SBOM is no SBOM.
    Sbom,
    /// A wheel of our writer is not as our writer writes it.
    OwnForm,
}

/// One thing that is wrong with a wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub check: Check,
    /// The path inside the archive, where it is about one entry.
    pub entry: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "`{}`: {}", entry.escape_debug(), self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Collects findings.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: Check, message: impl Into<String>) {
        self.0.push(Finding { check, entry: None, message: message.into() });
    }

    fn add_for(&mut self, entry: &str, check: Check, message: impl Into<String>) {
        let entry = Some(entry.to_owned());
        self.0.push(Finding { check, entry, message: message.into() });
    }
}

/// Everything that is wrong with the wheel; empty for a sound one. An error only when the file
/// cannot be read at all.
pub fn verify(path: &Path) -> Result<Vec<Finding>, Error> {
    Ok(verify_with_warnings(path)?.0)
}

/// What is wrong with the wheel, and what installers take and yet is to be looked at: scripts that cannot
/// be started (in a wheel of our own that is wrong), files that run code at each start of Python.
///
/// # Errors
/// When the file cannot be read at all.
pub fn verify_with_warnings(path: &Path) -> Result<(Vec<Finding>, Vec<Finding>), Error> {
    let mut warnings = Findings::default();
    let findings = find(path, &mut warnings)?;
    Ok((findings, warnings.0))
}

fn find(path: &Path, warnings: &mut Findings) -> Result<Vec<Finding>, Error> {
    let mut findings = Findings::default();
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = match file_name.parse::<WheelFileName>() {
        Ok(name) => Some(name),
        Err(error) => {
            findings.add(Check::FileName, error.to_string());
            None
        }
    };
    let mut archive = match Archive::open(path) {
        Ok(archive) => archive,
        Err(Error::Zip { source, .. }) => {
            findings.add(Check::Archive, format!("The archive cannot be read: {source}"));
            return Ok(findings.0);
        }
        Err(error) => return Err(error),
    };
    archive_form::check(&mut archive, &mut findings)?;
    let is_safe_to_read = entries::check(&archive, &mut findings);
    if !is_safe_to_read {
        return Ok(findings.0);
    }
    let info = dist_info::check(&mut archive, name.as_ref(), &mut findings);
    let hashed = record_rows::check(&mut archive, info.folder.as_deref(), &mut findings);
    entries::check_executables(&archive, &hashed, name.as_ref(), &mut findings);
    let of_scripts = if info.is_our_own { &mut findings } else { &mut *warnings };
    scripts::check(&archive, &hashed, name.as_ref(), of_scripts);
    schemes::check(&archive, &mut findings, warnings);
    if info.is_our_own {
        own_form::check(&mut archive, info.folder.as_deref(), &mut findings)?;
    }
    Ok(findings.0)
}
