//! Folders as lists of names, with the attributes of each where the guest wants them.
//!
//! The list is the kernel's own, read as the guest asks for it: a folder of any size costs a buffer
//! of one answer. Offsets are the host file system's.

use crate::nodes::Key;
use crate::share::Share;
use crate::wire::{Body, Fields};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, SeekFrom, statat};
use rustix::io::Errno;
use std::sync::PoisonError;

/// The most bytes of a list in one answer.
const MAX_LIST: usize = 128 << 10;
/// Bytes of `struct linux_dirent64` before the name.
const RECORD_HEAD: usize = 19;
/// The longest record of the host.
const MAX_RECORD: usize = 280;
/// Bytes of `struct fuse_dirent` before the name, and of `struct fuse_entry_out`.
const ENTRY_HEAD: usize = 24;
const ENTRY_OUT: usize = 128;

/// One record of the host's list.
struct Record<'a> {
    inode: u64,
    /// Where the list goes on behind it.
    next: u64,
    kind: u8,
    name: &'a [u8],
}

impl Share {
    pub(crate) fn list(
        &self,
        node: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
        with_attributes: bool,
    ) -> Result<(), Errno> {
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()? as usize);
        let (folder, place) = self.handles().folder(handle)?;
        let limit = out.len() + size.min(MAX_LIST);
        // Two lists of one open folder would get in each other's way.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let portion = if with_attributes { size / 4 } else { size };
        let mut buffer = vec![0; portion.clamp(MAX_RECORD, MAX_LIST)];
        let (mut wanted, first) = (offset, out.len());
        loop {
            if *place != wanted {
                rustix::fs::seek(&folder, SeekFrom::Start(wanted))?;
                *place = wanted;
            }
            let length = read_records(folder.as_fd(), &mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            for record in records(&buffer[..length]) {
                *place = record.next;
            }
            for record in records(&buffer[..length]) {
                let head = if with_attributes { ENTRY_OUT + ENTRY_HEAD } else { ENTRY_HEAD };
                if out.len() + (head + record.name.len()).next_multiple_of(8) > limit {
                    // A buffer that holds no entry at all is a mistake of the guest's.
                    return if out.len() > first { Ok(()) } else { Err(Errno::INVAL) };
                }
                if with_attributes {
                    self.put_listed(node, folder.as_fd(), &record, out);
                }
                put_record(&record, out);
                wanted = record.next;
            }
        }
    }

    /// Writes an entry as a look-up would have given it. The number is zero where the guest has to
    /// look for itself: of the two entries that every folder has, and what has gone in between.
    fn put_listed(
        &self,
        parent: u64,
        folder: BorrowedFd<'_>,
        record: &Record<'_>,
        out: &mut Vec<u8>,
    ) {
        let is_name = record.name != b"." && record.name != b"..";
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = if is_name { statat(folder, record.name, flags).ok() } else { None };
        let entered = stat.and_then(|stat| {
            let number = self.enter(Key::from_stat(&stat), parent, record.name).ok()?;
            Some((number, stat))
        });
        match entered {
            Some((number, stat)) => self.put_entry_of(number, &stat, out),
            None => out.zeros(ENTRY_OUT),
        }
    }
}

/// Writes `struct fuse_dirent`.
fn put_record(record: &Record<'_>, out: &mut Vec<u8>) {
    out.u64(record.inode);
    out.u64(record.next);
    out.u32(record.name.len() as u32);
    out.u32(record.kind.into());
    out.extend_from_slice(record.name);
    out.zeros(
        (ENTRY_HEAD + record.name.len()).next_multiple_of(8) - ENTRY_HEAD - record.name.len(),
    );
}

fn read_records(folder: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes no more than it is given room for.
    let length = unsafe {
        libc::syscall(libc::SYS_getdents64, folder.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    };
    if length < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(length as usize)
}

/// Reads `struct linux_dirent64`s, which the host's kernel wrote.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let inode = u64::from_ne_bytes(*bytes.first_chunk()?);
        let next = u64::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
        let length = usize::from(u16::from_ne_bytes(*bytes.get(16..)?.first_chunk()?));
        let name = bytes.get(RECORD_HEAD..length)?;
        let name = &name[..name.iter().position(|byte| *byte == 0)?];
        let record = Record { inode, next, kind: bytes[18], name };
        bytes = &bytes[length..];
        Some(record)
    })
}
