//! Terminals of sessions.
//!
//! See <https://man7.org/linux/man-pages/man7/pty.7.html>.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use agent_protocol::PtyRequest;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// A new terminal: the agent's side, which does not block, and the command's side.
///
/// # Errors
/// When the guest has no devpts or no terminal left.
pub fn open(request: &PtyRequest, owner: Option<u32>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    resize(&master, request.rows, request.cols)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    if let Some(uid) = owner {
        // Group tty (5 on every distribution) lets `write` and `mesg` work as after a login.
        rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), Some(Gid::from_raw(5)))?;
        rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620))?;
    }
    Ok((master, slave))
}

/// Sets the size; the foreground process group gets SIGWINCH from the kernel.
///
/// # Errors
/// When the terminal is gone.
pub fn resize(master: impl AsFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// `/dev/null` for a command without input.
///
/// # Errors
/// When the guest has no `/dev/null`.
pub fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
