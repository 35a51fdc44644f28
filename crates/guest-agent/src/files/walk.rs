//! From a path that the host named to an open folder and a name in it.
//!
//! Invariant: whatever other users of the guest do meanwhile, nothing is written where they could
//! not write themselves. The agent is root, so a path that goes through folders of others is walked
//! a name at a time, and a link on the way is followed only when it is root's: `/var/run` leads to
//! `/run`, and `ln -s /etc/shadow /tmp/x/out` leads nowhere.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{failed, refused, wrong_kind};
use crate::{Error, Result};

/// Links that one path may lead through, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A place for a file.
#[derive(Debug)]
pub struct Place {
    /// The open folder.
    pub folder: OwnedFd,
    /// The name in it; `None` when the path leads to the folder itself.
    pub name: Option<OsString>,
    /// The path as the host named it, for messages.
    pub path: PathBuf,
}

/// Opens a folder to look from.
pub fn root() -> Result<OwnedFd> {
    let path = Path::new("/");
    open_folder(CWD, path.as_os_str()).map_err(refused("open", path))
}

/// Walks an absolute path and makes folders that are missing.
///
/// # Errors
/// A link that is not root's, something on the way that is no folder, what the kernel refuses.
pub fn find(path: &Path) -> Result<Place> {
    walk(root()?, path, path, false)
}

/// The same for a path below an open folder; `shown` is the whole of it, for messages.
///
/// # Errors
/// As [`find`].
pub fn find_below(base: BorrowedFd<'_>, path: &Path, shown: &Path) -> Result<Place> {
    let base = open_folder(base, OsStr::new(".")).map_err(refused("open", shown))?;
    walk(base, path, shown, false)
}

/// The same for the folder itself, which is made when it is missing.
///
/// # Errors
/// As [`find`].
pub fn find_folder(base: BorrowedFd<'_>, path: &Path, shown: &Path) -> Result<OwnedFd> {
    let base = open_folder(base, OsStr::new(".")).map_err(refused("open", shown))?;
    Ok(walk(base, path, shown, true)?.folder)
}

/// `names` are walked; `path` is for messages.
fn walk(mut folder: OwnedFd, names: &Path, path: &Path, to_folder: bool) -> Result<Place> {
    let mut parts: VecDeque<OsString> = split(names.as_os_str());
    let mut n_links = 0;
    while let Some(part) = parts.pop_front() {
        let there = match look(folder.as_fd(), &part) {
            Ok(there) => Some(there),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(refused("look at", path)(error)),
        };
        let kind = there.map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind == Some(FileType::Symlink) {
            n_links += 1;
            if n_links > MAX_LINKS {
                return Err(refused("look at", path)(Errno::LOOP));
            }
            let target = follow(folder.as_fd(), &part, path)?;
            if target.as_bytes().starts_with(b"/") {
                folder = root()?;
            }
            let mut ahead = split(&target);
            ahead.append(&mut parts);
            parts = ahead;
            continue;
        }
        if parts.is_empty() && part != ".." && !to_folder {
            return Ok(Place { folder, name: Some(part), path: path.to_owned() });
        }
        if kind.is_none() {
            match rustix::fs::mkdirat(&folder, &part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(refused("create folders of", path)(error)),
            }
        }
        folder = open_folder(folder.as_fd(), &part).map_err(refused("look at", path))?;
    }
    Ok(Place { folder, name: None, path: path.to_owned() })
}

/// What has this name in a folder; a link is not followed.
pub fn look(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Opens a folder by its name; a link is not followed.
pub fn open_folder(folder: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// Where a link leads, when it is one to follow.
fn follow(folder: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<OsString> {
    // The link is opened, so that what was looked at is what is read.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::openat(folder, name, flags, Mode::empty());
    let link = link.map_err(refused("look at", path))?;
    let stat = rustix::fs::fstat(&link).map_err(refused("look at", path))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Symlink {
        return Err(wrong_kind("look at", path, kind));
    }
    // The owner of the agent is root, but in tests.
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Error::ForeignLink { path: path.to_owned(), uid: stat.st_uid });
    }
    let target = rustix::fs::readlinkat(&link, "", Vec::new());
    let target = target.map_err(refused("look at", path))?;
    if target.is_empty() {
        return Err(failed("look at", path)(ErrorKind::NotFound.into()));
    }
    Ok(OsString::from_vec(target.into_bytes()))
}

/// The names of a path; `.` and empty ones say nothing.
fn split(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
    parts.map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;
    use std::os::unix::fs::lchown;

    fn place(path: &Path) -> Result<(PathBuf, Option<OsString>)> {
        let place = find(path)?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&place.folder);
        Ok((fs_err::read_link(format!("/proc/self/fd/{number}")).unwrap(), place.name))
    }

    #[test]
    fn a_path_leads_to_a_folder_and_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        fs_err::create_dir(top.join("real")).unwrap();
        symlink("real", top.join("l")).unwrap();
        symlink(top.join("l/sub"), top.join("m")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        fs_err::write(top.join("file"), "").unwrap();
        for (path, expect, name) in [
            ("new/deep/f", "new/deep", Some("f")),
            ("real/f", "real", Some("f")),
            ("l/f", "real", Some("f")),
            ("l", "", Some("real")),
            ("m/f", "real/sub", Some("f")),
            ("real/../f", "", Some("f")),
            ("real/..", "", None),
            ("real//./f/.", "real", Some("f")),
        ] {
            let found = place(&top.join(path)).unwrap();
            let expect = if expect.is_empty() { top.clone() } else { top.join(expect) };
            assert_eq!(found, (expect, name.map(OsString::from)), "{path}");
        }
        assert_eq!(place(Path::new("/")).unwrap(), ("/".into(), None));
        for path in ["loop/f", "file/f"] {
            assert!(place(&top.join(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_link_of_another_user_is_not_followed() {
        if !rustix::process::geteuid().is_root() {
            // Giving a link away needs root.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("secret")).unwrap();
        for (name, target) in [("folder", "secret"), ("file", "secret/f")] {
            symlink(target, folder.path().join(name)).unwrap();
            lchown(folder.path().join(name), Some(1234), Some(1234)).unwrap();
        }
        for path in ["folder/f", "folder", "file", "folder/../f"] {
            let error = place(&folder.path().join(path)).unwrap_err();
            assert!(matches!(error, Error::ForeignLink { uid: 1234, .. }), "{error}");
        }
    }
}
