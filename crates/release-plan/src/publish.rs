//! What an index would refuse, and an index of our own that is written where nothing is refused.
//!
//! Wheels keep their names here: `staging` is what gives them those that the public index takes.

use crate::{
    Error,
    attestation::{self, Attestations},
    index, name_of,
    pages::Listed,
    plan::is_refused,
    verify::{check_complete, check_true, look},
};
use fs_err as fs;
use std::path::{Path, PathBuf};
use wheel_retag::{WheelFileName, wheels_in};

/// What to publish, and where.
#[derive(Debug)]
pub struct Order<'a> {
    /// The folder with the wheels.
    pub folder: &'a Path,
    /// Where the index is written.
    pub index: &'a Path,
    /// The largest file that the index takes, in bytes.
    pub max_file_bytes: u64,
    /// Which attestations go with them.
    pub attestations: Attestations,
    /// Whether they are uploaded to the public index then, which asks for more.
    pub is_upload: bool,
}

/// What is ready to be uploaded.
#[derive(Debug)]
pub struct Ready {
    pub wheels: Vec<PathBuf>,
    /// Their attestations.
    pub attestations: Vec<PathBuf>,
    /// What the index says about each wheel.
    pub listed: Vec<Listed>,
    /// Names of the plan without a wheel.
    pub missing: Vec<String>,
    /// What the public index would refuse.
    pub warnings: Vec<String>,
}

/// Checks the wheels and writes the index.
///
/// # Errors
/// Something about the wheels is not true, the index would refuse one, an attestation is not of its wheel, or a file
/// cannot be written.
pub fn prepare(order: &Order<'_>) -> Result<Ready, Error> {
    let release = look(order.folder)?;
    check_true(&release)?;
    let wheels = wheels_in(order.folder)?;
    check_sizes(&wheels, order.max_file_bytes)?;
    if order.is_upload {
        check_accepted(&wheels, false)?;
        check_complete(&release)?;
    }
    let attestations = attestation::for_wheels(order.folder, &wheels, order.attestations)?;
    let listed = index::write(&wheels, order.index)?;
    let mut warnings: Vec<String> = refused(&wheels)
        .map(|wheel| Error::Refused { wheel, is_staged: false }.to_string())
        .collect();
    if !attestations.is_empty() && attestations.len() < wheels.len() {
        let (n, all) = (attestations.len(), wheels.len());
        warnings.push(format!("{n} of {all} wheels have attestations"));
    }
    Ok(Ready { wheels, attestations, listed, missing: release.missing, warnings })
}

/// An error when a file is larger than the index takes.
pub(crate) fn check_sizes(wheels: &[PathBuf], limit: u64) -> Result<(), Error> {
    let mut files = Vec::new();
    for wheel in wheels {
        let size = fs::metadata(wheel)?.len();
        if size > limit {
            files.push(format!("`{}` ({size} bytes)", wheel.display()));
        }
    }
    match files.is_empty() {
        true => Ok(()),
        false => Err(Error::TooLarge { limit, files }),
    }
}

/// An error when the public index would refuse a wheel's tag.
pub(crate) fn check_accepted(wheels: &[PathBuf], is_staged: bool) -> Result<(), Error> {
    match refused(wheels).next() {
        Some(wheel) => Err(Error::Refused { wheel, is_staged }),
        None => Ok(()),
    }
}

/// The names of the wheels that the public index would refuse.
fn refused(wheels: &[PathBuf]) -> impl Iterator<Item = String> {
    wheels.iter().map(|wheel| name_of(wheel)).filter(|name| {
        let platforms =
            name.parse::<WheelFileName>().map_or_else(|_| Vec::new(), |name| name.tag.platforms);
        platforms.iter().any(|platform| is_refused(platform))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_over_the_limit_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, size: usize| {
            let path = folder.path().join(name);
            fs::write(&path, vec![0; size]).unwrap();
            path
        };
        let wheels = [file("a.whl", 101), file("b.whl", 100)];
        assert!(check_sizes(&wheels, 101).is_ok());
        let error = check_sizes(&wheels, 100).unwrap_err().to_string();
        assert!(error.contains("a.whl` (101 bytes)") && !error.contains("b.whl"), "{error}");
    }

    #[test]
    fn the_public_index_refuses_plain_linux() {
        let check = |platform: &str| {
            check_accepted(&[PathBuf::from(format!("d/q-1-py3-none-{platform}.whl"))], false)
        };
        assert!(check("linux_x86_64").is_err());
        assert!(check("manylinux_2_17_x86_64").is_ok());
        assert!(check("win_amd64").is_ok());
    }
}
