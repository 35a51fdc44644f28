//! Another process seen from here: its memory, and files as it names them.

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, open, openat2, readlinkat},
    io::{Errno, Result},
};
use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
};

/// The longest path, its end included (linux/limits.h).
const PATH_MAX: usize = 4096;
const PAGE: usize = 4096;

/// A thread of another process.
#[derive(Clone, Copy)]
pub(super) struct Target(pub u32);

/// A file as a call names it.
pub(super) struct Place {
    /// The folder that a relative path starts from, `AT_FDCWD` for the working one; the file itself
    /// where the path is empty.
    pub folder: i32,
    pub path: Vec<u8>,
    /// Whether a link at the end is followed.
    pub follows: bool,
}

impl Target {
    /// The text that ends with a zero at this address.
    pub fn text(self, address: u64) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < PATH_MAX {
            let from = address + text.len() as u64;
            // A page at a time: the next one need not be there.
            let piece = self.read(from, PAGE - from as usize % PAGE)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return Ok(text);
            }
            text.extend_from_slice(&piece);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// That many bytes at this address.
    pub fn read(self, address: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0_u8; length];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: length };
        // SAFETY: `local` is the vector, which is written to its length at most.
        let n = unsafe {
            libc::process_vm_readv(self.0 as i32, &raw const local, 1, &raw const remote, 1, 0)
        };
        if n == length as isize { Ok(bytes) } else { Err(Errno::FAULT) }
    }

    /// Writes a structure of the kernel's, or bytes, to this address.
    pub fn write<T: ?Sized>(self, address: u64, value: &T) -> Result<()> {
        let length = size_of_val(value);
        let start = std::ptr::from_ref(value).cast_mut().cast();
        let local = libc::iovec { iov_base: start, iov_len: length };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: length };
        // SAFETY: `local` is the value, which is only read; the other end is not our memory.
        let n = unsafe {
            libc::process_vm_writev(self.0 as i32, &raw const local, 1, &raw const remote, 1, 0)
        };
        if n == length as isize { Ok(()) } else { Err(Errno::FAULT) }
    }

    /// Opens a file where the process would find it, as a place and not for its bytes.
    pub fn open(self, place: &Place) -> Result<OwnedFd> {
        if place.path.is_empty() {
            return self.handle(place.folder, OFlags::empty());
        }
        if let Some(place) = by_descriptor(place) {
            return self.open(&place);
        }
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !place.follows {
            flags |= OFlags::NOFOLLOW;
        }
        let find = |folder: &OwnedFd, path: &[u8], how| {
            let path = CString::new(path).map_err(|_| Errno::INVAL)?;
            openat2(folder, path, flags, Mode::empty(), how)
        };
        let root = || open(self.link("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        if place.path.starts_with(b"/") {
            return find(&root()?, &place.path, ResolveFlags::IN_ROOT);
        }
        let folder = self.handle(place.folder, OFlags::DIRECTORY)?;
        match find(&folder, &place.path, ResolveFlags::BENEATH) {
            // It leads out of the folder, by `..` or a link that starts at the root.
            Err(Errno::XDEV) => {
                let root = root()?;
                let (top, start) = (path_of(&root)?, path_of(&folder)?);
                let below = match top.as_slice() {
                    b"/" => start.as_slice(),
                    top => start.strip_prefix(top).ok_or(Errno::XDEV)?,
                };
                let path = [below, b"/", &place.path].concat();
                find(&root, &path, ResolveFlags::IN_ROOT)
            }
            found => found,
        }
    }

    /// What a descriptor of the process stands for.
    fn handle(self, descriptor: i32, more: OFlags) -> Result<OwnedFd> {
        let link = match descriptor {
            libc::AT_FDCWD => self.link("cwd"),
            descriptor => self.link(&format!("fd/{descriptor}")),
        };
        open(link, OFlags::PATH | OFlags::CLOEXEC | more, Mode::empty())
    }

    fn link(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }
}

/// The same place by the descriptor that its path goes through, as in `/proc/self/fd/3/file`: what
/// stands behind that is no matter of paths.
fn by_descriptor(place: &Place) -> Option<Place> {
    let folders = [&b"/proc/self/fd/"[..], b"/dev/fd/"];
    let rest = folders.iter().find_map(|folder| place.path.strip_prefix(*folder))?;
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let folder = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let path = rest[end..].iter().copied().skip_while(|byte| *byte == b'/').collect::<Vec<u8>>();
    // The link itself, which is not followed, is the kernel's matter.
    (!path.is_empty() || place.follows).then_some(Place { folder, path, follows: place.follows })
}

/// A name for an open file itself.
pub(super) fn name_of(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The path of an open file.
pub(super) fn path_of(file: &OwnedFd) -> Result<Vec<u8>> {
    Ok(readlinkat(CWD, name_of(file), Vec::new())?.into_bytes())
}

/// The folder that an open file lies in.
pub(super) fn parent_of(file: &OwnedFd) -> Result<OwnedFd> {
    let path = path_of(file)?;
    let parent = std::path::Path::new(std::ffi::OsStr::from_bytes(&path)).parent();
    open(
        parent.ok_or(Errno::NOENT)?,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// How the file itself is meant, and not what it may link to.
pub(super) const ITSELF: AtFlags = AtFlags::EMPTY_PATH;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_through_descriptors_start_from_them() {
        let check = |path: &str, follows, expected: Option<(i32, &str)>| {
            let place = Place { folder: libc::AT_FDCWD, path: path.into(), follows };
            let found = by_descriptor(&place).map(|place| (place.folder, place.path));
            assert_eq!(found, expected.map(|(folder, path)| (folder, path.into())), "{path}");
        };
        check("/proc/self/fd/7", true, Some((7, "")));
        check("/proc/self/fd/7", false, None);
        check("/proc/self/fd/7/./var/log", false, Some((7, "./var/log")));
        check("/dev/fd/12//x", true, Some((12, "x")));
        check("/proc/self/fdinfo/7", true, None);
        check("/proc/self/fd/x", true, None);
    }
}
