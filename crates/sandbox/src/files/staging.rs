//! What a download has written so far, and the step that puts it into its place.
//!
//! Everything is written beside its place, readable by this user alone, and gets its name when the
//! transfer is complete. Invariant: nothing of the host is replaced unless the caller asked for it.
//! That is decided by the kernel in the step that gives the name, so that what somebody makes there
//! meanwhile is not replaced either.

use super::file_error;
use crate::error::{Error, Result};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, File, OpenOptions};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where a transfer goes in the end.
pub(super) struct Place {
    /// The open folder.
    pub folder: Dir,
    /// The name in it; `None` for a tree that goes into the folder itself.
    pub name: Option<OsString>,
    /// The whole path, for messages.
    pub path: PathBuf,
    /// Whether files that are there may be replaced.
    pub overwrite: bool,
    /// Folders above it that were made for it, the deepest first. They go with it when it fails.
    made: Vec<PathBuf>,
}

impl Place {
    /// A name in a folder, which is made when it is missing.
    pub fn named(folder: &Path, name: OsString, overwrite: bool) -> Result<Self> {
        let path = folder.join(&name);
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let missing = folder.ancestors().take_while(|above| !above.as_os_str().is_empty());
        let missing = missing.take_while(|above| fs_err::symlink_metadata(above).is_err());
        let made = missing.map(Path::to_owned).collect();
        fs_err::create_dir_all(folder).map_err(|error| file_error("write", &path, error))?;
        Ok(Self { folder: open(folder, &path)?, name: Some(name), path, overwrite, made })
    }

    /// A folder that is there.
    pub fn within(folder: &Path, overwrite: bool) -> Result<Self> {
        let path = folder.to_owned();
        Ok(Self { folder: open(folder, folder)?, name: None, path, overwrite, made: Vec::new() })
    }

    /// What is in the way of a file of this name.
    pub fn check_file(&self) -> Result<()> {
        let Some(name) = &self.name else { return Ok(()) };
        match self.folder.symlink_metadata(name) {
            Ok(there) if there.is_dir() => Err(exists(&self.path, "it is a folder", false)),
            Ok(_) if !self.overwrite => Err(exists(&self.path, "it exists already", true)),
            _ => Ok(()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for folder in &self.made {
            // One that is not empty is somebody's.
            let _ = fs_err::remove_dir(folder);
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
    beside: OsString,
    is_there: bool,
}

impl Staging {
    /// Finds a name beside the place. Nothing is made yet.
    pub fn new(place: Place) -> Result<Self> {
        Ok(Self { place, beside: name_beside()?, is_there: false })
    }

    /// The place that it gets, for messages.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Begins a file.
    pub fn file(&mut self) -> io::Result<File> {
        let file = make_file(&self.place.folder, &self.beside)?;
        self.is_there = true;
        Ok(file)
    }

    /// Begins a tree.
    pub fn tree(&mut self) -> io::Result<Dir> {
        make_folder(&self.place.folder, &self.beside)?;
        self.is_there = true;
        self.place.folder.open_dir(&self.beside)
    }

    /// Puts it into its place.
    pub fn commit(mut self) -> Result<()> {
        let Place { folder, name, path, overwrite, .. } = &self.place;
        let failed = |error| file_error("write", path, error);
        match name {
            Some(name) if *overwrite => {
                self.place.check_file()?;
                folder.rename(&self.beside, folder, name).map_err(failed)?;
            }
            Some(name) => match rename_new((folder, &self.beside), (folder, name)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(exists(path, "it exists already", true));
                }
                result => result.map_err(failed)?,
            },
            None => {
                let from = folder.open_dir(&self.beside).map_err(failed)?;
                merge(&from, folder, path, *overwrite)?;
                drop(from);
                folder.remove_dir(&self.beside).map_err(failed)?;
            }
        }
        self.is_there = false;
        self.place.made.clear();
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_there {
            return;
        }
        let removed = match self.place.folder.remove_file(&self.beside) {
            Ok(()) => Ok(()),
            Err(_) => remove_tree(&self.place.folder, &self.beside),
        };
        if let Err(error) = removed {
            let folder = self.place.path.display();
            tracing::warn!(%folder, %error, "what a download had written could not be removed");
        }
    }
}

/// Makes a file for this user alone.
pub(super) fn make_file(folder: &Dir, name: &OsStr) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::mode(&mut options, 0o600);
    folder.open_with(name, &options)
}

/// Makes a folder for this user alone.
pub(super) fn make_folder(folder: &Dir, name: &OsStr) -> io::Result<()> {
    #[allow(unused_mut, reason = "Windows has no modes")]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    cap_std::fs::DirBuilderExt::mode(&mut builder, 0o700);
    folder.create_dir_with(name, &builder)
}

/// A name that nothing else has. It is not that of a save that is being written, which the next save
/// removes when nobody is at work there.
pub(super) fn name_beside() -> Result<OsString> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| Error::System {
        action: "get random bytes",
        source: io::Error::other(error.to_string()),
    })?;
    Ok(format!(".quicksand-download-{:016x}", u64::from_le_bytes(random)).into())
}

