//! The files and descriptors that one machine needs and that nobody must find afterwards.
//!
//! Owns the copy-on-write disk and small secret files. On Unix none of them has a name once QEMU
//! runs: they are open descriptors, so that the end of the processes is their end. Elsewhere they
//! are files in the folder for temporary files, removed on drop and swept at the next start.

use crate::error::{Error, Result};
use crate::positioned::Positioned;
use crate::size::Size;
use disk_formats::qcow2::{self, Fault, Layer};
use host_platform::Arch;
use package_layout::manifest::Manifest;
use runtime_locator::{ImageFind, OWN_KEY};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What makes the disk of one machine: an empty overlay on the layers of its image.
pub(crate) struct Overlay {
    /// The overlay and its layers as QEMU reaches them.
    #[cfg(unix)]
    pub files: OverlayFiles,
    /// The overlay's path, removed with this value.
    #[cfg(not(unix))]
    pub path: tempfile::TempPath,
    /// Where the disk came from.
    pub origin: Origin,
}

/// Where the disk of a machine came from: what a save of it must say and hold.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The size that the guest sees, in bytes.
    pub size: u64,
    /// Whether that is more than the image's.
    pub is_grown: bool,
    /// The name of the image below all saves, or its path.
    pub base: String,
    /// The name that this image's files bear.
    pub base_name: String,
    /// That image's version.
    pub version: String,
    /// The digest of that image's topmost disk.
    pub fingerprint: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// The machine's memory, so that a start from a save has as much.
    pub memory: Size,
    /// The number of its CPUs, likewise.
    pub cpus: u16,
    stack: Mutex<Stack>,
}

/// The files above the image's own disks. A fork of the running machine puts one more on top.
#[derive(Debug)]
struct Stack {
    /// What the machine writes to.
    overlay: Arc<File>,
    /// What lies below that, from bottom to top, open since the start: the folder of a save may be
    /// replaced.
    layers: Vec<Arc<File>>,
    /// How many of those, from the top, count as what the machine has written itself.
    n_counted: usize,
    /// QEMU's descriptor set of the overlay.
    #[cfg(target_os = "linux")]
    set: u32,
}

/// The descriptor set of a machine's disk at its start.
#[cfg(target_os = "linux")]
pub(crate) const DISK_SET: u32 = 0;

impl Origin {
    fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the machine writes to; there for a save after the guest has powered itself off, too.
    pub(crate) fn overlay(&self) -> Arc<File> {
        Arc::clone(&self.stack().overlay)
    }

    /// The layers between the image's own disks and the overlay, from bottom to top.
    pub(crate) fn save_layers(&self) -> Vec<Arc<File>> {
        self.stack().layers.clone()
    }

    /// The files that count as what the machine has written: all that no save and no other machine has
    /// brought along.
    pub(crate) fn written(&self) -> Vec<Arc<File>> {
        let stack = self.stack();
        let first = stack.layers.len() - stack.n_counted;
        stack.layers[first..].iter().chain([&stack.overlay]).cloned().collect()
    }
}

