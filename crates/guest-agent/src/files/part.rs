//! One file as it is written: beside its place, and renamed when it is whole.
//!
//! Whoever reads the place sees the old file or the new one; a full disk or a host that leaves loses
//! nothing; a program that runs can be replaced. Two kinds of files have no place beside them, and
//! are written as they are: those that are interfaces of the kernel (`/proc/sys`), and those that
//! something is mounted on.

use std::ffi::OsStr;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_protocol::FileEntry;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, StatxAttributes, StatxFlags, Timespec, Timestamps,
    Uid,
};
use rustix::io::Errno;

use super::{failed, refused, walk, wrong_kind};
use crate::{Error, Result};

/// Permissions of a file that is new.
const NEW: u32 = 0o644;

/// A file that is being written.
pub struct Part {
    file: std::fs::File,
    folder: Arc<OwnedFd>,
    name: std::ffi::OsString,
    path: PathBuf,
    /// Its name until it is whole; absent when it is written in place.
    beside: Option<String>,
    position: u64,
    owner: Option<(Uid, Gid)>,
    mode: Option<u32>,
    times: Timestamps,
}

impl Part {
    /// Begins a file.
    ///
    /// # Errors
    /// Something in its place that is no file; what the kernel refuses.
    pub fn begin(
        folder: Arc<OwnedFd>,
        name: &OsStr,
        path: &Path,
        entry: &FileEntry,
    ) -> Result<Self> {
        let there = match walk::look(folder.as_fd(), name) {
            Ok(there) => Some(there),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(refused("write", path)(error)),
        };
        if let Some(there) = &there {
            let kind = FileType::from_raw_mode(there.st_mode);
            if kind != FileType::RegularFile {
                return Err(wrong_kind("write", path, kind));
            }
        }
        let is_fixed = there.is_some() && is_mounted_on(&folder, name);
        let beside = if is_fixed { Err(Errno::BUSY) } else { open_beside(&folder) };
        let (file, beside) = match (beside, &there) {
            (Ok((file, beside)), _) => (file, Some(beside)),
            // Where nothing can be made, what is there may still be written.
            (
                Err(Errno::BUSY | Errno::PERM | Errno::ACCESS | Errno::NOENT | Errno::OPNOTSUPP),
                Some(_),
            ) => {
                let flags = OFlags::WRONLY
                    | OFlags::TRUNC
                    | OFlags::NOFOLLOW
                    | OFlags::NONBLOCK
                    | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&*folder, name, flags, Mode::empty());
                (file.map_err(refused("write", path))?, None)
            }
            (Err(error), _) => return Err(refused("write", path)(error)),
        };
        let owner = |there: &Stat| (Uid::from_raw(there.st_uid), Gid::from_raw(there.st_gid));
        let kept = there.as_ref().map_or(NEW, |there| there.st_mode & 0o777);
        Ok(Self {
            file: file.into(),
            folder,
            name: name.to_owned(),
            path: path.to_owned(),
            // In place a file keeps all that is not asked for.
            mode: match (entry.mode, &beside) {
                (Some(mode), _) => Some(mode & 0o7777),
                (None, Some(_)) => Some(kept),
                (None, None) => None,
            },
            owner: there.as_ref().map(owner).filter(|_| beside.is_some()),
            beside,
            position: 0,
            times: times(entry.mtime_ns),
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(failed("write", &self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Leaves a hole.
    ///
    /// # Errors
    /// A file that would be larger than any.
    pub fn hole(&mut self, length: u64) -> Result<()> {
        let end = self.position.checked_add(length).filter(|end| *end <= i64::MAX as u64);
        let end = end.ok_or_else(|| refused("write", &self.path)(Errno::FBIG))?;
        self.file.seek(SeekFrom::Start(end)).map_err(failed("write", &self.path))?;
        self.position = end;
        Ok(())
    }

    /// Gives the file its owner, mode, time and name.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn finish(mut self) -> Result<()> {
        let length = self.file.metadata().map_err(failed("write", &self.path))?.len();
        if length < self.position && self.beside.is_some() {
            self.file.set_len(self.position).map_err(failed("write", &self.path))?;
        }
        if let Some((user, group)) = self.owner {
            rustix::fs::fchown(&self.file, Some(user), Some(group))
                .map_err(refused("set the owner of", &self.path))?;
        }
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))
                .map_err(refused("set the mode of", &self.path))?;
        }
        let Some(beside) = &self.beside else { return Ok(()) };
        rustix::fs::futimens(&self.file, &self.times)
            .map_err(refused("set the time of", &self.path))?;
        rustix::fs::renameat(&*self.folder, beside, &*self.folder, &self.name)
            .map_err(refused("write", &self.path))?;
        self.beside = None;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = rustix::fs::unlinkat(&*self.folder, beside, AtFlags::empty());
        }
    }
}

/// A name that no other file of the agent has.
pub fn name_beside() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".quicksand-part-{}-{count}", std::process::id())
}

fn open_beside(folder: &OwnedFd) -> Result<(OwnedFd, String), Errno> {
    const ATTEMPTS: usize = 16;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut result = Err(Errno::EXIST);
    // Somebody may have made a file of that name, by chance or to be in the way.
    for _ in 0..ATTEMPTS {
        let name = name_beside();
        match rustix::fs::openat(folder, &name, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => return Ok((file, name)),
            Err(error) => result = Err(error),
        }
        if !matches!(result, Err(Errno::EXIST)) {
            break;
        }
    }
    result
}

fn is_mounted_on(folder: &OwnedFd, name: &OsStr) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statx(folder, name, flags, StatxFlags::TYPE)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The time of a change as both times of a file; now without one.
pub fn times(mtime_ns: Option<i64>) -> Timestamps {
    const SECOND: i64 = 1_000_000_000;
    let time = match mtime_ns {
        Some(time) => {
            Timespec { tv_sec: time.div_euclid(SECOND), tv_nsec: time.rem_euclid(SECOND) as _ }
        }
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
    };
    Timestamps { last_access: time, last_modification: time }
}

/// When something was last changed, for the host.
pub fn mtime_ns(metadata: &std::fs::Metadata) -> Option<i64> {
    use std::os::unix::fs::MetadataExt as _;
    metadata.mtime().checked_mul(1_000_000_000)?.checked_add(metadata.mtime_nsec())
}

/// Makes a link, in the place of a file or link that is there.
///
/// # Errors
/// A folder in its place; what the kernel refuses.
pub fn link(folder: &OwnedFd, name: &OsStr, path: &Path, entry: &FileEntry) -> Result<()> {
    let target = entry.target.as_ref().map(|target| target.as_bytes()).unwrap_or_default();
    let fail = |error: Errno| -> Error { refused("link", path)(error) };
    let beside = name_beside();
    rustix::fs::symlinkat(target, folder, &beside).map_err(fail)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    // A file system without times of links keeps none.
    let _ = rustix::fs::utimensat(folder, &beside, &times(entry.mtime_ns), flags);
    rustix::fs::renameat(folder, &beside, folder, name).map_err(|error| {
        let _ = rustix::fs::unlinkat(folder, &beside, AtFlags::empty());
        fail(error)
    })
}