/// An error that says what is in the way.
pub(super) fn exists(path: &Path, reason: &'static str, can_overwrite: bool) -> Error {
    Error::HostExists { path: path.to_owned(), reason, can_overwrite }
}

/// Renames, unless there is something of that name.
fn rename_new(from: (&Dir, &OsStr), to: (&Dir, &OsStr)) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
            // A file system or kernel that cannot.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    claim_and_rename(from, to)
}

/// The same in two steps: an empty file or folder takes the name first, which fails when there is
/// one, and is then replaced.
fn claim_and_rename(from: (&Dir, &OsStr), to: (&Dir, &OsStr)) -> io::Result<()> {
    let is_folder = from.0.symlink_metadata(from.1)?.is_dir();
    match is_folder {
        // Windows replaces no folder by one.
        true if cfg!(windows) => {}
        true => make_folder(to.0, to.1)?,
        false => drop(make_file(to.0, to.1)?),
    }
    from.0.rename(from.1, to.0, to.1).inspect_err(|_| {
        let _ = if is_folder { to.0.remove_dir(to.1) } else { to.0.remove_file(to.1) };
    })
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

/// Removes a tree, however deep it is: with two open folders, and without recursion.
pub(super) fn remove_tree(folder: &Dir, name: &OsStr) -> io::Result<()> {
    set_mode((folder, name), 0o700)?;
    let mut here = folder.open_dir(name)?;
    let mut path = vec![name.to_owned()];
    while let Some((last, above)) = path.split_last() {
        let mut below = None;
        for item in here.entries()? {
            let item = item?;
            if item.file_type()?.is_dir() {
                below = Some(item.file_name());
                break;
            }
            here.remove_file(item.file_name())?;
        }
        if let Some(name) = below {
            set_mode((&here, &name), 0o700)?;
            here = here.open_dir(&name)?;
            path.push(name);
        } else {
            here = parent(here, folder, above)?;
            here.remove_dir(last)?;
            path.pop();
        }
    }
    Ok(())
}

/// The folder above one of ours, which nobody else can have moved; `above` are the names that lead
/// to it from `root`.
#[cfg(unix)]
pub(super) fn parent(folder: Dir, _root: &Dir, _above: &[OsString]) -> io::Result<Dir> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let above = openat(&folder, "..", flags, Mode::empty())?;
    Ok(Dir::from_std_file(std::fs::File::from(above)))
}

#[cfg(not(unix))]
pub(super) fn parent(_folder: Dir, root: &Dir, above: &[OsString]) -> io::Result<Dir> {
    let mut folder = root.try_clone()?;
    for name in above {
        folder = folder.open_dir(name)?;
    }
    Ok(folder)
}

#[cfg(unix)]
fn set_mode((folder, name): (&Dir, &OsStr), mode: u32) -> io::Result<()> {
    use cap_std::fs::{Permissions, PermissionsExt};
    folder.set_permissions(name, Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: (&Dir, &OsStr), _: u32) -> io::Result<()> {
    Ok(())
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_not_taken_for_a_save_that_was_left_behind() {
        let name = name_beside().unwrap().into_string().unwrap();
        assert!(name.starts_with('.') && !name.starts_with(package_layout::save::PART_PREFIX));
    }

    /// On file systems whose kernel code cannot rename without replacing.
    #[test]
    fn a_name_is_claimed_before_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let dir = open(folder.path(), folder.path()).unwrap();
        let at = |name: &str| folder.path().join(name);
        let name = OsStr::new;
        for kind in ["file", "folder", "link"] {
            let make = |name: &str| match kind {
                "file" => fs_err::write(at(name), name).unwrap(),
                "folder" => fs_err::create_dir(at(name)).unwrap(),
                _ => fs_err::os::unix::fs::symlink("nowhere", at(name)).unwrap(),
            };
            make("new");
            claim_and_rename((&dir, name("new")), (&dir, name(kind))).unwrap();
            assert!(fs_err::symlink_metadata(at("new")).is_err());
            make("second");
            let error = claim_and_rename((&dir, name("second")), (&dir, name(kind))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{kind}");
            assert!(fs_err::symlink_metadata(at("second")).is_ok());
            remove_tree(&dir, name("second")).or_else(|_| dir.remove_file("second")).unwrap();
        }
        assert_eq!(fs_err::read(at("file")).unwrap(), b"new");
        assert!(at("folder").is_dir());
        assert_eq!(fs_err::read_link(at("link")).unwrap(), Path::new("nowhere"));
    }
}
