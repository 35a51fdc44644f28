//! Takes what the guest sends and writes it to one place of the host. Blocking.
//!
//! Invariant: the guest chooses names and bytes below the place that the user named, and nothing
//! else. Four things see to it:
//! - whether the transfer is a file or a tree is compared with what the caller asked for;
//! - all of it is written into a new folder of ours (`staging.rs`), where there is nothing to replace
//!   and nothing to follow, and is put into its place when it is complete;
//! - an entry is a plain name in the folder that is being filled, or in one above it. A folder is
//!   finished when the walk leaves it, so that memory is bounded by the depth of the tree;
//! - a link is made only when its target climbs no further than the tree's root, and never after
//!   having descended, as `a/..` leads elsewhere when `a` is a link.

use super::attributes::{self, Attributes, Mask};
use super::staging::{self, Place, Staging, host_name};
use super::{DownloadOptions, Transfer, file_error};
use crate::agent_client::Part;
use crate::error::{Error, Result};
use crate::new_file;
use agent_protocol::{EntryKind, FileEntry, GuestText};
use cap_std::fs::Dir;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// What the caller asked for.
pub(crate) struct Request {
    pub guest: GuestText,
    pub host: PathBuf,
    pub options: DownloadOptions,
}

/// Takes parts until `None` says that the transfer is complete. After a queue that ends before it,
/// and after any error, nothing is there that was not there before.
pub(super) fn receive(
    mut queue: mpsc::Receiver<Option<Part>>,
    request: &Request,
) -> Result<Transfer> {
    let Some(Some(Part::Entry(first))) = queue.blocking_recv() else {
        return Err(refuse(&request.host, "the guest sent no root"));
    };
    let mut tree = Tree::begin(&first, request)?;
    while let Some(part) = queue.blocking_recv() {
        match part {
            Some(Part::Entry(entry)) => tree.entry(&entry)?,
            Some(Part::Data(data)) => tree.data(&data)?,
            Some(Part::Hole(length)) => tree.hole(length)?,
            None => return tree.finish(),
        }
    }
    Err(refuse(&request.host, "the transfer was broken off"))
}

/// Decides where the transfer goes. The kind of its root is the guest's word.
fn place(first: &FileEntry, request: &Request) -> Result<Place> {
    let Request { guest, host, options } = request;
    let (there, is_folder) = match fs_err::symlink_metadata(host) {
        Ok(_) => (true, fs_err::metadata(host).is_ok_and(|there| there.is_dir())),
        Err(error) if error.kind() == ErrorKind::NotFound => (false, false),
        Err(error) => return Err(file_error("write", host, error)),
    };
    let named = |overwrite| {
        let name = host.file_name().ok_or_else(|| refuse(host, "it has no file name"))?;
        let parent = host.parent().unwrap_or(Path::new(""));
        Place::named(parent, name.to_owned(), overwrite)
    };
    let wrong = |found, wanted| Error::WrongKind { path: guest.to_string(), found, wanted };
    match first.kind {
        EntryKind::File if options.tree == Some(true) => Err(wrong("a file", "a folder")),
        EntryKind::File if is_folder => {
            let name = last_name(guest).ok_or_else(|| refuse(host, "it is a folder"))?;
            Place::named(host, name, options.overwrite)
        }
        EntryKind::File => named(options.overwrite),
        EntryKind::Folder if options.tree == Some(false) => Err(wrong("a folder", "a file")),
        EntryKind::Folder if !there => named(false),
        // Into what is there goes a file, unless the caller has said that it wants a tree.
        EntryKind::Folder if options.tree.is_none() => Err(wrong("a folder", "a file")),
        EntryKind::Folder if !is_folder => Err(staging::exists(host, "it is not a folder", false)),
        EntryKind::Folder => {
            let mut items =
                fs_err::read_dir(host).map_err(|error| file_error("read", host, error))?;
            if !options.overwrite && items.next().is_some() {
                return Err(staging::exists(host, "it is a folder that is not empty", true));
            }
            Place::within(host, options.overwrite)
        }
        _ => Err(refuse(host, "the guest's path is neither file nor folder")),
    }
}

/// The last name of a path of the guest, as one of the host.
fn last_name(guest: &GuestText) -> Option<OsString> {
    let path = guest.as_bytes();
    let name = path.split(|byte| *byte == b'/').rfind(|name| !name.is_empty())?;
    let entry = FileEntry::new(name, EntryKind::File);
    entry.components().is_ok_and(|parts| parts.len() == 1).then(|| host_name(name)).flatten()
}

struct Tree {
    staging: Staging,
    /// The open root of a tree; a single file has none.
    root: Option<Dir>,
    /// The names that lead from the root to the folder that is being filled.
    path: Vec<OsString>,
    /// The attributes of the root and of these folders. They get them in the end: until then each is
    /// this user's alone, and each file in it changes its time.
    attributes: Vec<Attributes>,
    /// The folder that is being filled.
    folder: Option<Dir>,
    file: Option<OpenFile>,
    mask: Mask,
    /// A folder that this host cannot have: what is in it is passed over.
    left_out: Option<GuestText>,
    received: Transfer,
}

