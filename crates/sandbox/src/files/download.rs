//! Writes what the guest sends below one place of the host. Blocking.
//!
//! Invariant: the guest chooses names and bytes below the place that the user named, and nothing
//! else. Three things see to it:
//! - paths are split into plain names by `FileEntry::components`, and each folder on the way must have
//!   been announced and be a real folder, never a link;
//! - every call is relative to an open folder that `cap-std` does not let it leave;
//! - a link is made only when its target climbs no further than the tree's root, and never after
//!   having descended, as `a/..` leads elsewhere when `a` is a link.
//!
//! Files are written beside their place and renamed.

use super::{Transfer, file_error};
use crate::agent_client::Part;
use crate::error::{Error, Result};
use agent_protocol::{EntryKind, FileEntry};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};
use std::collections::HashSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// The most files, folders and links of one download.
const MAX_ENTRIES: u64 = 5_000_000;

/// Takes parts until `None` says that the transfer is complete. A queue that ends before it leaves
/// the files that were complete.
pub(super) fn receive(
    mut queue: mpsc::Receiver<Option<Part>>,
    host: &Path,
    name: Option<String>,
) -> Result<Transfer> {
    let Some(Some(Part::Entry(first))) = queue.blocking_recv() else {
        return Err(refuse(host, "the guest sent no root"));
    };
    let mut tree = Tree::open(&first, host, name)?;
    while let Some(part) = queue.blocking_recv() {
        match part {
            Some(Part::Entry(entry)) => tree.entry(&entry)?,
            Some(Part::Data(data)) => tree.data(&data)?,
            None => {
                tree.close_file()?;
                return Ok(std::mem::take(&mut tree.received));
            }
        }
    }
    Err(refuse(host, "the transfer was broken off"))
}

struct Tree {
    /// Where the user wants it, for messages.
    place: PathBuf,
    folder: Dir,
    /// The one file of a transfer that is no tree.
    single: Option<PathBuf>,
    folders: HashSet<PathBuf>,
    open: Option<Open>,
    received: Transfer,
    n_entries: u64,
}

/// A file that is being written beside its place.
struct Open {
    file: File,
    beside: PathBuf,
    place: PathBuf,
    mode: Option<u32>,
}

impl Tree {
    fn open(first: &FileEntry, host: &Path, name: Option<String>) -> Result<Self> {
        if !first.path.is_empty() {
            return Err(refuse(host, "the guest sent no root"));
        }
        let failed = |error| file_error("write", host, error);
        let (folder, single) = match first.kind {
            EntryKind::Folder => {
                fs_err::create_dir_all(host).map_err(failed)?;
                (host.to_owned(), None)
            }
            EntryKind::File if fs_err::metadata(host).is_ok_and(|place| place.is_dir()) => {
                let name = name.ok_or_else(|| refuse(host, "it is a folder"))?;
                (host.to_owned(), Some(PathBuf::from(name)))
            }
            EntryKind::File => {
                let parent = host.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                let name = host.file_name().ok_or_else(|| refuse(host, "it has no file name"))?;
                fs_err::create_dir_all(parent).map_err(failed)?;
                (parent.to_owned(), Some(PathBuf::from(name)))
            }
            _ => return Err(refuse(host, "the guest's path is neither file nor folder")),
        };
        let mut tree = Self {
            place: host.to_owned(),
            folder: Dir::open_ambient_dir(&folder, ambient_authority()).map_err(failed)?,
            folders: HashSet::from([PathBuf::new()]),
            open: None,
            received: Transfer::default(),
            n_entries: 0,
            single,
        };
        if let Some(single) = tree.single.clone() {
            tree.begin_file(single, first.mode)?;
        }
        Ok(tree)
    }

    fn entry(&mut self, entry: &FileEntry) -> Result<()> {
        self.close_file()?;
        self.n_entries += 1;
        if self.n_entries > MAX_ENTRIES {
            return Err(self.refuse(&entry.path, "more entries than any tree has"));
        }
        let parts = match entry.components() {
            Ok(parts) if !parts.is_empty() && self.single.is_none() => parts,
            _ => return Err(self.refuse(&entry.path, "a path out of place")),
        };
        if !parts.iter().all(|part| is_plain(part)) {
            self.received.skip(entry.path.clone());
            return Ok(());
        }
        let path: PathBuf = parts.iter().collect();
        if !path.parent().is_some_and(|parent| self.folders.contains(parent)) {
            return Err(self.refuse(&entry.path, "its folder was not sent"));
        }
        match entry.kind {
            EntryKind::File => self.begin_file(path, entry.mode),
            EntryKind::Folder => self.make_folder(path),
            EntryKind::Link => {
                let target = entry.target.as_deref().unwrap_or_default();
                if stays_inside(target, parts.len() - 1) && self.make_link(target, &path)? {
                    return Ok(());
                }
                self.received.skip(entry.path.clone());
                Ok(())
            }
            EntryKind::Other => {
                self.received.skip(entry.path.clone());
                Ok(())
            }
        }
    }

