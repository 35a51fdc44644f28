//! A root of its own: a small file system in memory, with QEMU's firmware, its shares and a `/proc`
//! that shows nothing but QEMU.
//!
//! What is needed is decided before the fork ([`Mounts::prepare`]); [`Mounts::enter`] runs in the child
//! and makes nothing but system calls. See mount_namespaces(7) and pivot_root(2).

use crate::fault::{Fault, Stage, checked};
use crate::{Needs, Share};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where the new root is put together: any folder does, as only this process sees it there.
const PLACES: [&std::ffi::CStr; 4] = [c"/tmp", c"/mnt", c"/var", c"/usr"];

/// Something of the host that appears in the new root under its own path.
struct Bind {
    source: CString,
    /// The folders above it from top to bottom, and itself, relative to the new root.
    parents: Vec<CString>,
    target: CString,
    is_folder: bool,
    readonly: bool,
    /// Whether devices work there.
    is_device: bool,
}

/// Everything of the new root.
pub(crate) struct Mounts {
    binds: Vec<Bind>,
    /// Links at the top, such as `/lib`, with what they lead to.
    links: Vec<(CString, CString)>,
}

impl Mounts {
    pub(crate) fn prepare(needs: &Needs, libraries: &[PathBuf]) -> io::Result<Self> {
        let mut mounts = Self { binds: Vec::new(), links: Vec::new() };
        for path in libraries {
            match path.read_link() {
                // A link that stays a link: `/lib` is one to `usr/lib`.
                Ok(to) if path.components().count() == 2 => {
                    mounts.links.push((relative(path)?, c_path(&to)?));
                }
                _ => mounts.add(path, true, false)?,
            }
        }
        for path in &needs.read {
            mounts.add(path, true, false)?;
        }
        for Share { path, readonly } in &needs.shares {
            mounts.add(path, *readonly, false)?;
        }
        for path in &needs.devices {
            mounts.add(path, false, true)?;
        }
        Ok(mounts)
    }