/// A file that is being written; without one its bytes are passed over.
struct OpenFile {
    file: Option<std::fs::File>,
    path: PathBuf,
    position: u64,
    ends_in_hole: bool,
    attributes: Attributes,
}

impl Tree {
    fn begin(first: &FileEntry, request: &Request) -> Result<Self> {
        if !first.path.is_empty() {
            return Err(refuse(&request.host, "the guest sent no root"));
        }
        let place = place(first, request)?;
        let path = place.path.clone();
        let failed = |error| file_error("write", &path, error);
        let is_file = first.kind == EntryKind::File;
        if is_file {
            place.check_file()?;
        }
        let mask = attributes::mask(&place.folder).map_err(failed)?;
        let mut tree = Self {
            staging: Staging::new(place),
            root: None,
            path: Vec::new(),
            attributes: Vec::new(),
            folder: None,
            file: None,
            mask,
            left_out: None,
            received: Transfer::default(),
        };
        let attributes = Attributes { mode: first.mode, mtime_ns: first.mtime_ns };
        if is_file {
            let file = tree.staging.file().map_err(failed)?;
            tree.file = Some(OpenFile::new(Some(file), path, attributes));
        } else {
            let root = tree.staging.tree().map_err(failed)?;
            tree.folder = Some(root.try_clone().map_err(failed)?);
            tree.root = Some(root);
            tree.attributes.push(attributes);
        }
        Ok(tree)
    }

    fn entry(&mut self, entry: &FileEntry) -> Result<()> {
        self.close_file()?;
        let Ok(parts) = entry.components() else {
            return Err(self.refuse(&entry.path, "a path out of place"));
        };
        let (Some((last, above)), Some(_)) = (parts.split_last(), &self.root) else {
            return Err(self.refuse(&entry.path, "a path out of place"));
        };
        if self.left_out.as_ref().is_some_and(|folder| is_below(&entry.path, folder)) {
            self.file = (entry.kind == EntryKind::File).then(OpenFile::nowhere);
            return Ok(());
        }
        let (Some(above), Some(name)) =
            (above.iter().map(|name| host_name(name)).collect::<Option<Vec<_>>>(), host_name(last))
        else {
            self.leave_out(entry);
            return Ok(());
        };
        self.go_to(&above, entry)?;
        let made = match entry.kind {
            EntryKind::File => self.begin_file(&name, entry),
            EntryKind::Folder => self.make_folder(&name, entry),
            EntryKind::Link if stays_inside(entry, above.len()) => self.make_link(&name, entry),
            EntryKind::Link | EntryKind::Other => Ok(false),
        };
        match made {
            Ok(true) => {}
            Ok(false) => self.leave_out(entry),
            // The same name twice (names that differ in case are one on some hosts), or a name that
            // this host's file system does not have.
            Err(error) if is_about_the_name(&error) => self.leave_out(entry),
            Err(error) => return Err(file_error("write", &self.shown(&entry.path), error)),
        }
        Ok(())
    }

    /// Names an entry in the result instead of making it.
    fn leave_out(&mut self, entry: &FileEntry) {
        self.received.skip(&entry.path);
        match entry.kind {
            EntryKind::File => self.file = Some(OpenFile::nowhere()),
            EntryKind::Folder => self.left_out = Some(entry.path.clone()),
            EntryKind::Link | EntryKind::Other => {}
        }
    }

    /// Makes a folder the one that is being filled: it is that one already, or one above it.
    fn go_to(&mut self, above: &[OsString], entry: &FileEntry) -> Result<()> {
        if !self.path.starts_with(above) {
            return Err(self.refuse(&entry.path, "its folder was not sent before it"));
        }
        while self.path.len() > above.len() {
            self.leave().map_err(|error| file_error("write", self.staging.path(), error))?;
        }
        Ok(())
    }

    /// Finishes the folder that is being filled.
    fn leave(&mut self) -> std::io::Result<()> {
        let (Some(folder), Some(attributes)) = (self.folder.take(), self.attributes.pop()) else {
            return Ok(());
        };
        attributes.apply_to_folder(&folder, self.mask)?;
        if let (Some(_), Some(root)) = (self.path.pop(), &self.root) {
            self.folder = Some(new_file::parent(folder, root, &self.path)?);
        }
        Ok(())
    }

    fn folder(&self) -> std::io::Result<&Dir> {
        self.folder.as_ref().ok_or_else(|| ErrorKind::NotADirectory.into())
    }

