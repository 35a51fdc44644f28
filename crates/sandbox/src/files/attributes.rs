//! Modes and times of what a download makes on the host.
//!
//! Invariant: the guest never gives a file of the host more rights than a file that the user makes
//! has: its mode is cut by the process's umask, and set-user-ID and the like are dropped.

use cap_std::fs::Dir;
#[cfg(unix)]
use std::ffi::OsStr;
use std::io::Result;
use std::time::{Duration, SystemTime};

/// The attributes that an entry has in the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes {
    pub mode: Option<u32>,
    pub mtime_ns: Option<i64>,
}

impl Attributes {
    /// Gives them to an open file.
    pub fn apply(self, file: &std::fs::File, mask: Mask) -> Result<()> {
        self.give(file, 0o666, mask)
    }

    /// Gives them to an open folder.
    #[cfg(unix)]
    pub fn apply_to_folder(self, folder: &Dir, mask: Mask) -> Result<()> {
        use rustix::fs::{Mode, OFlags, openat};
        // The folder is open as a place to look from, which takes no attributes.
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = openat(folder, ".", flags, Mode::empty())?;
        self.give(&folder.into(), 0o777, mask)
    }

    /// Windows opens no folder as a file.
    #[cfg(not(unix))]
    pub fn apply_to_folder(self, _: &Dir, _: Mask) -> Result<()> {
        Ok(())
    }

    /// `new` is the mode of what has none.
    fn give(self, file: &std::fs::File, new: u32, mask: Mask) -> Result<()> {
        set_mode(file, mask.cut(self.mode.unwrap_or(new)))?;
        match self.mtime_ns {
            Some(time) => file.set_modified(at(time)),
            None => Ok(()),
        }
    }
}

fn at(time: i64) -> SystemTime {
    let distance = Duration::from_nanos(time.unsigned_abs());
    let then = match time < 0 {
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
        true => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    then.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The permissions that new files may have at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mask(u32);

impl Mask {
    fn cut(self, mode: u32) -> u32 {
        mode & 0o777 & self.0
    }
}

/// Finds the mask by making a file and looking at what became of its mode. The umask itself can only be
/// asked for by changing it, and a folder's default access list takes its place.
#[cfg(unix)]
pub(super) fn mask(folder: &Dir) -> Result<Mask> {
    use cap_std::fs::{DirBuilder, DirBuilderExt, MetadataExt};
    #[cfg(target_os = "linux")]
    if let Some(file) = crate::new_file::unnamed(folder, 0o777) {
        return file
            .metadata()
            .map(|made| Mask(std::os::unix::fs::MetadataExt::mode(&made) & 0o777));
    }
    let probe = crate::new_file::HiddenName::new(folder, super::staging::PREFIX)?;
    let mut builder = DirBuilder::new();
    builder.mode(0o777);
    folder.create_dir_with(&*probe, &builder)?;
    let made = folder.symlink_metadata(&*probe);
    folder.remove_dir(&*probe)?;
    made.map(|made| Mask(made.mode() & 0o777))
}

#[cfg(not(unix))]
pub(super) fn mask(_: &Dir) -> Result<Mask> {
    Ok(Mask(0o777))
}

#[cfg(unix)]
fn set_mode(file: &std::fs::File, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: &std::fs::File, _: u32) -> Result<()> {
    Ok(())
}

/// Gives a link its time, where links have one.
#[cfg(unix)]
pub(super) fn set_link_time(folder: &Dir, name: &OsStr, mtime_ns: Option<i64>) {
    use rustix::fs::{AtFlags, Timespec, Timestamps, utimensat};
    const SECOND: i64 = 1_000_000_000;
    let Some(time) = mtime_ns else { return };
    let time = Timespec { tv_sec: time.div_euclid(SECOND), tv_nsec: time.rem_euclid(SECOND) as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    let _ = utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW);
}
