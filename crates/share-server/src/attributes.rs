//! Attributes of files: as the guest sees them, and as it changes them.
//!
//! What belongs to the user who runs this process is shown as the user that the options name, root
//! unless they say otherwise. Changes of the owner are taken and have no effect: everything here
//! belongs to that one user, and an archive that is unpacked as root must not fail for it.

use crate::place::{Object, proc_path, reopen};
use crate::share::Share;
use crate::wire::{Body, Fields};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, Timespec, Timestamps, fstat};
use rustix::io::Errno;

/// Bits of a mode that the guest may set: neither set-user-ID nor set-group-ID.
pub(crate) const SETTABLE: u32 = 0o1777;
/// The user and group of files that belong to neither the guest nor root.
const NOBODY: u32 = 65534;

/// Bits of `fuse_setattr_in.valid`.
mod valid {
    pub(super) const MODE: u32 = 1 << 0;
    pub(super) const SIZE: u32 = 1 << 3;
    pub(super) const ATIME: u32 = 1 << 4;
    pub(super) const MTIME: u32 = 1 << 5;
    pub(super) const FH: u32 = 1 << 6;
    pub(super) const ATIME_NOW: u32 = 1 << 7;
    pub(super) const MTIME_NOW: u32 = 1 << 8;
    pub(super) const KILL_SUIDGID: u32 = 1 << 11;
}

impl Share {
    /// Writes `struct fuse_attr`.
    pub(crate) fn put_attributes(&self, stat: &Stat, out: &mut Vec<u8>) {
        out.u64(self.inode(stat));
        out.u64(stat.st_size as u64);
        out.u64(stat.st_blocks as u64);
        for seconds in [stat.st_atime, stat.st_mtime, stat.st_ctime] {
            out.u64(seconds as u64);
        }
        for nanoseconds in [stat.st_atime_nsec, stat.st_mtime_nsec, stat.st_ctime_nsec] {
            out.u32(nanoseconds as u32);
        }
        out.u32(match self.options.permissions {
            Some(permissions) => (stat.st_mode & !0o777) | permissions,
            None => stat.st_mode,
        });
        #[allow(clippy::unnecessary_cast)] // its size depends on the architecture
        out.u32(stat.st_nlink as u32);
        out.u32(shown(stat.st_uid, self.owner.0, self.options.shown.0, self.owner.0 == 0));
        out.u32(shown(stat.st_gid, self.owner.1, self.options.shown.1, self.owner.0 == 0));
        out.u32(device_number(stat.st_rdev));
        out.u32(stat.st_blksize as u32);
        out.u32(0);
    }

    /// The number by which the guest's programs tell files apart. Those of other file systems below
    /// the share get another range.
    pub(crate) fn inode(&self, stat: &Stat) -> u64 {
        if stat.st_dev == self.device {
            return stat.st_ino;
        }
        (stat.st_dev.wrapping_mul(0x9E37_79B9_7F4A_7C15) & !0xFF_FFFF_FFFF) ^ stat.st_ino
    }

    /// Writes how long something may be believed: seconds of each, then nanoseconds of each.
    pub(crate) fn put_validity(&self, n_times: usize, out: &mut Vec<u8>) {
        let fresh = self.options.fresh;
        (0..n_times).for_each(|_| out.u64(fresh.as_secs()));
        (0..n_times).for_each(|_| out.u32(fresh.subsec_nanos()));
    }

    fn put_attributes_answer(&self, node: u64, stat: &Stat, out: &mut Vec<u8>) {
        self.nodes().tell(node, stat);
        self.put_validity(1, out);
        out.u32(0);
        self.put_attributes(stat, out);
    }

    pub(crate) fn getattr(
        &self,
        node: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        const WITH_HANDLE: u32 = 1;
        let flags = body.u32()?;
        body.skip(4)?;
        let handle = body.u64()?;
        let stat = match flags & WITH_HANDLE {
            0 => self.object(node)?.stat,
            _ => fstat(self.handles().file(handle)?)?,
        };
        self.put_attributes_answer(node, &stat, out);
        Ok(())
    }

