//! How saves come and go in the file system: written beside, then exchanged in one step.
//!
//! ```text
//!   .quicksand-part-XXXX/    a save that is being written, locked by its writer; what a killed
//!                            writer left behind is removed by the next one
//!   NAME/                    the save
//!   .NAME.quicksand-old/     only where a file system cannot exchange: the save that is being
//!                            replaced; it returns when its successor never came
//! ```

use super::SaveManifest;
use crate::error::{Error, Result};
use package_layout::save::{MANIFEST_FILE, OLD_SUFFIX, OVERLAYS_DIR, PART_PREFIX, overlay_file};
use runtime_locator::{Folder, SealKey};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A save that is being written. Dropping it removes what was written.
pub(super) struct Staging {
    folder: PathBuf,
    target: PathBuf,
    /// Tells other writers that somebody is at work here.
    _lock: Option<File>,
}

impl Staging {
    /// Makes an empty folder beside the target, and refuses a target that must not be replaced.
    pub(super) fn create(target: &Path) -> Result<Self> {
        let parent = target.parent().unwrap_or(Path::new("/"));
        fs_err::create_dir_all(parent).map_err(in_parent(parent))?;
        recover(target);
        check_target(target)?;
        sweep(parent);
        let (folder, lock) = locked_folder(parent)?;
        let staging = Self { folder, target: target.into(), _lock: lock };
        let overlays = staging.folder.join(OVERLAYS_DIR);
        make_private(&overlays).map_err(in_parent(parent))?;
        Ok(staging)
    }

    /// Moves an existing save out of sight.
    pub(super) fn of_existing(path: &Path) -> Result<Self> {
        let folder = fresh_name(path.parent().unwrap_or(Path::new("/")))?;
        let failed = |source| Error::File { action: "remove the save", path: path.into(), source };
        // The lock goes with the folder: another writer takes what has the new name for a save that
        // is being written, and leaves it alone.
        let lock = lock(path).map_err(failed)?;
        fs_err::rename(path, &folder).map_err(failed)?;
        Ok(Self { folder, target: path.into(), _lock: lock })
    }

    /// Removes it, and says when that fails.
    pub(super) fn discard(self) -> Result<()> {
        let failed = |source| {
            let path = self.folder.clone();
            Error::File { action: "remove the save", path, source }
        };
        match fs_err::remove_dir_all(&self.folder) {
            // Another writer has swept it up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a layer.
    pub(super) fn overlay(&self, number: usize) -> PathBuf {
        self.folder.join(overlay_file(number))
    }

    /// Puts a layer of another save in: the same file where nobody can write to it, else a copy.
    pub(super) fn adopt(&self, layer: &File, number: usize) -> Result<()> {
        let path = self.overlay(number);
        link_or_copy(layer, &path).map_err(|source| Error::File {
            action: "copy a layer to",
            path,
            source,
        })
    }

    /// Seals a manifest for the layers that lie here, so that the save is known as the user's own. A
    /// save without a seal is as good, but for what is said of those that came from elsewhere.
    pub(super) fn seal(&self, manifest: &mut SaveManifest, data_dir: Option<&Path>) {
        let Some(data_dir) = data_dir else { return };
        let sealed = SealKey::read_or_make(data_dir).and_then(|key| {
            let folder = Folder::open(&self.folder)?.below(OVERLAYS_DIR)?;
            let n_layers = folder.names()?.len();
            let layers = (0..n_layers).map(|number| folder.file(&format!("{number}.qcow2")));
            key.seal(manifest, &layers.collect::<io::Result<Vec<_>>>()?)
        });
        if let Err(error) = sealed {
            tracing::warn!(%error, "the save is not marked as your own, in `{}`", data_dir.display());
        }
    }

    /// Writes the manifest, has everything on the disk, and puts the save into its place. `step` is
    /// told each step before it is taken.
    pub(super) fn commit(self, manifest: &str, step: &mut dyn FnMut(&str)) -> Result<()> {
        let failed = |source| {
            let path = self.target.clone();
            Error::File { action: "put the save into its place at", path, source }
        };
        step("manifest");
        fs_err::write(self.folder.join(MANIFEST_FILE), manifest).map_err(failed)?;
        step("flush");
        flush(&self.folder).map_err(failed)?;
        step("replace");
        replace(&self.folder, &self.target, step).map_err(failed)?;
        step("clean");
        // From here on the folder is the replaced save, or nothing.
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next writer.
        let _ = fs_err::remove_dir_all(&self.folder);
    }
}

/// An empty folder that this process has locked. Between its making and its locking another writer
/// may take it for one that was left behind, and remove it: then there is one more try.
fn locked_folder(parent: &Path) -> Result<(PathBuf, Option<File>)> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let folder = fresh_name(parent)?;
        make_private(&folder).map_err(in_parent(parent))?;
        match lock(&folder) {
            Ok(Some(lock)) if is_at(&lock, &folder) => return Ok((folder, Some(lock))),
            // Another holds the lock, or the folder is gone already.
            Ok(Some(_) | None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(in_parent(parent)(error)),
        }
        let _ = fs_err::remove_dir(&folder);
    }
    Err(in_parent(parent)(io::Error::other("others remove what is written there")))
}

/// Whether a locked folder is still the one of that name.
#[cfg(unix)]
fn is_at(lock: &File, folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(own), Ok(named)) = (lock.metadata(), fs_err::symlink_metadata(folder)) else {
        return false;
    };
    (own.dev(), own.ino()) == (named.dev(), named.ino())
}