    fn begin_file(&mut self, place: PathBuf, mode: Option<u32>) -> Result<()> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Error::System {
            action: "get random bytes",
            source: std::io::Error::other(error.to_string()),
        })?;
        let beside =
            place.with_file_name(format!(".quicksand-{:016x}", u64::from_le_bytes(random)));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let file = self.folder.open_with(&beside, &options);
        let file = file.map_err(|error| self.failed(&place, error))?;
        self.open = Some(Open { file, beside, place, mode });
        Ok(())
    }

    fn data(&mut self, data: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(refuse(&self.place, "the guest sent bytes of no file"));
        };
        if let Err(error) = open.file.write_all(data) {
            let place = open.place.clone();
            return Err(self.failed(&place, error));
        }
        self.received.n_bytes += data.len() as u64;
        Ok(())
    }

    /// Gives the file that is being written its mode and its name.
    fn close_file(&mut self) -> Result<()> {
        let Some(Open { file, beside, place, mode }) = self.open.take() else { return Ok(()) };
        let result = set_mode(&file, mode)
            .and_then(|()| self.folder.rename(&beside, &self.folder, &place))
            .map_err(|error| self.failed(&place, error));
        if result.is_err() {
            let _ = self.folder.remove_file(&beside);
        }
        self.received.n_files += u64::from(result.is_ok());
        result
    }

    fn make_folder(&mut self, path: PathBuf) -> Result<()> {
        match self.folder.create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = self.folder.symlink_metadata(&path);
                if !there.map_err(|error| self.failed(&path, error))?.is_dir() {
                    return Err(self.refuse(&path, "there is something else of that name"));
                }
            }
            result => result.map_err(|error| self.failed(&path, error))?,
        }
        self.folders.insert(path);
        Ok(())
    }

    /// Makes a link, in the place of one that is there; says whether this host can.
    #[cfg(unix)]
    fn make_link(&mut self, target: &str, path: &Path) -> Result<bool> {
        if self.folder.symlink_metadata(path).is_ok_and(|there| there.is_symlink()) {
            self.folder.remove_file(path).map_err(|error| self.failed(path, error))?;
        }
        self.folder.symlink(target, path).map_err(|error| self.failed(path, error))?;
        Ok(true)
    }

    /// Windows wants a privilege for links.
    #[cfg(not(unix))]
    fn make_link(&mut self, _: &str, _: &Path) -> Result<bool> {
        Ok(false)
    }

    fn failed(&self, path: &Path, source: std::io::Error) -> Error {
        let path = if self.single.is_some() { self.place.clone() } else { self.place.join(path) };
        file_error("write", &path, source)
    }

    fn refuse(&self, path: impl AsRef<Path>, reason: &str) -> Error {
        refuse(&self.place.join(path), reason)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let _ = self.folder.remove_file(&open.beside);
        }
    }
}

fn refuse(path: &Path, reason: &str) -> Error {
    Error::Transfer { path: path.to_owned(), reason: reason.to_owned() }
}

/// Whether a name means the same file on every host: Windows gives `:` and `\` a meaning.
fn is_plain(name: &str) -> bool {
    cfg!(unix) || !name.contains(['\\', ':', '<', '>', '"', '|', '?', '*'])
}

/// Whether a link in a folder this deep below the root leads to a place below the root.
fn stays_inside(target: &str, depth: usize) -> bool {
    let mut n_up = 0;
    let mut has_descended = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if has_descended => return false,
            ".." => n_up += 1,
            _ => has_descended = true,
        }
    }
    !target.is_empty() && !target.starts_with('/') && n_up <= depth
}