    pub(crate) fn setattr(
        &self,
        node: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let set = body.u32()?;
        body.skip(4)?;
        let (handle, size) = (body.u64()?, body.u64()?);
        body.skip(8)?;
        let (access, change) = (body.u64()?, body.u64()?);
        body.skip(8)?;
        let (access_nanos, change_nanos) = (body.u32()?, body.u32()?);
        body.skip(4)?;
        let mode = body.u32()?;

        let object = self.object(node)?;
        if set & valid::MODE != 0 {
            change_mode(&object, mode)?;
        }
        if set & valid::SIZE != 0 {
            if set & valid::FH != 0 {
                rustix::fs::ftruncate(self.handles().file(handle)?, size)?;
            } else {
                if object.is_folder() {
                    return Err(Errno::ISDIR);
                }
                rustix::fs::ftruncate(self.reopen_file(&object, OFlags::WRONLY)?, size)?;
            }
            if set & valid::KILL_SUIDGID != 0 {
                drop_privileges(&object.fd)?;
            }
        }
        if set & (valid::ATIME | valid::MTIME) != 0 {
            let time = |wanted: bool, is_now: bool, seconds: u64, nanoseconds: u32| Timespec {
                tv_sec: seconds as i64,
                tv_nsec: match (wanted, is_now) {
                    (false, _) => rustix::fs::UTIME_OMIT,
                    (true, true) => rustix::fs::UTIME_NOW,
                    (true, false) => nanoseconds.min(999_999_999).into(),
                },
            };
            let has = |bit| set & bit != 0;
            let times = Timestamps {
                last_access: time(has(valid::ATIME), has(valid::ATIME_NOW), access, access_nanos),
                last_modification: time(
                    has(valid::MTIME),
                    has(valid::MTIME_NOW),
                    change,
                    change_nanos,
                ),
            };
            rustix::fs::utimensat(CWD, proc_path(&object.fd), &times, AtFlags::empty())?;
        }
        self.put_attributes_answer(node, &fstat(&object.fd)?, out);
        Ok(())
    }

    /// Opens a regular file that was found as a place; anything else is the guest's own business.
    pub(crate) fn reopen_file(
        &self,
        object: &Object,
        flags: OFlags,
    ) -> Result<rustix::fd::OwnedFd, Errno> {
        match object.stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => reopen(&object.fd, flags),
            libc::S_IFDIR => Err(Errno::ISDIR),
            libc::S_IFLNK => Err(Errno::LOOP),
            _ => Err(Errno::NXIO),
        }
    }
}

/// As whom the guest sees an owner. A process without root's rights cannot act for others, so that
/// they are nobody to it.
fn shown(id: u32, own: u32, own_shown: u32, is_root: bool) -> u32 {
    match id {
        id if id == own => own_shown,
        id if is_root => id,
        _ => NOBODY,
    }
}

/// The kernel's old encoding, which the protocol has for device numbers.
fn device_number(number: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn change_mode(object: &Object, mode: u32) -> Result<(), Errno> {
    if object.is_link() {
        return Err(Errno::OPNOTSUPP);
    }
    let mut mode = (mode & SETTABLE) | kept_bits(object, mode);
    // What the host's own set-user-ID file has, a change of its other bits does not give again.
    mode &= 0o7777;
    rustix::fs::chmodat(CWD, proc_path(&object.fd), Mode::from_raw_mode(mode), AtFlags::empty())
}

/// The set-group-ID bit of a folder hands its group on and gives nobody any right: a folder of the
/// host keeps it.
fn kept_bits(object: &Object, mode: u32) -> u32 {
    if object.is_folder() { mode & object.stat.st_mode & libc::S_ISGID } else { 0 }
}

/// Takes set-user-ID and set-group-ID from a file of the host that the guest has changed.
pub(crate) fn drop_privileges(fd: impl AsFd) -> Result<(), Errno> {
    let stat = fstat(&fd)?;
    if stat.st_mode & (libc::S_ISUID | libc::S_ISGID) == 0 {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(stat.st_mode & SETTABLE);
    rustix::fs::chmodat(CWD, proc_path(fd), mode, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_shown_as_far_as_they_mean_something() {
        for (id, own, own_shown, expect) in [
            (1000, 1000, 0, 0),
            (1000, 1000, 500, 500),
            (0, 1000, 0, NOBODY),
            (7, 1000, 0, NOBODY),
            (0, 0, 0, 0),
            (7, 0, 0, 7),
        ] {
            assert_eq!(shown(id, own, own_shown, own == 0), expect);
        }
    }

    #[test]
    fn device_numbers_have_the_kernels_form() {
        assert_eq!(device_number(libc::makedev(8, 1)), 0x801);
        assert_eq!(device_number(libc::makedev(259, 300)), 44 | (259 << 8) | (256 << 12));
    }
}