#[cfg(not(unix))]
fn is_at(_lock: &File, _folder: &Path) -> bool {
    true
}

/// A name for an unfinished save that nobody else has.
fn fresh_name(parent: &Path) -> Result<PathBuf> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::System {
        action: "draw a random name",
        source: io::Error::other(error.to_string()),
    })?;
    Ok(parent.join(format!("{PART_PREFIX}{:016x}", u64::from_ne_bytes(bytes))))
}

fn in_parent(parent: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::File { action: "write a save in", path: parent.into(), source }
}

/// Refuses to replace anything but a save.
pub(super) fn check_target(target: &Path) -> Result<()> {
    let in_the_way =
        |reason: &str| Err(Error::SaveInTheWay { path: target.into(), reason: reason.into() });
    let Ok(metadata) = fs_err::symlink_metadata(target) else { return Ok(()) };
    if metadata.is_symlink() {
        return in_the_way("it is a link");
    }
    if !metadata.is_dir() {
        return in_the_way("it is not a directory");
    }
    if !target.join(MANIFEST_FILE).is_file() {
        return in_the_way(&format!("it is a folder that is not a save: Missing {MANIFEST_FILE}"));
    }
    if !target.join(OVERLAYS_DIR).is_dir() {
        return in_the_way(&format!("it is a folder that is not a save: Missing {OVERLAYS_DIR}"));
    }
    Ok(())
}

fn old_name(target: &Path) -> Option<PathBuf> {
    let name = target.file_name()?.to_string_lossy();
    Some(target.with_file_name(format!(".{name}{OLD_SUFFIX}")))
}

/// Finishes a replacement that was cut off where a file system cannot exchange.
pub(super) fn recover(target: &Path) {
    let Some(old) = old_name(target) else { return };
    if fs_err::symlink_metadata(&old).is_err() {
        return;
    }
    // A failure leaves things as they are, and whoever looks for the save says that it is not there.
    let _ = match fs_err::symlink_metadata(target) {
        Ok(_) => fs_err::remove_dir_all(old),
        Err(_) => fs_err::rename(old, target),
    };
}

/// The same for all saves of a folder.
pub(super) fn recover_all(parent: &Path) {
    for entry in fs_err::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if let Some(save) = name.strip_prefix('.').and_then(|name| name.strip_suffix(OLD_SUFFIX)) {
            recover(&parent.join(save));
        }
    }
}

