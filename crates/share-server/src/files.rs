//! Open files: reading, writing, closing and what else is done with a descriptor.

use crate::attributes::drop_privileges;
use crate::share::Share;
use crate::wire::{Body, Fields, MAX_DATA};
use rustix::fs::{FallocateFlags, SeekFrom, fstat};
use rustix::io::{Errno, ReadWriteFlags};
use std::io::IoSlice;

impl Share {
    pub(crate) fn read(&self, mut body: Body<'_>, out: &mut Vec<u8>) -> Result<(), Errno> {
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()? as usize);
        let file = self.handles().file(handle)?;
        let start = out.len();
        out.zeros(size.min(MAX_DATA));
        let mut length = start;
        while length < out.len() {
            let at = offset.checked_add((length - start) as u64).ok_or(Errno::INVAL)?;
            match rustix::io::pread(&file, &mut out[length..], at) {
                Ok(0) => break,
                Ok(n_read) => length += n_read,
                Err(Errno::INTR) => {}
                Err(_) if length > start => break,
                Err(error) => return Err(error),
            }
        }
        out.truncate(length);
        Ok(())
    }

    pub(crate) fn write(
        &self,
        node: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        const FROM_CACHE: u32 = 1;
        const KILL_SUIDGID: u32 = 1 << 2;
        self.check_writable()?;
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
        let how = body.u32()?;
        body.skip(8)?;
        let flags = body.u32()?;
        body.skip(4)?;
        let data = body.data(size as usize)?;
        let file = self.handles().file(handle)?;
        // What the guest's kernel writes back from its cache has its place, whatever the file that
        // it uses for that was opened for.
        let before = fstat(&file)?;
        let appends = flags & libc::O_APPEND as u32 != 0 && how & FROM_CACHE == 0;
        let mut n_written = 0;
        while n_written < data.len() {
            let rest = &data[n_written..];
            let at = offset.checked_add(n_written as u64).ok_or(Errno::INVAL)?;
            let result = match appends {
                true => {
                    rustix::io::pwritev2(&file, &[IoSlice::new(rest)], at, ReadWriteFlags::APPEND)
                }
                false => rustix::io::pwrite(&file, rest, at),
            };
            match result {
                Ok(0) => break,
                Ok(length) => n_written += length,
                Err(Errno::INTR) => {}
                Err(_) if n_written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if how & KILL_SUIDGID != 0 {
            drop_privileges(&file)?;
        }
        self.nodes().note_own_change(node, &before, &fstat(&file)?);
        out.u32(n_written as u32);
        out.u32(0);
        Ok(())
    }

    /// A descriptor of the guest was closed; others of the same open file may be left.
    pub(crate) fn flush(&self, node: u64, mut body: Body<'_>) -> Result<(), Errno> {
        body.skip(16)?;
        let owner = body.u64()?;
        self.locks().drop_owner(node, owner);
        Ok(())
    }

    pub(crate) fn release(&self, mut body: Body<'_>) -> Result<(), Errno> {
        let handle = body.u64()?;
        self.locks().drop_handle(handle);
        self.handles().close(handle);
        Ok(())
    }

    pub(crate) fn fsync(&self, mut body: Body<'_>) -> Result<(), Errno> {
        const DATA_ALONE: u32 = 1;
        let (handle, flags) = (body.u64()?, body.u32()?);
        let file = self.handles().file(handle)?;
        if flags & DATA_ALONE != 0 { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) }
    }

    /// Looks for data or for a hole; the guest's kernel does the rest of seeking by itself.
    pub(crate) fn lseek(&self, mut body: Body<'_>, out: &mut Vec<u8>) -> Result<(), Errno> {
        let (handle, offset, whence) = (body.u64()?, body.u64()?, body.u32()?);
        let from = match whence as i32 {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        out.u64(rustix::fs::seek(self.handles().file(handle)?, from)?);
        Ok(())
    }

    pub(crate) fn fallocate(&self, mut body: Body<'_>) -> Result<(), Errno> {
        self.check_writable()?;
        let (handle, offset, length) = (body.u64()?, body.u64()?, body.u64()?);
        let mode = FallocateFlags::from_bits_retain(body.u32()?);
        rustix::fs::fallocate(self.handles().file(handle)?, mode, offset, length)
    }

    /// Copies from one open file into another without a way through the guest.
    pub(crate) fn copy(&self, mut body: Body<'_>, out: &mut Vec<u8>) -> Result<(), Errno> {
        /// One request copies no more than this: the rest comes with the next.
        const MOST: u64 = 64 << 20;
        self.check_writable()?;
        let (from, mut from_offset) = (body.u64()?, body.u64()?);
        body.skip(8)?;
        let (to, mut to_offset, length) = (body.u64()?, body.u64()?, body.u64()?);
        let (from, to) = {
            let handles = self.handles();
            (handles.file(from)?, handles.file(to)?)
        };
        let length = length.min(MOST) as usize;
        let copied = rustix::fs::copy_file_range(
            &from,
            Some(&mut from_offset),
            &to,
            Some(&mut to_offset),
            length,
        )?;
        out.u32(copied as u32);
        out.u32(0);
        Ok(())
    }

    /// Writes `struct fuse_kstatfs`.
    pub(crate) fn statfs(&self, out: &mut Vec<u8>) -> Result<(), Errno> {
        let root = self.object(crate::nodes::ROOT)?;
        let stat = rustix::fs::fstatvfs(&root.fd)?;
        for number in [stat.f_blocks, stat.f_bfree, stat.f_bavail, stat.f_files, stat.f_ffree] {
            out.u64(number);
        }
        out.u32(stat.f_bsize as u32);
        out.u32(stat.f_namemax as u32);
        out.u32(stat.f_frsize as u32);
        out.zeros(28);
        Ok(())
    }
}
