//! Writes what a transfer brings, below one path of the guest.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_protocol::{EntryKind, FileEntry, WriteFilesRequest, WriteFilesResponse};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::part::{self, Part};
use super::walk::{self, Place};
use super::{failed, path_of, refused, wrong_kind};
use crate::{Error, Result};

/// A transfer from the host.
pub struct Writer {
    /// Where the root goes.
    place: Place,
    /// The root, once it is a folder.
    root: Option<Arc<OwnedFd>>,
    /// The folder that was used last, with its path below the root: most entries lie beside another.
    recent: Option<(PathBuf, Arc<OwnedFd>)>,
    part: Option<Part>,
    /// Folders that were made and are being filled, each below the one before.
    filling: Vec<Folder>,
    written: WriteFilesResponse,
}

/// A folder that gets its mode and time when all that is in it is there: one without the right to
/// write takes no files, and each file changes the time.
struct Folder {
    path: PathBuf,
    open: Arc<OwnedFd>,
    mode: u32,
    mtime_ns: Option<i64>,
}

impl Writer {
    /// Finds the root and makes the folders above it.
    ///
    /// # Errors
    /// A path through a link that is not root's; folders that cannot be made.
    pub fn new(request: &WriteFilesRequest) -> Result<Self> {
        let path = path_of(&request.path);
        let mut place = walk::find(&path)?;
        if let Some(name) = &request.name {
            let name = OsStr::from_bytes(name.as_bytes()).to_owned();
            if let Some(folder) = &place.name {
                let kind = walk::look(place.folder.as_fd(), folder);
                if kind.is_ok_and(|stat| is_folder(stat.st_mode)) {
                    place.folder = walk::open_folder(place.folder.as_fd(), folder)
                        .map_err(refused("open", &path))?;
                    place.name = None;
                }
            }
            if place.name.is_none() {
                place.path.push(&name);
                place.name = Some(name);
            }
        }
        Ok(Self {
            place,
            root: None,
            recent: None,
            part: None,
            filling: Vec::new(),
            written: WriteFilesResponse::default(),
        })
    }

    /// Begins a file, or makes a folder or link.
    ///
    /// # Errors
    /// A path out of the tree; what the kernel refuses.
    pub fn entry(&mut self, entry: &FileEntry) -> Result<()> {
        self.finish_part()?;
        entry.components()?;
        let relative = path_of(&entry.path);
        self.leave_folders(&relative)?;
        let path = self.place.path.join(&relative);
        match (entry.kind, self.find(&relative, entry.kind)?) {
            (EntryKind::Other, _) => Ok(()),
            (EntryKind::Folder, (folder, name)) => {
                self.folder(&folder, name.as_deref(), &relative, entry)
            }
            (_, (_, None)) => Err(wrong_kind("write", &path, FileType::Directory)),
            (EntryKind::File, (folder, Some(name))) => {
                self.part = Some(Part::begin(folder, &name, &path, entry)?);
                Ok(())
            }
            (EntryKind::Link, (folder, Some(name))) => part::link(&folder, &name, &path, entry),
        }
    }

    /// Appends to the file whose entry came last.
    ///
    /// # Errors
    /// No file is open, or the kernel refuses.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.part()?.data(bytes)?;
        self.written.n_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Leaves a hole in the file whose entry came last.
    ///
    /// # Errors
    /// No file is open, or it would be larger than any.
    pub fn hole(&mut self, length: u64) -> Result<()> {
        self.part()?.hole(length)?;
        self.written.n_bytes = self.written.n_bytes.saturating_add(length);
        Ok(())
    }

    /// Finishes what is open and says what was written.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn finish(mut self) -> Result<WriteFilesResponse> {
        self.finish_part()?;
        while let Some(folder) = self.filling.pop() {
            self.leave(&folder)?;
        }
        Ok(self.written)
    }

    fn part(&mut self) -> Result<&mut Part> {
        let words = "Frame out of place: data follows the entry of a file";
        self.part.as_mut().ok_or_else(|| Error::Protocol(agent_protocol::Error::value(words, None)))
    }

    fn finish_part(&mut self) -> Result<()> {
        if let Some(part) = self.part.take() {
            part.finish()?;
            self.written.n_files += 1;
        }
        Ok(())
    }

    /// The folder and name of a path below the root, through links of root's alone. A link that is
    /// to be made replaces the one that is there; everything else goes where that one leads.
    fn find(
        &mut self,
        relative: &Path,
        kind: EntryKind,
    ) -> Result<(Arc<OwnedFd>, Option<OsString>)> {
        let Some(root) = &self.root else {
            let path = self.place.path.join(relative);
            let folder = self.place.folder.try_clone().map_err(failed("open", &path))?;
            if relative.as_os_str().is_empty() {
                return Ok((Arc::new(folder), self.place.name.clone()));
            }
            let words = "Entry out of place: the root comes first, and only a folder has more";
            return Err(Error::Protocol(agent_protocol::Error::value(words, None)));
        };
        let (Some(parent), Some(name)) = (relative.parent(), relative.file_name()) else {
            return Ok((Arc::clone(root), None));
        };
        let path = self.place.path.join(relative);
        let folder = match &self.recent {
            Some((recent, folder)) if recent == parent => Arc::clone(folder),
            _ => Arc::new(walk::find_folder(root.as_fd(), parent, &path)?),
        };
        self.recent = Some((parent.to_owned(), Arc::clone(&folder)));
        if kind == EntryKind::Link {
            return Ok((folder, Some(name.to_owned())));
        }
        let place = walk::find_below(folder.as_fd(), Path::new(name), &path)?;
        Ok((Arc::new(place.folder), place.name))
    }

    /// Makes a folder, or uses the one that is there as it is.
    fn folder(
        &mut self,
        parent: &OwnedFd,
        name: Option<&OsStr>,
        relative: &Path,
        entry: &FileEntry,
    ) -> Result<()> {
        let path = self.place.path.join(relative);
        let mut is_new = false;
        if let Some(name) = name {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => is_new = true,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(refused("create", &path)(error)),
            }
        }
        let name = name.unwrap_or(OsStr::new("."));
        let open = walk::open_folder(parent.as_fd(), name).map_err(refused("create", &path))?;
        let open = Arc::new(open);
        if relative.as_os_str().is_empty() {
            self.root = Some(Arc::clone(&open));
        }
        self.recent = Some((relative.to_owned(), Arc::clone(&open)));
        if is_new {
            let mode = entry.mode.unwrap_or(0o755) & 0o7777;
            let path = relative.to_owned();
            self.filling.push(Folder { path, open, mode, mtime_ns: entry.mtime_ns });
        }
        Ok(())
    }

    /// Finishes the folders that an entry of this path is not in.
    fn leave_folders(&mut self, relative: &Path) -> Result<()> {
        while let Some(folder) = self.filling.pop_if(|folder| !relative.starts_with(&folder.path)) {
            self.leave(&folder)?;
        }
        Ok(())
    }

    fn leave(&self, folder: &Folder) -> Result<()> {
        let path = self.place.path.join(&folder.path);
        rustix::fs::fchmod(&folder.open, Mode::from_raw_mode(folder.mode))
            .map_err(refused("set the mode of", &path))?;
        rustix::fs::futimens(&folder.open, &part::times(folder.mtime_ns))
            .map_err(refused("set the time of", &path))
    }
}

/// Folders of a transfer that broke off keep what they have, and get their modes.
impl Drop for Writer {
    fn drop(&mut self) {
        while let Some(folder) = self.filling.pop() {
            let _ = self.leave(&folder);
        }
    }
}

fn is_folder(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

#[cfg(test)]
mod tests;
