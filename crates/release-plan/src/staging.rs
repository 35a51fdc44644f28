//! The folder of wheels that is uploaded: true, whole, and under names that the public index takes.
//!
//! Apart from the upload, so that these very files can be attested before it, whose names and digests an attestation
//! holds. Wheels with programs carry the manylinux tag that their audit proves. Image wheels are built and retagged as
//! `linux_*`, as the installation document's table names them; the public index refuses that family, so that they ship
//! under the manylinux name instead. They hold no program of the host: that promise is kept anywhere.

use crate::{
    Error,
    index::{copy_for_all, readable_by_all},
    name_of,
    plan::shipped,
    publish::{check_accepted, check_sizes},
    verify::{check_complete, check_true, look},
};
use fs_err as fs;
use host_platform::rename_whole_folder;
use std::path::{Path, PathBuf};
use wheel_audit::audit_wheel;
use wheel_retag::{WheelFileName, retag, wheels_in};

/// Checks the wheels of `folder` and makes the folder `to` of them, whole or not at all; `to` must be empty or not
/// there yet. The wheels in it are returned.
///
/// # Errors
/// Something about the wheels is not true, one is missing or not planned, or the index would refuse one.
pub fn stage(folder: &Path, to: &Path, max_file_bytes: u64) -> Result<Vec<PathBuf>, Error> {
    let to = std::path::absolute(to)?;
    let parent = to.parent().ok_or_else(|| Error::NotEmpty { folder: to.clone() })?;
    if to.exists() && fs::read_dir(&to)?.next().is_some() {
        return Err(Error::NotEmpty { folder: to });
    }
    let release = look(folder)?;
    check_true(&release)?;
    check_complete(&release)?;
    fs::create_dir_all(parent)?;
    let beside = tempfile::Builder::new().prefix(".staged-").tempdir_in(parent)?;
    for wheel in wheels_in(folder)? {
        take(&wheel, beside.path())?;
    }
    let wheels = wheels_in(beside.path())?;
    check_sizes(&wheels, max_file_bytes)?;
    check_accepted(&wheels, true)?;
    readable_by_all(beside.path())?;
    if to.exists() {
        fs::remove_dir(&to)?;
    }
    rename_whole_folder(&beside.keep(), &to)?;
    wheels_in(&to).map_err(Into::into)
}

/// The wheel itself, or a copy with a tag that the public index takes, in the folder `to`.
fn take(wheel: &Path, to: &Path) -> Result<(), Error> {
    let name: WheelFileName = name_of(wheel).parse()?;
    let tag = shipped(&name);
    // A program's tag is what its audit proves, never what is convenient.
    let is_kept = tag == name.tag || !audit_wheel(wheel)?.verdicts.is_empty();
    let staged = if is_kept { name } else { WheelFileName { tag: tag.clone(), ..name } };
    let copy = to.join(staged.to_string());
    if copy.exists() {
        return Err(Error::Twice { name: staged.to_string() });
    }
    if is_kept {
        copy_for_all(wheel, &copy)?;
    } else {
        retag(wheel, &tag, to)?;
    }
    Ok(())
}
