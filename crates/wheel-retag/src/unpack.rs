//! Writes the files of a wheel into a folder, for an installer.
//!
//! Must not know where files belong in an environment: the tree in the folder is the archive's,
//! `.data` folder included. Differences from Python's `zipfile`: a path that leaves the folder is
//! refused instead of bent, links are never made, and every file is new.

use crate::{Error, RecordRow, archive::Archive, check_entry_path};
use fs_err as fs;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::Path,
};

/// A file that was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Its path inside the wheel with the hash and size of what was written, in RECORD's form.
    pub row: RecordRow,
    /// Whether it has executable bits.
    pub executable: bool,
}

/// Writes every file of the wheel below `into`, which must be an empty folder, and says what was
/// written in the archive's order. Modes are those that the process' umask leaves of 0666 and
/// 0777. The wheel should have been through [`crate::verify`] before.
pub fn unpack(wheel: &Path, into: &Path) -> Result<Vec<Unpacked>, Error> {
    let mut archive = Archive::open(wheel)?;
    let mut unpacked = Vec::with_capacity(archive.entries.len());
    for index in 0..archive.entries.len() {
        let entry = archive.entries[index].clone();
        if entry.is_dir() {
            continue;
        }
        check_entry_path(&entry.name).map_err(|problem| Error::EntryPath {
            entry: entry.name.clone(),
            reason: problem.to_string(),
        })?;
        if entry.is_special() {
            let reason = "it is no plain file".to_owned();
            return Err(Error::EntryPath { entry: entry.name, reason });
        }
        let path = into.join(&entry.name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use fs_err::os::unix::fs::OpenOptionsExt as _;
            options.mode(if entry.is_executable() { 0o777 } else { 0o666 });
        }
        let mut file = options.open(&path).map_err(Error::io("write", &path))?;
        let mut digest = Sha256::new();
        let mut written: io::Result<()> = Ok(());
        let size = archive
            .read_pieces(index, |piece| {
                digest.update(piece);
                if written.is_ok() {
                    written = file.write_all(piece);
                }
            })
            .map_err(|source| Error::Entry {
                path: wheel.to_owned(),
                entry: entry.name.clone(),
                source,
            })?;
        written.map_err(Error::io("write", &path))?;
        unpacked.push(Unpacked {
            row: RecordRow::new(&entry.name, &digest.finalize(), size),
            executable: entry.is_executable(),
        });
    }
    Ok(unpacked)
}

/// The texts of the wheel's `.dist-info` folder that have these names, such as `METADATA`.
pub fn read_dist_info(wheel: &Path, names: &[&str]) -> Result<BTreeMap<String, String>, Error> {
    let mut archive = Archive::open(wheel)?;
    let mut texts = BTreeMap::new();
    for index in 0..archive.entries.len() {
        let entry = archive.entries[index].name.clone();
        let Some((folder, name)) = entry.split_once('/') else { continue };
        if !folder.ends_with(".dist-info") || !names.contains(&name) {
            continue;
        }
        let failed = |source| Error::Entry { path: wheel.to_owned(), entry: entry.clone(), source };
        let bytes = archive.read_text(index).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|error| failed(io::Error::other(error)))?;
        texts.insert(name.to_owned(), text);
    }
    Ok(texts)
}
