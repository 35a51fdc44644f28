//! The files and descriptors that one machine needs and that nobody must find afterwards.
//!
//! Owns the copy-on-write disk and small secret files. On Unix none of them has a name once QEMU
//! runs: they are open descriptors, so that the end of the processes is their end. Elsewhere they
//! are files in the folder for temporary files, removed on drop and swept at the next start.

use crate::error::{Error, Result};
use crate::qcow2::{self, Fault};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What makes the disk of one machine.
pub(crate) struct Overlay {
    /// The overlay and its base as QEMU reaches them.
    #[cfg(unix)]
    pub files: OverlayFiles,
    /// The overlay's path, removed with this value.
    #[cfg(not(unix))]
    pub path: tempfile::TempPath,
}

/// Open files of a disk. QEMU opens a disk for reading first and for writing later, and takes a
/// descriptor of the right kind out of the set each time.
#[cfg(unix)]
pub(crate) struct OverlayFiles {
    /// The overlay for reading and writing.
    pub read_write: std::os::fd::OwnedFd,
    /// The same file for reading.
    pub read_only: std::os::fd::OwnedFd,
    /// The base image for reading: it cannot be written through this.
    pub base: std::os::fd::OwnedFd,
}

impl Overlay {
    /// Checks the base and puts an empty overlay on it. `backing` is the base's name for QEMU when
    /// that is not its path.
    pub(crate) fn create(base: &Path, backing: Option<&str>) -> Result<Self> {
        let unreadable =
            |source| Error::File { action: "read the disk image", path: base.into(), source };
        let mut image = fs_err::File::open(base).map_err(unreadable)?;
        let size = qcow2::virtual_size(&mut image).map_err(|fault| match fault {
            Fault::Bad(reason) => Error::BadImage { path: base.into(), reason },
            Fault::Io(source) => unreadable(source),
        })?;
        let absolute = std::path::absolute(base).map_err(unreadable)?;
        let name = backing.map_or_else(|| absolute.to_string_lossy(), Into::into);
        let (head, length) =
            qcow2::empty_overlay(size, &name, "qcow2").ok_or_else(|| Error::BadImage {
                path: base.into(),
                reason: "its size or the length of its path is beyond the format".into(),
            })?;
        let folder = temporary_folder();
        let failed = |source| Error::File {
            action: "write the overlay disk in",
            path: folder.clone(),
            source,
        };
        #[cfg(unix)]
        {
            let (mut file, read_only) = unnamed_file(&folder).map_err(failed)?;
            file.write_all(&head).and_then(|()| file.set_len(length)).map_err(failed)?;
            let base = image.into_file().into();
            Ok(Self { files: OverlayFiles { read_write: file.into(), read_only, base } })
        }
        #[cfg(not(unix))]
        {
            sweep(&folder);
            let mut file = tempfile::Builder::new()
                .prefix(PREFIX)
                .suffix(".qcow2")
                .tempfile_in(&folder)
                .map_err(failed)?;
            file.write_all(&head).and_then(|()| file.as_file().set_len(length)).map_err(failed)?;
            Ok(Self { path: file.into_temp_path() })
        }
    }
}

/// The folder for temporary files: `TMPDIR`, or the system's.
pub(crate) fn temporary_folder() -> PathBuf {
    std::env::temp_dir()
}

/// A file that only this user can read and that has no name, opened twice.
#[cfg(target_os = "linux")]
fn unnamed_file(folder: &Path) -> std::io::Result<(std::fs::File, std::os::fd::OwnedFd)> {
    use std::os::fd::AsRawFd;
    let file = tempfile::tempfile_in(folder)?;
    let own = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let read_only = fs_err::File::open(own)?.into_file().into();
    Ok((file, read_only))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn unnamed_file(folder: &Path) -> std::io::Result<(std::fs::File, std::os::fd::OwnedFd)> {
    let named = tempfile::NamedTempFile::new_in(folder)?;
    let read_only = fs_err::File::open(named.path())?.into_file().into();
    let (file, name) = named.into_parts();
    name.close()?;
    Ok((file, read_only))
}

/// An open file with these bytes that only this process, and whoever inherits it, can read.
#[cfg(target_os = "linux")]
pub(crate) fn secret_file(content: &[u8]) -> Result<std::os::fd::OwnedFd> {
    use rustix::fs::{MemfdFlags, memfd_create};
    let failed = |source| Error::System { action: "make a file in memory", source };
    let fd = memfd_create(c"quicksand", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    // On some systems a memory file is made with mode 0777: those who can look into /proc could
    // open it there.
    rustix::fs::fchmod(&fd, rustix::fs::Mode::RUSR).map_err(|e| failed(e.into()))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(content).map_err(failed)?;
    std::io::Seek::rewind(&mut file).map_err(failed)?;
    Ok(file.into())
}

/// An open file with these bytes that only this process, and whoever inherits it, can read.
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) fn secret_file(content: &[u8]) -> Result<std::os::fd::OwnedFd> {
    let folder = temporary_folder();
    let failed = |source| Error::File { action: "write a secret in", path: folder.clone(), source };
    let mut file = tempfile::tempfile_in(&folder).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    std::io::Seek::rewind(&mut file).map_err(failed)?;
    Ok(file.into())
}

/// How a child opens a descriptor that it inherited, as a path.
#[cfg(unix)]
pub(crate) fn descriptor_path(number: i32) -> String {
    if cfg!(target_os = "linux") {
        format!("/proc/self/fd/{number}")
    } else {
        format!("/dev/fd/{number}")
    }
}

/// What our overlays' names start with where they have names.
#[cfg(not(unix))]
const PREFIX: &str = "quicksand-overlay-";

/// Removes overlays that a killed process left behind. Those in use cannot be removed on Windows.
#[cfg(not(unix))]
fn sweep(folder: &Path) {
    let Ok(entries) = fs_err::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // In use by a running machine, or already gone: both are right.
            let _ = fs_err::remove_file(entry.path());
        }
    }
}
