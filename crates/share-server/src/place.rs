//! Finds what a path below the root names, and never anything else.
//!
//! Owns the calls that open by name. See <https://man7.org/linux/man-pages/man2/openat2.2.html>.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;
use std::sync::Arc;

/// The longest path that one call is given, in bytes; a longer one goes in steps.
const MAX_STEP: usize = 4000;
/// How often a path is tried again while the host renames what it leads through.
const N_ATTEMPTS: usize = 8;

/// Something that was found: open, or as its place alone (`O_PATH`).
pub(crate) struct Object {
    pub fd: Held,
    pub stat: Stat,
}

/// A descriptor of this request, or one that the guest has open.
pub(crate) enum Held {
    Own(OwnedFd),
    Open(Arc<OwnedFd>),
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Open(fd) => fd.as_fd(),
        }
    }
}

impl Object {
    pub(crate) fn is_folder(&self) -> bool {
        self.stat.st_mode & libc::S_IFMT == libc::S_IFDIR
    }

    pub(crate) fn is_link(&self) -> bool {
        self.stat.st_mode & libc::S_IFMT == libc::S_IFLNK
    }
}

/// Opens a path below a folder. Links are not followed, the last one included, and `..` leads
/// nowhere.
pub(crate) fn open_below(
    folder: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    if path.len() > MAX_STEP
        && let Some(cut) = path[..MAX_STEP].iter().rposition(|byte| *byte == b'/')
    {
        let step = open_below(folder, &path[..cut], OFlags::PATH | OFlags::DIRECTORY)?;
        return open_below(step.as_fd(), &path[cut + 1..], flags);
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..N_ATTEMPTS {
        match openat2(folder, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    openat2(folder, path, flags, Mode::empty(), resolve)
}

/// The place that a path names.
pub(crate) fn find_below(folder: BorrowedFd<'_>, path: &[u8]) -> Result<Object, Errno> {
    let fd = open_below(folder, path, OFlags::PATH)?;
    let stat = fstat(&fd)?;
    Ok(Object { fd: Held::Own(fd), stat })
}

/// A path that leads to an open descriptor and nowhere else, for calls that take only paths.
pub(crate) fn proc_path(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens again, in another way, what a descriptor stands for.
pub(crate) fn reopen(fd: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::open(proc_path(fd), flags, Mode::empty())
}
