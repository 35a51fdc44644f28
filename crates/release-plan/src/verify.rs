//! Whether a folder of wheels is the release: every wheel is sound, every tag is true, and which are missing.

use crate::{Error, Plan, name_of};
use serde::Serialize;
use std::path::Path;
use wheel_audit::{Verified, audit_wheel, check_sound};
use wheel_retag::wheels_in;

/// What is true of a folder of wheels.
#[derive(Debug, Serialize)]
pub struct Release {
    /// Whether nothing was found; completeness is apart.
    pub is_true: bool,
    /// Each wheel with what `verify` finds.
    pub wheels: Vec<Verified>,
    /// Tags that promise more than the files hold: wheel, claim, reason.
    pub lies: Vec<(String, String, String)>,
    /// Wheels of the plan that are not there.
    pub missing: Vec<String>,
    /// Wheels that are there and not planned.
    pub unplanned: Vec<String>,
}

/// Looks at every wheel of the folder.
///
/// # Errors
/// It has no wheels, or one cannot be read.
pub fn look(folder: &Path) -> Result<Release, Error> {
    let files = wheels_in(folder)?;
    if files.is_empty() {
        return Err(Error::NoWheels { folder: folder.to_owned() });
    }
    let mut release = Release {
        is_true: true,
        wheels: files.iter().map(|file| Verified::verify(file)).collect(),
        lies: Vec::new(),
        missing: Vec::new(),
        unplanned: Vec::new(),
    };
    let mut names = Vec::new();
    for (file, verified) in files.iter().zip(&release.wheels) {
        let name = name_of(file);
        // What is no sound archive is not read any further.
        if verified.is_sound {
            let lies = audit_wheel(file)?.lies.into_iter();
            release.lies.extend(lies.map(|lie| (name.clone(), lie.claim, lie.reason)));
        }
        names.push(name);
    }
    let plan = Plan::from_this_tree();
    release.missing = plan.missing(&names);
    release.unplanned = plan.unplanned(&names);
    release.is_true = release.lies.is_empty() && release.wheels.iter().all(|w| w.is_sound);
    Ok(release)
}

/// An error when something is not true.
///
/// # Errors
/// A wheel is not sound, or claims a tag that its binaries do not bear.
pub fn check_true(release: &Release) -> Result<(), Error> {
    check_sound(&release.wheels)?;
    match release.lies.first().cloned() {
        Some((wheel, claim, reason)) => Err(Error::Untrue { wheel, claim, reason }),
        None => Ok(()),
    }
}

/// An error when it is not the plan's.
///
/// # Errors
/// A wheel of the plan is missing, or one is there that is not planned.
pub fn check_complete(release: &Release) -> Result<(), Error> {
    if release.missing.is_empty() && release.unplanned.is_empty() {
        return Ok(());
    }
    let (missing, unplanned) = (release.missing.clone(), release.unplanned.clone());
    Err(Error::NotThePlan { missing, unplanned })
}
