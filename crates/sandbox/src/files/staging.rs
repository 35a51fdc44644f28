//! What a download has written so far, and the step that puts it into its place.
//!
//! A file has no name until the transfer is complete (`new_file.rs`); a tree is written beside its
//! place, readable by this user alone, and is removed when this process is killed. Folders above the place are made with it. Invariant: nothing of
//! the host is replaced unless the caller asked for it. That is decided by the kernel in the step that
//! gives the name, so that what somebody makes there meanwhile is not replaced either.

use super::file_error;
use crate::error::{Error, Result};
#[cfg(unix)]
use crate::new_file::set_mode;
use crate::new_file::{HiddenName, NewFile, make_hidden_folder, remove_tree, rename_new, sweep};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What hidden names of downloads start with. It is not that of saves that are being written.
pub(super) const PREFIX: &str = ".quicksand-download-";

/// Where a transfer goes in the end.
pub(super) struct Place {
    /// The open folder, or the lowest one above it that is there.
    pub folder: Dir,
    /// The folders below it that are made for the transfer.
    missing: Vec<OsString>,
    /// The name in it; `None` for a tree that goes into the folder itself.
    pub name: Option<OsString>,
    /// The whole path, for messages.
    pub path: PathBuf,
    /// Whether files that are there may be replaced.
    pub overwrite: bool,
}

impl Place {
    /// A name in a folder, which is made in the end when it is missing.
    pub fn named(folder: &Path, name: OsString, overwrite: bool) -> Result<Self> {
        let path = folder.join(&name);
        let failed = |error| file_error("write", &path, error);
        let mut missing = Vec::new();
        let mut above = folder;
        while let (Err(_), Some(last), Some(next)) =
            (fs_err::symlink_metadata(above), above.file_name(), above.parent())
        {
            missing.push(last.to_owned());
            above = next;
        }
        missing.reverse();
        // Only the system knows where `..` leads below what is not there yet.
        if above.ends_with("..") && fs_err::symlink_metadata(above).is_err() {
            fs_err::create_dir_all(above).map_err(failed)?;
        }
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        Ok(Self { folder: open(above, &path)?, missing, name: Some(name), path, overwrite })
    }

    /// A folder that is there.
    pub fn within(folder: &Path, overwrite: bool) -> Result<Self> {
        let path = folder.to_owned();
        let folder = open(folder, folder)?;
        Ok(Self { folder, missing: Vec::new(), name: None, path, overwrite })
    }

    /// What is in the way of a file of this name.
    pub fn check_file(&self) -> Result<()> {
        match &self.name {
            Some(name) if self.missing.is_empty() => self.check_name(&self.folder, name),
            _ => Ok(()),
        }
    }

    fn check_name(&self, folder: &Dir, name: &OsStr) -> Result<()> {
        match folder.symlink_metadata(name) {
            Ok(there) if there.is_dir() => Err(exists(&self.path, "it is a folder", false)),
            Ok(_) if !self.overwrite => Err(exists(&self.path, "it exists already", true)),
            _ => Ok(()),
        }
    }
}

/// The folders that were made above a place, each with the folder that it is in. They go with this
/// value, unless something is in them.
struct Made(Vec<(Dir, OsString)>);

impl Made {
    /// Makes what is missing, and opens the folder of the place.
    fn folders(place: &Place) -> io::Result<(Dir, Self)> {
        let mut made = Self(Vec::new());
        let mut folder = place.folder.try_clone()?;
        for name in &place.missing {
            match folder.create_dir(name) {
                Ok(()) => made.0.push((folder.try_clone()?, name.clone())),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            folder = folder.open_dir(name)?;
        }
        Ok((folder, made))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (folder, name) in self.0.iter().rev() {
            // One that is not empty is somebody's.
            let _ = folder.remove_dir(name);
        }
    }
}

fn open(folder: &Path, path: &Path) -> Result<Dir> {
    Dir::open_ambient_dir(folder, ambient_authority())
        .map_err(|error| file_error("write", path, error))
}

/// A file or folder that is not in its place yet; it goes when this value does.
pub(super) struct Staging {
    place: Place,
    written: Written,
}

enum Written {
    Nothing,
    File(NewFile),
    /// A folder with a hidden name, and its lock.
    Tree(HiddenName, #[allow(dead_code, reason = "it is held")] Option<File>),
}

impl Staging {
    /// Nothing is made yet.
    pub fn new(place: Place) -> Self {
        Self { place, written: Written::Nothing }
    }

    /// The place that it gets, for messages.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Begins a file.
    pub fn file(&mut self) -> io::Result<File> {
        let new = NewFile::create(&self.place.folder, PREFIX)?;
        let file = new.file().try_clone()?;
        self.written = Written::File(new);
        Ok(file)
    }

