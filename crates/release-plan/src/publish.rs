//! What an index would refuse, and an index of our own that is written where nothing is refused.
//!
//! Linux tags: wheels with programs carry the manylinux tag that their audit proves. Image wheels
//! are built and retagged as `linux_*`, as the installation document's table names them; the
//! public index refuses that family, so [`LinuxTags::Manylinux`] ships those wheels under the
//! manylinux name instead. They hold no program of the host, so that this promise is kept anywhere.

use crate::{
    Error, index, name_of,
    pages::Listed,
    verify::{check_true, look},
};
use fs_err as fs;
use std::path::{Path, PathBuf};
use wheel_audit::audit_wheel;
use wheel_retag::{WheelFileName, retag, wheels_in};

/// Platforms that the public index refuses, by their start.
const REFUSED_PLATFORMS: [&str; 1] = ["linux_"];

/// What replaces a refused `linux_` where nothing in the wheel forbids it.
const MANYLINUX: &str = "manylinux_2_17_";

/// What becomes of the tags `linux_*`, which the public index refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxTags {
    /// Kept: for an index of one's own.
    AsIs,
    /// Replaced by the manylinux tag where the wheel holds no program of the host.
    Manylinux,
}

/// What to publish, and where.
#[derive(Debug)]
pub struct Order<'a> {
    /// The folder with the wheels.
    pub folder: &'a Path,
    /// Where the index is written.
    pub index: &'a Path,
    /// The largest file that the index takes, in bytes.
    pub max_file_bytes: u64,
    /// What becomes of `linux_*`.
    pub linux_tags: LinuxTags,
    /// Whether they are uploaded to the public index then, which asks for more.
    pub is_upload: bool,
}

/// What is ready to be uploaded.
#[derive(Debug)]
pub struct Staged {
    /// The wheels under the names that they ship under.
    pub wheels: Vec<PathBuf>,
    /// What the index says about each.
    pub listed: Vec<Listed>,
    /// Names of the plan without a wheel.
    pub missing: Vec<String>,
    /// What the public index would refuse.
    pub warnings: Vec<String>,
    /// Holds the wheels that were given another name.
    _staging: tempfile::TempDir,
}

/// Checks the wheels and writes the index.
///
/// # Errors
/// Something about the wheels is not true, the index would refuse one, or a file cannot be written.
pub fn stage(order: &Order<'_>) -> Result<Staged, Error> {
    let release = look(order.folder)?;
    check_true(&release)?;
    let staging = tempfile::Builder::new().prefix("quicksand-publish-").tempdir()?;
    let mut wheels = Vec::new();
    for wheel in wheels_in(order.folder)? {
        wheels.push(match order.linux_tags {
            LinuxTags::AsIs => wheel,
            LinuxTags::Manylinux => accepted(&wheel, staging.path())?,
        });
    }
    check_sizes(&sizes(&wheels)?, order.max_file_bytes)?;
    let refused = refused(&wheels);
    if order.is_upload {
        check_upload(&refused, &release.missing, order.linux_tags)?;
    }
    let listed = index::write(&wheels, order.index)?;
    let warnings = refused
        .into_iter()
        .map(|wheel| Error::Refused { wheel, is_replaced: false }.to_string())
        .collect();
    Ok(Staged { wheels, listed, missing: release.missing, warnings, _staging: staging })
}

fn sizes(wheels: &[PathBuf]) -> Result<Vec<(String, u64)>, Error> {
    let size = |wheel: &PathBuf| Ok((wheel.display().to_string(), fs::metadata(wheel)?.len()));
    wheels.iter().map(size).collect()
}

fn check_sizes(sizes: &[(String, u64)], limit: u64) -> Result<(), Error> {
    let files: Vec<String> = sizes
        .iter()
        .filter(|(_, size)| *size > limit)
        .map(|(wheel, size)| format!("`{wheel}` ({size} bytes)"))
        .collect();
    match files.is_empty() {
        true => Ok(()),
        false => Err(Error::TooLarge { limit, files }),
    }
}

/// The names of the wheels that the public index would refuse.
fn refused(wheels: &[PathBuf]) -> Vec<String> {
    let is_refused = |name: &String| {
        let platforms =
            name.parse::<WheelFileName>().map_or_else(|_| Vec::new(), |name| name.tag.platforms);
        let is_such =
            |platform: &String| REFUSED_PLATFORMS.iter().any(|start| platform.starts_with(start));
        platforms.iter().any(is_such)
    };
    wheels.iter().map(|wheel| name_of(wheel)).filter(is_refused).collect()
}

/// What has to be true before anything is uploaded.
fn check_upload(refused: &[String], missing: &[String], tags: LinuxTags) -> Result<(), Error> {
    if let Some(wheel) = refused.first().cloned() {
        return Err(Error::Refused { wheel, is_replaced: tags == LinuxTags::Manylinux });
    }
    match missing.first().cloned() {
        Some(first) => Err(Error::Incomplete { n_missing: missing.len(), first }),
        None => Ok(()),
    }
}

/// The wheel itself, or a copy with a tag that the public index takes.
fn accepted(wheel: &Path, staging: &Path) -> Result<PathBuf, Error> {
    let name: WheelFileName = name_of(wheel).parse()?;
    let platforms: Vec<String> = name
        .tag
        .platforms
        .iter()
        .map(|platform| match platform.strip_prefix(REFUSED_PLATFORMS[0]) {
            Some(machine) => format!("{MANYLINUX}{machine}"),
            None => platform.clone(),
        })
        .collect();
    // A program's tag is what its audit proves, never what is convenient.
    if platforms == name.tag.platforms || !audit_wheel(wheel)?.verdicts.is_empty() {
        return Ok(wheel.to_owned());
    }
    Ok(retag(wheel, &name.tag.with_platforms(platforms), staging)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_over_the_limit_are_named() {
        let sizes = |size: u64| [("a.whl".to_owned(), size), ("b.whl".to_owned(), 1)];
        assert!(check_sizes(&sizes(100 << 20), 100 << 20).is_ok());
        let error = check_sizes(&sizes((100 << 20) + 1), 100 << 20).unwrap_err().to_string();
        assert!(error.contains("`a.whl` (104857601 bytes)") && !error.contains("b.whl"), "{error}");
    }

    #[test]
    fn an_upload_is_whole_and_accepted() {
        let wheels = |platform: &str| vec![PathBuf::from(format!("d/q-1-py3-none-{platform}.whl"))];
        assert_eq!(refused(&wheels("linux_x86_64")).len(), 1);
        assert_eq!(refused(&wheels("manylinux_2_17_x86_64")), Vec::<String>::new());
        assert_eq!(refused(&wheels("win_amd64")), Vec::<String>::new());
        let check = |refused: &[String], missing: &[String]| {
            check_upload(refused, missing, LinuxTags::AsIs).is_ok()
        };
        assert!(check(&[], &[]));
        assert!(!check(&["refused".into()], &[]));
        assert!(!check(&[], &crate::Plan::of_this_tree().missing(&[])));
    }
}