/// Removes what killed writers left behind.
fn sweep(parent: &Path) {
    for entry in fs_err::read_dir(parent).into_iter().flatten().flatten() {
        // What is no folder is not ours: to open a pipe would wait, and a link leads elsewhere.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !entry.file_name().to_string_lossy().starts_with(PART_PREFIX) {
            continue;
        }
        if let Ok(Some(_lock)) = lock(&entry.path()) {
            let _ = fs_err::remove_dir_all(entry.path());
        }
    }
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs_err::create_dir(folder)
}

/// Takes a folder's lock; `None` when another has it, or where folders cannot be locked.
#[cfg(unix)]
fn lock(folder: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{FlockOperation, flock};
    let file = fs_err::File::open(folder)?.into_file();
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(_) => Ok(None),
    }
}

/// Windows keeps folders in use from being removed, which does the same.
#[cfg(not(unix))]
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let marker = folder.join("lock");
    if marker.exists() && fs_err::remove_file(&marker).is_err() {
        return Ok(None);
    }
    Ok(Some(fs_err::File::create(marker)?.into_file()))
}

/// Has all files and names of a save on the disk.
fn flush(folder: &Path) -> io::Result<()> {
    let overlays = folder.join(OVERLAYS_DIR);
    for entry in fs_err::read_dir(&overlays)? {
        fs_err::File::open(entry?.path())?.file().sync_all()?;
    }
    fs_err::File::open(folder.join(MANIFEST_FILE))?.file().sync_all()?;
    flush_names(&overlays)?;
    flush_names(folder)
}

#[cfg(unix)]
fn flush_names(folder: &Path) -> io::Result<()> {
    fs_err::File::open(folder)?.file().sync_all()
}

#[cfg(not(unix))]
fn flush_names(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Puts `new` in the place of `target`. What was there is in the place of `new` afterwards, or gone.
fn replace(new: &Path, target: &Path, step: &mut dyn FnMut(&str)) -> io::Result<()> {
    let parent = target.parent().unwrap_or(Path::new("/"));
    if fs_err::symlink_metadata(target).is_err() {
        fs_err::rename(new, target)?;
    } else if !exchange(new, target)? {
        step_aside(new, target, step)?;
    }
    step("replaced");
    flush_names(parent)
}

/// Exchanges two folders in one step; gives false where that cannot be done.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(new: &Path, target: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(_new: &Path, _target: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Two steps, with a name in between that [`recover`] knows.
fn step_aside(new: &Path, target: &Path, step: &mut dyn FnMut(&str)) -> io::Result<()> {
    let Some(old) = old_name(target) else { return Err(io::ErrorKind::InvalidInput.into()) };
    if fs_err::symlink_metadata(&old).is_ok() {
        fs_err::remove_dir_all(&old)?;
    }
    fs_err::rename(target, &old)?;
    step("aside");
    fs_err::rename(new, target)?;
    step("in place");
    fs_err::remove_dir_all(old)
}

/// The same file under a second name where nobody can write to it, else a copy that shares the
/// blocks where the file system can, else a plain one.
fn link_or_copy(layer: &File, path: &Path) -> io::Result<()> {
    if layer.metadata()?.permissions().readonly() && link(layer, path).is_ok() {
        return Ok(());
    }
    let mut copy = fs_err::File::create_new(path)?;
    if !reflink(layer, copy.file()) {
        let mut source = layer.try_clone()?;
        io::Seek::rewind(&mut source)?;
        io::copy(&mut source, &mut copy)?;
    }
    make_read_only(path)
}

/// Takes a file's write permission away: a layer is never written again, and what cannot be written
/// can be shared between saves.
pub(super) fn make_read_only(path: &Path) -> io::Result<()> {
    let mut permissions = fs_err::metadata(path)?.permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o400);
    #[cfg(not(unix))]
    permissions.set_readonly(true);
    fs_err::set_permissions(path, permissions)
}

#[cfg(target_os = "linux")]
fn link(layer: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let own = format!("/proc/self/fd/{}", layer.as_raw_fd());
    Ok(linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_layer: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn reflink(layer: &File, copy: &File) -> bool {
    rustix::fs::ioctl_ficlone(copy, layer).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn reflink(_layer: &File, _copy: &File) -> bool {
    false
}

#[cfg(test)]
mod tests;
