//! Locks of files: the guest's and the host's programs see each other's.
//!
//! `flock` is of the open file, which is one on both sides. Locks of byte ranges are of a process of
//! the guest, which the host knows nothing of: each owner gets an open file of its own for them, with
//! the host's locks of open files (`F_OFD_SETLK`), which conflict with those of the host's processes
//! and of other owners. See <https://man7.org/linux/man-pages/man2/F_OFD_SETLK.2const.html>.
//!
//! Nothing waits here: what another holds is tried again by the caller.

use crate::place::reopen;
use crate::share::{Refusal, Share};
use crate::wire::{Body, Fields};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// Ends of a range that mean the end of the file, whatever that will be.
const TO_THE_END: u64 = i64::MAX as u64;

/// What a request for a lock says.
struct Request {
    handle: u64,
    owner: u64,
    start: u64,
    end: u64,
    kind: i32,
    is_flock: bool,
}

impl Request {
    fn read(mut body: Body<'_>) -> Result<Self, Errno> {
        let (handle, owner, start, end) = (body.u64()?, body.u64()?, body.u64()?, body.u64()?);
        let kind = body.u32()? as i32;
        body.skip(4)?;
        let is_flock = body.u32()? & 1 != 0;
        if !matches!(kind, libc::F_RDLCK | libc::F_WRLCK | libc::F_UNLCK)
            || start > end
            || end > TO_THE_END
        {
            return Err(Errno::INVAL);
        }
        Ok(Self { handle, owner, start, end, kind, is_flock })
    }

    fn range(&self) -> libc::flock {
        // SAFETY: a structure of numbers, for which zero is a value.
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = self.kind as _;
        range.l_whence = libc::SEEK_SET as _;
        range.l_start = self.start as _;
        // Zero means up to the end.
        range.l_len = if self.end == TO_THE_END { 0 } else { (self.end - self.start + 1) as _ };
        range
    }
}

impl Share {
    pub(crate) fn get_lock(
        &self,
        node: u64,
        body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let request = Request::read(body)?;
        let file = self.handles().file(request.handle)?;
        let mut range = request.range();
        {
            let locks = self.locks();
            let own = locks.get(node, request.owner);
            let file = own.map_or(file.as_raw_fd(), |own| own.as_raw_fd());
            control(file, libc::F_OFD_GETLK, &mut range)?;
        }
        let end = match range.l_len {
            0 => TO_THE_END,
            length => (range.l_start + length - 1) as u64,
        };
        out.u64(range.l_start as u64);
        out.u64(end);
        out.u32(range.l_type as u32);
        // The host's processes have no numbers in the guest.
        out.u32(0);
        Ok(())
    }

    pub(crate) fn set_lock(&self, node: u64, body: Body<'_>, waits: bool) -> Result<(), Refusal> {
        let request = Request::read(body)?;
        let file = self.handles().file(request.handle)?;
        let result = if request.is_flock {
            let operation = match request.kind {
                libc::F_RDLCK => FlockOperation::NonBlockingLockShared,
                libc::F_WRLCK => FlockOperation::NonBlockingLockExclusive,
                _ => FlockOperation::NonBlockingUnlock,
            };
            rustix::fs::flock(&file, operation)
        } else {
            self.set_range(node, &request, rustix::fd::AsFd::as_fd(&file))
        };
        match result {
            Err(Errno::AGAIN | Errno::ACCESS) if waits => Err(Refusal::Later),
            Err(Errno::ACCESS) => Err(Errno::AGAIN.into()),
            result => Ok(result?),
        }
    }

    fn set_range(&self, node: u64, request: &Request, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut range = request.range();
        let mut locks = self.locks();
        let is_unlock = request.kind == libc::F_UNLCK;
        if is_unlock && request.start == 0 && request.end == TO_THE_END {
            locks.drop_owner(node, request.owner);
            return Ok(());
        }
        if let Some(own) = locks.get(node, request.owner) {
            return control(own.as_raw_fd(), libc::F_OFD_SETLK, &mut range);
        }
        if is_unlock {
            return Ok(());
        }
        let permit = self.allowance.descriptor().ok_or(Errno::NOLCK)?;
        // For both kinds of locks, where the file allows both.
        let both = if self.options.readonly { OFlags::RDONLY } else { OFlags::RDWR };
        let file = reopen(file, both)
            .or_else(|_| reopen(file, OFlags::RDONLY))
            .or_else(|_| reopen(file, OFlags::WRONLY))?;
        control(file.as_raw_fd(), libc::F_OFD_SETLK, &mut range)?;
        locks.add(node, request.owner, request.handle, file, permit);
        Ok(())
    }
}

fn control(file: i32, command: i32, range: &mut libc::flock) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for as long as its owner is borrowed, and the structure is the
    // command's.
    if unsafe { libc::fcntl(file, command, std::ptr::from_mut(range)) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