#[cfg(unix)]
fn set_mode(file: &File, mode: Option<u32>) -> std::io::Result<()> {
    use cap_std::fs::{Permissions, PermissionsExt};
    match mode {
        // A program of the guest must not run with the rights of a file's owner here.
        Some(mode) => file.set_permissions(Permissions::from_mode(mode & 0o777)),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn set_mode(_: &File, _: Option<u32>) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::os::unix::fs::PermissionsExt;

    fn entry(path: &str, kind: EntryKind, target: &str) -> Option<Part> {
        let target = (!target.is_empty()).then(|| target.to_owned());
        Some(Part::Entry(FileEntry { path: path.into(), kind, mode: Some(0o6751), target }))
    }

    fn data(bytes: &'static [u8]) -> Option<Part> {
        Some(Part::Data(Bytes::from_static(bytes)))
    }

    fn run(parts: Vec<Option<Part>>, host: &Path) -> Result<Transfer> {
        let (sender, queue) = mpsc::channel(64);
        for part in parts {
            sender.try_send(part).unwrap();
        }
        drop(sender);
        receive(queue, host, Some("name".into()))
    }

    use EntryKind::{File as F, Folder as D, Link as L, Other};

    #[test]
    fn a_tree_arrives_without_the_bits_that_give_rights() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("copy");
        let parts = vec![
            entry("", D, ""),
            entry("sub", D, ""),
            entry("sub/a", F, ""),
            data(b"on"),
            data(b"e"),
            entry("sub/l", L, "../sub/a"),
            entry("device", Other, ""),
            None,
        ];
        let received = run(parts, &host).unwrap();
        let skipped = vec!["device".to_owned()];
        assert_eq!(received, Transfer { n_files: 1, n_bytes: 3, skipped });
        assert_eq!(fs_err::read(host.join("sub/l")).unwrap(), b"one");
        let mode = fs_err::metadata(host.join("sub/a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o751);
        assert_eq!(fs_err::read_dir(host.join("sub")).unwrap().count(), 2);
    }

    #[test]
    fn nothing_leaves_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs_err::create_dir(&outside).unwrap();
        let outside_text = outside.to_str().unwrap();
        let host = folder.path().join("copy");
        // Links out of the tree are left out, by whatever way they lead there.
        for target in [outside_text, "../outside", "sub/../../outside", "..", "", "../.."] {
            let received = run(vec![entry("", D, ""), entry("l", L, target), None], &host).unwrap();
            assert_eq!(received.skipped, ["l"], "{target}");
            assert!(fs_err::symlink_metadata(host.join("l")).is_err());
        }
        // A file through a link, sent or there before, and through folders that were not sent.
        let parts = vec![entry("", D, ""), entry("l", L, "."), entry("l/f", F, ""), None];
        assert!(run(parts, &host).is_err());
        fs_err::os::unix::fs::symlink(&outside, host.join("d")).unwrap();
        for parts in [
            vec![entry("", D, ""), entry("d", D, ""), entry("d/f", F, ""), data(b"x"), None],
            vec![entry("", D, ""), entry("d/f", F, ""), data(b"x"), None],
            vec![entry("", D, ""), entry("../outside/f", F, ""), data(b"x"), None],
            vec![entry("", D, ""), entry("/tmp/f", F, ""), None],
            vec![entry("x", F, ""), None],
            vec![entry("", F, ""), entry("f", F, ""), None],
            vec![entry("", L, outside_text), None],
            vec![entry("", D, ""), data(b"x"), None],
        ] {
            assert!(run(parts, &host).is_err());
        }
        assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
        // A link in a file's place is replaced, not followed.
        fs_err::write(outside.join("kept"), b"kept").unwrap();
        fs_err::os::unix::fs::symlink(outside.join("kept"), host.join("f")).unwrap();
        run(vec![entry("", D, ""), entry("f", F, ""), data(b"new"), None], &host).unwrap();
        assert_eq!(fs_err::read(outside.join("kept")).unwrap(), b"kept");
        assert_eq!(fs_err::read(host.join("f")).unwrap(), b"new");
    }

    #[test]
    fn a_file_takes_a_name_or_goes_into_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let one = || vec![entry("", F, ""), data(b"1"), None];
        run(one(), &folder.path().join("new/f")).unwrap();
        assert_eq!(fs_err::read(folder.path().join("new/f")).unwrap(), b"1");
        run(one(), &folder.path().join("new")).unwrap();
        assert_eq!(fs_err::read(folder.path().join("new/name")).unwrap(), b"1");
        // A transfer that breaks off leaves what was there.
        let broken = vec![entry("", F, ""), data(b"half")];
        assert!(run(broken, &folder.path().join("new/f")).is_err());
        assert_eq!(fs_err::read(folder.path().join("new/f")).unwrap(), b"1");
        assert_eq!(fs_err::read_dir(folder.path().join("new")).unwrap().count(), 2);
    }
}