    fn begin_file(&mut self, name: &OsStr, entry: &FileEntry) -> std::io::Result<bool> {
        let file = new_file::make_file(self.folder()?, name)?;
        let attributes = Attributes { mode: entry.mode, mtime_ns: entry.mtime_ns };
        self.file = Some(OpenFile::new(Some(file), self.shown(&entry.path), attributes));
        Ok(true)
    }

    fn make_folder(&mut self, name: &OsStr, entry: &FileEntry) -> std::io::Result<bool> {
        let folder = self.folder()?;
        new_file::make_folder(folder, name)?;
        self.folder = Some(folder.open_dir(name)?);
        let attributes = Attributes { mode: entry.mode, mtime_ns: entry.mtime_ns };
        self.path.push(name.to_owned());
        self.attributes.push(attributes);
        Ok(true)
    }

    #[cfg(unix)]
    fn make_link(&mut self, name: &OsStr, entry: &FileEntry) -> std::io::Result<bool> {
        use std::os::unix::ffi::OsStrExt as _;
        let target = entry.target.as_ref().map(GuestText::as_bytes).unwrap_or_default();
        let folder = self.folder()?;
        folder.symlink_contents(OsStr::from_bytes(target), name)?;
        attributes::set_link_time(folder, name, entry.mtime_ns);
        Ok(true)
    }

    /// Windows wants a privilege for links.
    #[cfg(not(unix))]
    fn make_link(&mut self, _: &OsStr, _: &FileEntry) -> std::io::Result<bool> {
        Ok(false)
    }

    fn data(&mut self, data: &[u8]) -> Result<()> {
        let file = self.open_file()?;
        file.write(data).map_err(|error| file_error("write", &file.path, error))?;
        if file.file.is_some() {
            self.received.n_bytes += data.len() as u64;
        }
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<()> {
        let file = self.open_file()?;
        file.hole(length).map_err(|error| file_error("write", &file.path, error))?;
        if file.file.is_some() {
            self.received.n_bytes = self.received.n_bytes.saturating_add(length);
        }
        Ok(())
    }

    fn open_file(&mut self) -> Result<&mut OpenFile> {
        let path = self.staging.path();
        let error = || refuse(path, "the guest sent bytes of no file");
        self.file.as_mut().ok_or_else(error)
    }

    fn close_file(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let is_kept = file.file.is_some();
        let path = file.path.clone();
        file.close(self.mask).map_err(|error| file_error("write", &path, error))?;
        self.received.n_files += u64::from(is_kept);
        Ok(())
    }

    fn finish(mut self) -> Result<Transfer> {
        self.close_file()?;
        while self.folder.is_some() {
            self.leave().map_err(|error| file_error("write", self.staging.path(), error))?;
        }
        self.staging.commit()?;
        Ok(self.received)
    }

    fn shown(&self, path: &GuestText) -> PathBuf {
        self.staging.path().join(path.to_string())
    }

    fn refuse(&self, path: &GuestText, reason: &str) -> Error {
        refuse(&self.shown(path), reason)
    }
}

impl OpenFile {
    fn new(file: Option<std::fs::File>, path: PathBuf, attributes: Attributes) -> Self {
        Self { file, path, position: 0, ends_in_hole: false, attributes }
    }

    fn nowhere() -> Self {
        Self::new(None, PathBuf::new(), Attributes::default())
    }

    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(data)?;
        self.position += data.len() as u64;
        self.ends_in_hole = false;
        Ok(())
    }

    fn hole(&mut self, length: u64) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let end = self.position.checked_add(length).filter(|end| *end <= i64::MAX as u64);
        self.position = end.ok_or(ErrorKind::FileTooLarge)?;
        file.seek(SeekFrom::Start(self.position))?;
        self.ends_in_hole = true;
        Ok(())
    }

    fn close(self, mask: Mask) -> std::io::Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        if self.ends_in_hole {
            file.set_len(self.position)?;
        }
        self.attributes.apply(&file, mask)
    }
}

fn refuse(path: &Path, reason: &str) -> Error {
    Error::Transfer { path: path.to_owned(), reason: reason.to_owned() }
}

fn is_below(path: &GuestText, folder: &GuestText) -> bool {
    path.as_bytes().strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Whether a name cannot be made on this host.
fn is_about_the_name(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EILSEQ) {
        return true;
    }
    matches!(
        error.kind(),
        ErrorKind::AlreadyExists | ErrorKind::InvalidInput | ErrorKind::InvalidFilename
    )
}

/// Whether a link in a folder this deep below the root leads to a place below the root.
fn stays_inside(entry: &FileEntry, depth: usize) -> bool {
    let target = entry.target.as_ref().map(GuestText::as_bytes).unwrap_or_default();
    let mut n_up = 0;
    let mut has_descended = false;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if has_descended => return false,
            b".." => n_up += 1,
            _ => has_descended = true,
        }
    }
    !target.is_empty() && !target.starts_with(b"/") && n_up <= depth
}

#[cfg(all(test, unix))]
mod tests;