    fn add(&mut self, path: &Path, readonly: bool, is_device: bool) -> io::Result<()> {
        let Ok(metadata) = path.metadata() else { return Ok(()) };
        let plain =
            |part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_));
        if !path.is_absolute() || !path.components().all(plain) {
            return Err(io::Error::other("a path is not absolute and plain"));
        }
        let mut parents: Vec<&Path> =
            path.ancestors().skip(1).filter(|it| it.parent().is_some()).collect();
        parents.reverse();
        self.binds.push(Bind {
            source: c_path(path)?,
            parents: parents.into_iter().map(relative).collect::<io::Result<_>>()?,
            target: relative(path)?,
            is_folder: metadata.is_dir(),
            readonly,
            is_device,
        });
        Ok(())
    }

    /// Makes the new root this process' own. Runs in the child, in its mount namespace.
    pub(crate) fn enter(&self) -> Result<(), Fault> {
        let fault = |result| checked(Stage::Mounts, result);
        // SAFETY: system calls on strings and arrays that live as long as `self`, in a
        // process of one thread.
        unsafe {
            let none = std::ptr::null::<libc::c_char>();
            let quiet = libc::MS_NOSUID | libc::MS_NODEV;
            fault(libc::mount(
                none,
                c"/".as_ptr(),
                none,
                libc::MS_REC | libc::MS_PRIVATE,
                none.cast(),
            ))?;
            // What is to appear is opened before the new root hides the folder that it lies on.
            let mut sources = [-1; 64];
            if self.binds.len() > sources.len() {
                return Err(Fault { stage: Stage::Sources, errno: libc::E2BIG });
            }
            for (bind, source) in self.binds.iter().zip(&mut sources) {
                *source = libc::open(bind.source.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                checked(Stage::Sources, *source)?;
            }
            let options = c"size=1m,nr_inodes=1k,mode=0755";
            let mut mounted = -1;
            for place in PLACES {
                mounted = libc::mount(
                    c"quicksand".as_ptr(),
                    place.as_ptr(),
                    c"tmpfs".as_ptr(),
                    quiet,
                    options.as_ptr().cast(),
                );
                if mounted == 0 {
                    fault(libc::chdir(place.as_ptr()))?;
                    break;
                }
            }
            fault(mounted)?;
            for (bind, source) in self.binds.iter().zip(sources) {
                self.bind(bind, source)?;
            }
            for (link, to) in &self.links {
                fault(libc::symlink(to.as_ptr(), link.as_ptr()))?;
            }
            fault(libc::mkdir(c"proc".as_ptr(), 0o555))?;
            let own = |options: *const libc::c_void| {
                libc::mount(
                    c"proc".as_ptr(),
                    c"proc".as_ptr(),
                    c"proc".as_ptr(),
                    quiet | libc::MS_NOEXEC,
                    options,
                )
            };
            // Kernels before 5.8 do not know the option.
            if own(c"subset=pid".as_ptr().cast()) != 0 {
                fault(own(std::ptr::null()))?;
            }
            fault(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as i32)?;
            fault(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
            fault(libc::chdir(c"/".as_ptr()))?;
            let again = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | quiet;
            fault(libc::mount(none, c"/".as_ptr(), none, again, none.cast()))
        }
    }

    /// # Safety
    /// As [`Mounts::enter`].
    unsafe fn bind(&self, bind: &Bind, source: i32) -> Result<(), Fault> {
        let fault = |result| checked(Stage::Mounts, result);
        let none = std::ptr::null::<libc::c_char>();
        let mut path = [0u8; 32];
        own_descriptor(&mut path, source);
        // SAFETY: as above; `path` is a string with its end.
        unsafe {
            for parent in &bind.parents {
                libc::mkdir(parent.as_ptr(), 0o755);
            }
            if bind.is_folder {
                libc::mkdir(bind.target.as_ptr(), 0o755);
            } else {
                let flags = libc::O_CREAT | libc::O_CLOEXEC | libc::O_WRONLY;
                let file = libc::open(bind.target.as_ptr(), flags, 0o644);
                fault(file)?;
                libc::close(file);
            }
            let flags = libc::MS_BIND | libc::MS_REC;
            fault(libc::mount(
                path.as_ptr().cast(),
                bind.target.as_ptr(),
                none,
                flags,
                none.cast(),
            ))?;
            let mut state: libc::statvfs = std::mem::zeroed();
            fault(libc::statvfs(bind.target.as_ptr(), &mut state))?;
            // What the mount below has forbidden stays forbidden, or the kernel refuses.
            let mut flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID | kept(state.f_flag);
            if bind.readonly {
                flags |= libc::MS_RDONLY;
            }
            if !bind.is_device {
                flags |= libc::MS_NODEV;
            }
            fault(libc::mount(none, bind.target.as_ptr(), none, flags, none.cast()))
        }
    }
}

/// The flags of mount(2) for those of statvfs(3).
fn kept(state: libc::c_ulong) -> libc::c_ulong {
    const PAIRS: [(libc::c_ulong, libc::c_ulong); 6] = [
        (1, libc::MS_RDONLY),
        (4, libc::MS_NODEV),
        (8, libc::MS_NOEXEC),
        (1024, libc::MS_NOATIME),
        (2048, libc::MS_NODIRATIME),
        (4096, libc::MS_RELATIME),
    ];
    PAIRS.iter().filter(|(bit, _)| state & bit != 0).fold(0, |flags, (_, flag)| flags | flag)
}

/// Writes `/proc/self/fd/N` with its end.
fn own_descriptor(path: &mut [u8; 32], number: i32) {
    const START: &[u8] = b"/proc/self/fd/";
    path[..START.len()].copy_from_slice(START);
    let mut digits = [0u8; 10];
    let (mut rest, mut n_digits) = (number.unsigned_abs(), 0);
    loop {
        digits[n_digits] = b'0' + (rest % 10) as u8;
        n_digits += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    for (place, digit) in digits[..n_digits].iter().rev().enumerate() {
        path[START.len() + place] = *digit;
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn relative(path: &Path) -> io::Result<CString> {
    c_path(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_descriptors_are_written_without_a_heap() {
        for (number, expect) in
            [(0, "/proc/self/fd/0"), (10, "/proc/self/fd/10"), (90817, "/proc/self/fd/90817")]
        {
            let mut path = [0; 32];
            own_descriptor(&mut path, number);
            let end = path.iter().position(|byte| *byte == 0).unwrap();
            assert_eq!(std::str::from_utf8(&path[..end]).unwrap(), expect);
        }
    }
}
