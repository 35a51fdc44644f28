//! Names in folders: looked up, made, removed and moved.

use crate::attributes::SETTABLE;
use crate::nodes::Key;
use crate::place::{Object, proc_path, reopen};
use crate::share::Share;
use crate::wire::{Body, Fields};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, fstat, statat};
use rustix::io::Errno;

/// Bits of `fuse_open_out.open_flags`.
mod reply {
    /// What is written goes to the host past the guest's cache.
    pub(super) const DIRECT_IO: u32 = 1;
    /// What the guest has of the file's data is still true.
    pub(super) const KEEP_CACHE: u32 = 1 << 1;
    /// Closing the file needs no word.
    pub(super) const NO_FLUSH: u32 = 1 << 5;
}

impl Share {
    /// What a name in a folder is now.
    fn look(&self, folder: &Object, name: &[u8]) -> Result<Stat, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        statat(&folder.fd, name, flags)
    }

    /// Writes `struct fuse_entry_out`.
    fn put_entry(
        &self,
        parent: u64,
        name: &[u8],
        stat: &Stat,
        out: &mut Vec<u8>,
    ) -> Result<u64, Errno> {
        let number = self.enter(Key::from_stat(stat), parent, name)?;
        self.put_entry_of(number, stat, out);
        Ok(number)
    }

    pub(crate) fn put_entry_of(&self, number: u64, stat: &Stat, out: &mut Vec<u8>) {
        self.nodes().tell(number, stat);
        out.u64(number);
        out.u64(0);
        self.put_validity(2, out);
        self.put_attributes(stat, out);
    }

    pub(crate) fn lookup(
        &self,
        parent: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let name = body.name()?;
        let folder = self.folder(parent)?;
        let stat = self.look(&folder, name)?;
        self.put_entry(parent, name, &stat, out)?;
        Ok(())
    }

    pub(crate) fn readlink(&self, node: u64, out: &mut Vec<u8>) -> Result<(), Errno> {
        let object = self.object(node)?;
        if !object.is_link() {
            return Err(Errno::INVAL);
        }
        let target = rustix::fs::readlinkat(&object.fd, c"", Vec::new())?;
        out.extend_from_slice(target.as_bytes());
        Ok(())
    }

    pub(crate) fn symlink(
        &self,
        parent: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let (name, target) = (body.name()?, body.text()?);
        let folder = self.folder(parent)?;
        rustix::fs::symlinkat(target, &folder.fd, name)?;
        self.put_entry(parent, name, &self.look(&folder, name)?, out)?;
        Ok(())
    }

    pub(crate) fn mkdir(
        &self,
        parent: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let mode = body.u32()?;
        body.skip(4)?;
        let name = body.name()?;
        let folder = self.folder(parent)?;
        rustix::fs::mkdirat(&folder.fd, name, Mode::from_raw_mode(mode & SETTABLE))?;
        self.put_entry(parent, name, &self.look(&folder, name)?, out)?;
        Ok(())
    }

    /// Makes a file, a pipe or a socket. Devices are not the guest's to make.
    pub(crate) fn mknod(
        &self,
        parent: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let mode = body.u32()?;
        body.skip(12)?;
        let name = body.name()?;
        let kind = match mode & libc::S_IFMT {
            0 | libc::S_IFREG => FileType::RegularFile,
            libc::S_IFIFO => FileType::Fifo,
            libc::S_IFSOCK => FileType::Socket,
            libc::S_IFCHR | libc::S_IFBLK => return Err(Errno::PERM),
            _ => return Err(Errno::INVAL),
        };
        let folder = self.folder(parent)?;
        let mode = Mode::from_raw_mode(mode & SETTABLE);
        rustix::fs::mknodat(&folder.fd, name, kind, mode, 0)?;
        self.put_entry(parent, name, &self.look(&folder, name)?, out)?;
        Ok(())
    }

    pub(crate) fn remove(
        &self,
        parent: u64,
        mut body: Body<'_>,
        is_folder: bool,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let name = body.name()?;
        let folder = self.folder(parent)?;
        let stat = self.look(&folder, name)?;
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&folder.fd, name, flags)?;
        self.nodes().unname(Key::from_stat(&stat), parent, name);
        Ok(())
    }

    pub(crate) fn rename(
        &self,
        parent: u64,
        mut body: Body<'_>,
        has_flags: bool,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let new_parent = body.u64()?;
        let mut flags = RenameFlags::empty();
        if has_flags {
            flags = RenameFlags::from_bits_retain(body.u32()?);
            body.skip(4)?;
        }
        // A white-out is a device node.
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let (name, new_name) = (body.name()?, body.name()?);
        let (from, to) = (self.folder(parent)?, self.folder(new_parent)?);
        let moved = self.look(&from, name)?;
        let replaced = self.look(&to, new_name).ok();
        if flags.is_empty() {
            rustix::fs::renameat(&from.fd, name, &to.fd, new_name)?;
        } else {
            rustix::fs::renameat_with(&from.fd, name, &to.fd, new_name, flags)?;
        }
        let mut nodes = self.nodes();
        let (old, new) = ((parent, name), (new_parent, new_name));
        let key = Key::from_stat(&moved);
        match replaced.map(|stat| Key::from_stat(&stat)) {
            // Two names of one file: nothing has happened.
            Some(replaced) if replaced == key => return Ok(()),
            Some(replaced) if flags.contains(RenameFlags::EXCHANGE) => {
                nodes.rename(replaced, new, old);
            }
            Some(replaced) => nodes.unname(replaced, new.0, new.1),
            None => {}
        }
        nodes.rename(key, old, new);
        Ok(())
    }

    pub(crate) fn link(
        &self,
        parent: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let old = body.u64()?;
        let name = body.name()?;
        let (object, folder) = (self.object(old)?, self.folder(parent)?);
        if object.is_folder() {
            return Err(Errno::PERM);
        }
        // The link in /proc leads to the file itself, also where that is a symbolic link.
        let flags = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(CWD, proc_path(&object.fd), &folder.fd, name, flags)?;
        self.put_entry(parent, name, &self.look(&folder, name)?, out)?;
        Ok(())
    }

    /// Opens a file, and makes it where it is missing.
    pub(crate) fn create(
        &self,
        parent: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let (flags, mode) = (body.u32()?, body.u32()?);
        body.skip(8)?;
        let name = body.name()?;
        let folder = self.folder(parent)?;
        let permit = self.allowance.descriptor().ok_or(Errno::NFILE)?;
        let wanted = self.host_flags(flags);
        let make = wanted | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & SETTABLE);
        let file = match rustix::fs::openat(&folder.fd, name, make, mode) {
            Err(Errno::EXIST) if flags & libc::O_EXCL as u32 == 0 => {
                let found = crate::place::find_below(rustix::fd::AsFd::as_fd(&folder.fd), name)?;
                self.reopen_file(&found, wanted)?
            }
            result => result?,
        };
        let stat = fstat(&file)?;
        let number = self.put_entry(parent, name, &stat, out)?;
        let handle = self.handles().add(file, number, permit);
        put_open(handle, self.how_written(flags, stat.st_size), out);
        Ok(())
    }

    /// How a file of a size that was opened with these flags is written. One that can be read too might be
    /// mapped.
    fn how_written(&self, flags: u32, size: i64) -> u32 {
        let is_written_alone = flags & libc::O_ACCMODE as u32 == libc::O_WRONLY as u32;
        let is_direct = is_written_alone && size == 0 && self.writes_directly();
        if is_direct { reply::DIRECT_IO } else { 0 }
    }

    /// Makes a file without a name.
    pub(crate) fn tmpfile(
        &self,
        parent: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let (flags, mode) = (body.u32()?, body.u32()?);
        let folder = self.folder(parent)?;
        let permit = self.allowance.descriptor().ok_or(Errno::NFILE)?;
        let access = self.host_flags(flags) | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & SETTABLE);
        let file = rustix::fs::openat(&folder.fd, c".", access, mode)?;
        let stat = fstat(&file)?;
        let key = Key::from_stat(&stat);
        let number = self.put_entry(parent, b"", &stat, out)?;
        self.nodes().unname(key, parent, b"");
        let handle = self.handles().add(file, number, permit);
        put_open(handle, 0, out);
        Ok(())
    }

    pub(crate) fn open_file(
        &self,
        node: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        const KILL_SUIDGID: u32 = 1;
        let (flags, open_flags) = (body.u32()?, body.u32()?);
        let is_for_reading = flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32;
        if !is_for_reading || flags & libc::O_TRUNC as u32 != 0 {
            self.check_writable()?;
        }
        let permit = self.allowance.descriptor().ok_or(Errno::NFILE)?;
        let object = self.object(node)?;
        let file = self.reopen_file(&object, self.host_flags(flags))?;
        if open_flags & KILL_SUIDGID != 0 {
            crate::attributes::drop_privileges(&file)?;
        }
        let is_known = self.nodes().note_data(node, &object.stat);
        let handle = self.handles().add(file, node, permit);
        let is_emptied = flags & libc::O_TRUNC as u32 != 0;
        let mut how = if is_emptied { self.how_written(flags, 0) } else { 0 };
        if is_known {
            how |= reply::KEEP_CACHE;
        }
        if is_for_reading && !self.locks().has(node) {
            // Nothing is to be written, and there is no lock that ends before the last descriptor.
            how |= reply::NO_FLUSH;
        }
        put_open(handle, how, out);
        Ok(())
    }

    pub(crate) fn open_folder(&self, node: u64, out: &mut Vec<u8>) -> Result<(), Errno> {
        let permit = self.allowance.descriptor().ok_or(Errno::NFILE)?;
        let object = self.folder(node)?;
        let folder = reopen(&object.fd, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let handle = self.handles().add(folder, node, permit);
        put_open(handle, 0, out);
        Ok(())
    }

    /// The guest's flags as far as they are the host's business. Appending is said with each write;
    /// direct access is between the guest and its own cache.
    fn host_flags(&self, flags: u32) -> OFlags {
        let kept = libc::O_ACCMODE | libc::O_TRUNC | libc::O_SYNC | libc::O_DSYNC;
        let mut flags = flags & kept as u32;
        // A guest that keeps what it writes reads the rest of a page first.
        if self.options.writeback && flags & libc::O_ACCMODE as u32 == libc::O_WRONLY as u32 {
            flags = (flags & !(libc::O_ACCMODE as u32)) | libc::O_RDWR as u32;
        }
        OFlags::from_bits_retain(flags)
    }
}

/// Writes `struct fuse_open_out`.
fn put_open(handle: u64, how: u32, out: &mut Vec<u8>) {
    out.u64(handle);
    out.u32(how);
    out.u32(0);
}