/// Open files of a disk. QEMU opens a disk for reading first and for writing later, and takes a
/// descriptor of the right kind out of the set each time.
#[cfg(unix)]
pub(crate) struct OverlayFiles {
    pub read_write: std::os::fd::OwnedFd,
    /// The same file for reading.
    pub read_only: std::os::fd::OwnedFd,
    /// The layers for reading, the base first: they cannot be written through these.
    pub layers: Vec<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Origin {
    /// QEMU's descriptor set of the overlay.
    pub(crate) fn set(&self) -> u32 {
        self.stack().set
    }

    /// Has a file on top from now on, in a descriptor set of its own. What the machine wrote to until now
    /// is a layer, open for reading alone, which others may have below theirs.
    pub(crate) fn cover(&self, fresh: Arc<File>, set: u32, below: Arc<File>) {
        let mut stack = self.stack();
        stack.layers.push(below);
        stack.n_counted += 1;
        (stack.overlay, stack.set) = (fresh, set);
    }

    /// Takes note of where the disk stands in a machine that goes on from another one's process.
    pub(crate) fn place(&mut self, n_counted: usize, set: u32) {
        let mut stack = self.stack();
        (stack.n_counted, stack.set) = (n_counted.min(stack.layers.len()), set);
    }

    /// How many layers count as what the machine has written itself.
    pub(crate) fn n_counted(&self) -> usize {
        self.stack().n_counted
    }

    /// Has the disk begin with what another machine has written until now.
    pub(crate) fn begin_with(&mut self, written: &File) -> Result<()> {
        check_layer(written, Path::new("a template's disk"), false)?;
        let overlay = self.overlay();
        let copied =
            overlay.set_len(0).and_then(|()| crate::guest_memory::copy_sparse(written, &overlay));
        // The other one has grown it already, where it was to be.
        self.is_grown = false;
        copied.map_err(|source| Error::System { action: "copy a template's disk", source })
    }
}

impl Overlay {
    /// Checks the image's layers and puts an empty overlay of the wanted size on them.
    pub(crate) fn create(
        image: &ImageFind,
        wanted: Option<&Size>,
        (memory, cpus): (Size, u16),
        above: &[Arc<File>],
    ) -> Result<Self> {
        let mut save_layers = Vec::new();
        let mut fingerprint = String::new();
        let mut size = 0;
        for (index, (path, file)) in image.chain.iter().zip(&image.files.chain).enumerate() {
            let layer = check_layer(file, path, index == 0)?;
            if index + 1 == image.n_base_disks {
                fingerprint = layer.fingerprint;
            }
            if index >= image.n_base_disks {
                save_layers.push(Arc::clone(file));
            }
            size = layer.size;
        }
        // What the guest of a machine has written that this one goes on from is below what this one writes,
        // and in its saves.
        for file in above {
            size = check_layer(file, Path::new("a machine's disk"), false)?.size;
            save_layers.push(Arc::clone(file));
        }
        let (head, length) = head(grown(size, wanted)?, &image.chain[0])?;
        let folder = temporary_folder();
        let failed = |source| Error::File {
            action: "write the overlay disk in",
            path: folder.clone(),
            source,
        };
        #[cfg(unix)]
        let (mut file, read_only) = unnamed_file(&folder).map_err(failed)?;
        #[cfg(not(unix))]
        let mut file = {
            sweep(&folder);
            let mut builder = tempfile::Builder::new();
            builder.prefix(PREFIX).suffix(".qcow2").tempfile_in(&folder).map_err(failed)?
        };
        file.write_all(&head).map_err(failed)?;
        #[cfg(unix)]
        let overlay = &file;
        #[cfg(not(unix))]
        let overlay = file.as_file();
        overlay.set_len(length).map_err(failed)?;
        let stack = Stack {
            overlay: Arc::new(overlay.try_clone().map_err(failed)?),
            layers: save_layers,
            n_counted: 0,
            #[cfg(target_os = "linux")]
            set: DISK_SET,
        };
        let origin = Origin {
            stack: Mutex::new(stack),
            is_grown: grown(size, wanted)? > size,
            size: grown(size, wanted)?,
            base: image.base.clone(),
            base_name: image.base_name.clone(),
            version: image.version.clone(),
            fingerprint,
            arch: image.arch,
            memory,
            cpus,
        };
        if image.chain.len() > image.n_base_disks
            && let Some(top) = image.chain.last().and_then(|top| top.parent()?.parent())
            && let Some(manifest) = &image.files.manifest
        {
            check_base(top, manifest, &origin)?;
        }
        #[cfg(unix)]
        {
            let files = image.files.chain.iter().chain(above);
            let layers = files.map(|file| Ok(file.try_clone()?.into()));
            let layers = layers.collect::<std::io::Result<_>>();
            let layers =
                layers.map_err(|source| Error::System { action: "keep a disk open", source })?;
            let files = OverlayFiles { read_write: file.into(), read_only, layers };
            Ok(Self { files, origin })
        }
        #[cfg(not(unix))]
        {
            Ok(Self { path: file.into_temp_path(), origin })
        }
    }
}

/// What an empty overlay begins with, and its length. The path is for messages.
fn head(size: u64, path: &Path) -> Result<(Vec<u8>, u64)> {
    qcow2::empty_overlay(size, "").ok_or_else(|| {
        let reason = "its size is beyond the format".into();
        Error::BadImage { path: path.into(), reason }
    })
}

/// An empty overlay: the same bytes for each disk of that size.
#[cfg(target_os = "linux")]
pub(crate) fn blank(size: u64) -> Result<(File, std::os::fd::OwnedFd)> {
    let (head, length) = head(size, Path::new("a machine's disk"))?;
    let folder = temporary_folder();
    let made = unnamed_file(&folder).and_then(|(mut file, read_only)| {
        file.write_all(&head)?;
        file.set_len(length)?;
        Ok((file, read_only))
    });
    made.map_err(|source| Error::File { action: "write the overlay disk in", path: folder, source })
}

/// The size of a disk that is to grow.
fn grown(size: u64, wanted: Option<&Size>) -> Result<u64> {
    let Some(wanted) = wanted else { return Ok(size) };
    // A whole number of MiB: what every disk driver and file system can use to its end.
    let bytes = wanted.bytes().next_multiple_of(1 << 20);
    if bytes >= size {
        return Ok(bytes);
    }
    Err(Error::InvalidValue {
        option: "disk_size",
        value: wanted.to_string(),
        allowed: format!("at least the image's own {} MiB", size.div_ceil(1 << 20)),
        hint: Some("A disk can grow and never shrink; leave it out for its own".into()),
    })
}

/// Refuses a save that was made on another version of its image: blocks of one file system over
/// those of another would be read as somebody's data.
fn check_base(path: &Path, manifest: &Manifest, origin: &Origin) -> Result<()> {
    let Some(own) = manifest.other.get(OWN_KEY) else { return Ok(()) };
    match own["base_fingerprint"].as_str() {
        Some(fingerprint) if fingerprint != origin.fingerprint => Err(Error::BaseChanged {
            path: path.into(),
            base: origin.base.clone(),
            version: own["base_version"].as_str().map(str::to_owned),
        }),
        _ => Ok(()),
    }
}

/// Checks an open layer; its path is for messages.
pub(crate) fn check_layer(file: &File, path: &Path, is_base: bool) -> Result<Layer> {
    match qcow2::inspect(&mut Positioned::new(file), is_base) {
        Ok(layer) => Ok(layer),
        Err(Fault::Bad(reason)) => Err(Error::BadImage { path: path.into(), reason }),
        Err(Fault::Io(source)) => {
            Err(Error::File { action: "read the disk image", path: path.into(), source })
        }
    }
}

/// The folder for temporary files: `TMPDIR`, or the system's.
pub(crate) fn temporary_folder() -> PathBuf {
    std::env::temp_dir()
}

/// A file that only this user can read and that has no name, opened twice.
#[cfg(target_os = "linux")]
pub(crate) fn unnamed_file(
    folder: &Path,
) -> std::io::Result<(std::fs::File, std::os::fd::OwnedFd)> {
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