    /// Begins a tree.
    pub fn tree(&mut self) -> io::Result<Dir> {
        let folder = &self.place.folder;
        sweep(folder, PREFIX);
        let (name, lock) = make_hidden_folder(folder, PREFIX)?;
        let tree = folder.open_dir(&*name);
        self.written = Written::Tree(name, lock);
        tree
    }

    /// Puts it into its place.
    pub fn commit(mut self) -> Result<()> {
        let Self { place, written } = &mut self;
        let path = &place.path;
        let failed = |error| file_error("write", path, error);
        let (folder, mut made) = Made::folders(place).map_err(failed)?;
        let placed = match (&mut *written, &place.name) {
            (Written::Nothing, _) => Ok(()),
            (Written::File(file), Some(name)) if place.overwrite => {
                place.check_name(&folder, name)?;
                // Only what is there needs a rename.
                match file.place(&folder, name) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        file.replace(&folder, name)
                    }
                    placed => placed,
                }
            }
            (Written::File(file), Some(name)) => file.place(&folder, name),
            (Written::File(_), None) => Err(ErrorKind::IsADirectory.into()),
            (Written::Tree(beside, _), Some(name)) => {
                move_folder((&place.folder, beside), (&folder, name))
            }
            (Written::Tree(beside, _), None) => {
                let from = place.folder.open_dir(&**beside).map_err(failed)?;
                merge(&from, &folder, path, place.overwrite)?;
                drop(from);
                place.folder.remove_dir(&**beside)
            }
        };
        match placed {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(exists(path, "it exists already", true));
            }
            placed => placed.map_err(failed)?,
        }
        *written = Written::Nothing;
        made.0.clear();
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Written::Tree(name, _) = &self.written
            && let Err(error) = remove_tree(&self.place.folder, name)
        {
            let folder = self.place.path.display();
            tracing::warn!(%folder, %error, "what a download had written could not be removed");
        }
    }
}

/// An error that says what is in the way.
pub(super) fn exists(path: &Path, reason: &'static str, can_overwrite: bool) -> Error {
    Error::HostExists { path: path.to_owned(), reason, can_overwrite }
}

/// Moves all that is in one folder into another. A folder that both have is merged; a link of the
/// host is never followed.
fn merge(from: &Dir, to: &Dir, path: &Path, overwrite: bool) -> Result<()> {
    let failed = |error| file_error("write", path, error);
    for item in from.entries().map_err(failed)? {
        let item = item.map_err(failed)?;
        let name = item.file_name();
        let path = path.join(&name);
        let failed = |error| file_error("write", &path, error);
        let is_folder = item.file_type().map_err(failed)?.is_dir();
        let moved = if is_folder {
            move_folder((from, &name), (to, &name))
        } else {
            rename_new((from, &name), (to, &name))
        };
        match moved {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => {
                result.map_err(failed)?;
                continue;
            }
        }
        let there = to.symlink_metadata(&name).map_err(failed)?;
        if is_folder != there.is_dir() {
            let reason = if is_folder { "it is not a folder" } else { "it is a folder" };
            return Err(exists(&path, reason, false));
        }
        if !overwrite {
            return Err(exists(&path, "it exists already", true));
        }
        if is_folder {
            // It goes in the end, and what is in it can only be moved by who may write there.
            #[cfg(unix)]
            set_mode((from, &name), 0o700).map_err(failed)?;
            let inner =
                (from.open_dir(&name).map_err(failed)?, to.open_dir(&name).map_err(failed)?);
            merge(&inner.0, &inner.1, &path, overwrite)?;
            from.remove_dir(&name).map_err(failed)?;
        } else {
            from.rename(&name, to, &name).map_err(failed)?;
        }
    }
    Ok(())
}

/// Moves a folder. One without the right to write cannot be moved as it is, since its `..` changes.
fn move_folder(from: (&Dir, &OsStr), to: (&Dir, &OsStr)) -> io::Result<()> {
    match rename_new(from, to) {
        #[cfg(unix)]
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            use cap_std::fs::MetadataExt as _;
            let mode = from.0.symlink_metadata(from.1)?.mode() & 0o777;
            if mode & 0o200 != 0 {
                return Err(error);
            }
            set_mode(from, mode | 0o200)?;
            rename_new(from, to)?;
            set_mode(to, mode)
        }
        result => result,
    }
}

/// A name of the guest as one of the host, when it can be one.
pub(super) fn host_name(name: &[u8]) -> Option<OsString> {
    #[cfg(unix)]
    return Some(std::os::unix::ffi::OsStringExt::from_vec(name.to_vec()));
    // Windows gives some characters a meaning.
    #[cfg(not(unix))]
    std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.contains(['\\', ':', '<', '>', '"', '|', '?', '*']))
        .map(OsString::from)
}
