//! The descriptors that a start needs: each is closed by an exec, and out of the way of the standard
//! streams.

use crate::call::{c_string, system};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// This process, as a descriptor (Linux 5.3).
pub(crate) fn own_process() -> Option<OwnedFd> {
    // SAFETY: the call has no conditions; the descriptor is new.
    unsafe {
        let number = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as RawFd;
        let own = (number >= 0).then(|| OwnedFd::from_raw_fd(number))?;
        above(own).ok()
    }
}

pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a string with its end, and the descriptor is new.
    unsafe {
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        above(OwnedFd::from_raw_fd(system(libc::open(path.as_ptr(), flags))?))
    }
}

pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has two places, and both descriptors are new.
    unsafe {
        system(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        let [read, write] = ends.map(|end| OwnedFd::from_raw_fd(end));
        Ok((above(read)?, above(write)?))
    }
}

/// The same descriptor out of the range of the standard streams, which the child replaces.
pub(crate) fn above(fd: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open, and the new one is nobody else's.
    unsafe {
        let number = system(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Whether it is a file with a name. One without cannot be ruled, and needs no rule.
pub(crate) fn is_file(fd: &BorrowedFd) -> bool {
    // SAFETY: the descriptor is open, and the structure is of this frame.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(fd.as_raw_fd(), &mut stat) == 0
            && stat.st_mode & libc::S_IFMT == libc::S_IFREG
            && stat.st_nlink > 0
    }
}
