//! How saves come and go in the file system: written beside, then exchanged in one step.
//!
//! ```text
//!   (no name)                the layers of a save that is being written (`new_file.rs`)
//!   .quicksand-part-XXXX/    a save that is whole and about to get its place, or that was replaced or
//!                            removed, locked by its writer; what a killed writer left behind is
//!                            removed by another process (`remover.rs`), or by the next writer
//!   NAME/                    the save
//!   .NAME.quicksand-old/     only where a file system cannot exchange: the save that is being
//!                            replaced; it returns when its successor never came
//! ```

use super::SaveManifest;
use crate::error::{Error, Result};
#[cfg(unix)]
use crate::new_file::lock;
use crate::new_file::{HiddenName, NewFile, link, make_folder, make_hidden_folder};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use package_layout::save::{MANIFEST_FILE, OLD_SUFFIX, OVERLAYS_DIR, PART_PREFIX, overlay_name};
use runtime_locator::SealKey;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A save that is being written. Dropping it removes what was written.
pub(crate) struct Staging {
    target: PathBuf,
    parent: Dir,
    layers: BTreeMap<usize, Layer>,
    /// Files beside the layers, with their names.
    others: Vec<(&'static str, NewFile)>,
}

/// A layer of a save that is being written.
enum Layer {
    New(NewFile),
    /// The file of another save, which nobody can write to.
    Shared(File),
}

impl Layer {
    fn file(&self) -> &File {
        match self {
            Self::New(new) => new.file(),
            Self::Shared(file) => file,
        }
    }
}

impl Staging {
    /// Refuses a target that must not be replaced. Nothing with a name is made yet but the folder that
    /// the save goes into.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let parent = target.parent().unwrap_or(Path::new("/"));
        fs_err::create_dir_all(parent).map_err(in_parent(parent))?;
        recover(target);
        check_target(target)?;
        sweep(parent);
        let opened = Dir::open_ambient_dir(parent, ambient_authority());
        let parent = opened.map_err(in_parent(parent))?;
        Ok(Self { target: target.into(), parent, layers: BTreeMap::new(), others: Vec::new() })
    }

    /// Makes an empty layer; [`io::ErrorKind::AlreadyExists`] when there is one of that number.
    pub(crate) fn layer(&mut self, number: usize) -> io::Result<&NewFile> {
        let std::collections::btree_map::Entry::Vacant(entry) = self.layers.entry(number) else {
            return Err(io::ErrorKind::AlreadyExists.into());
        };
        let new = Layer::New(NewFile::create(&self.parent, PART_PREFIX)?);
        match entry.insert(new) {
            Layer::New(new) => Ok(new),
            Layer::Shared(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// Makes an empty file beside the layers. In the order of the calls they are sealed.
    #[cfg(target_os = "linux")]
    pub(crate) fn other(&mut self, name: &'static str) -> io::Result<&NewFile> {
        self.others.push((name, NewFile::create(&self.parent, PART_PREFIX)?));
        self.others.last().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The layers, from bottom to top, with their numbers.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (usize, &File)> {
        self.layers.iter().map(|(number, layer)| (*number, layer.file()))
    }

    /// Where a layer comes to be, for messages.
    pub(crate) fn path(&self, number: usize) -> PathBuf {
        self.target.join(OVERLAYS_DIR).join(overlay_name(number))
    }

    /// Puts a layer of another save in: the same file where nobody can write to it, else a copy that
    /// shares the blocks where the file system can, else a plain one.
    pub(crate) fn adopt(&mut self, layer: &File, number: usize) -> Result<()> {
        let path = self.path(number);
        let failed = |source| Error::File { action: "copy a layer to", path, source };
        self.take_over(layer, number).map_err(failed)
    }

    fn take_over(&mut self, layer: &File, number: usize) -> io::Result<()> {
        if layer.metadata()?.permissions().readonly() && can_link(layer, &self.parent)? {
            self.layers.insert(number, Layer::Shared(layer.try_clone()?));
            return Ok(());
        }
        self.layers.insert(number, Layer::New(copied(layer, &self.parent)?));
        Ok(())
    }

    /// Seals a manifest for the layers, so that the save is known as the user's own. A save without a
    /// seal is as good, but for what is said of those that came from elsewhere.
    pub(crate) fn seal(&self, manifest: &mut SaveManifest, data_dir: Option<&Path>) {
        let Some(data_dir) = data_dir else { return };
        let sealed = SealKey::read_or_make(data_dir).and_then(|key| {
            let others = self.others.iter().map(|(_, file)| file.file());
            key.seal(manifest, self.layers.values().map(Layer::file).chain(others))
        });
        if let Err(error) = sealed {
            tracing::warn!(%error, "the save is not marked as your own, in `{}`", data_dir.display());
        }
    }

    /// Has everything on the disk, and puts the save into its place. `step` is told each step before it
    /// is taken.
    pub(crate) fn commit(mut self, manifest: &str, step: &mut dyn FnMut(&str)) -> Result<()> {
        let target = self.target.clone();
        let failed = |source| {
            let path = target.clone();
            Error::File { action: "put the save into its place at", path, source }
        };
        step("flush");
        for layer in self.layers.values() {
            if let Layer::New(new) = layer {
                make_read_only(new.file()).and_then(|()| new.file().sync_all()).map_err(failed)?;
            }
        }
        for (_, file) in &self.others {
            make_read_only(file.file()).and_then(|()| file.file().sync_all()).map_err(failed)?;
        }
        step("gather");
        let parent = target.parent().unwrap_or(Path::new("/"));
        let made = make_hidden_folder(&self.parent, PART_PREFIX).map_err(failed)?;
        let folder = Part { path: parent.join(&*made.0), _name: made.0, _lock: made.1 };
        self.gather(&folder.path, manifest).map_err(failed)?;
        step("replace");
        replace(&folder.path, &target, step).map_err(failed)?;
        step("clean");
        // From here on the folder is the replaced save, or nothing.
        drop(folder);
        Ok(())
    }

    /// Gives all of a save its names.
    fn gather(&mut self, folder: &Path, manifest: &str) -> io::Result<()> {
        let overlays = folder.join(OVERLAYS_DIR);
        let opened = Dir::open_ambient_dir(folder, ambient_authority())?;
        make_folder(&opened, OVERLAYS_DIR.as_ref())?;
        let below = opened.open_dir(OVERLAYS_DIR)?;
        for (number, layer) in &mut self.layers {
            let name = overlay_name(*number);
            match layer {
                Layer::New(new) => new.place(&below, name.as_ref())?,
                Layer::Shared(file) => {
                    if link(file, &below, name.as_ref()).is_err() {
                        // The save that it is from is gone meanwhile.
                        let mut copy = copied(file, &self.parent)?;
                        make_read_only(copy.file())?;
                        copy.file().sync_all()?;
                        copy.place(&below, name.as_ref())?;
                    }
                }
            }
        }
        for (name, file) in &mut self.others {
            file.place(&opened, (*name).as_ref())?;
        }
        let mut file = fs_err::File::create_new(folder.join(MANIFEST_FILE))?;
        io::Write::write_all(&mut file, manifest.as_bytes())?;
        file.file().sync_all()?;
        flush_names(&overlays)?;
        flush_names(folder)
    }
}

/// Moves an existing save out of sight in one step and removes it, and says when that fails.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = opened_parent(path).and_then(|parent| {
        let name = HiddenName::new(&parent, PART_PREFIX)?;
        let folder = path.with_file_name(&*name);
        // The lock goes with the folder: another writer takes what has the new name for a save that
        // is being written, and leaves it alone.
        #[cfg(unix)]
        let folder_lock = fs_err::File::open(path)?.into_file();
        #[cfg(unix)]
        lock(&folder_lock);
        fs_err::rename(path, &folder)?;
        match fs_err::remove_dir_all(&folder) {
            // Another writer has swept it up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    });
    removed.map_err(|source| Error::File { action: "remove the save", path: path.into(), source })
}

/// A folder with a hidden name, locked by this process. It goes with this value.
struct Part {
    path: PathBuf,
    /// Removed by another process when this one is killed.
    _name: HiddenName,
    /// Tells other writers that somebody is at work here.
    _lock: Option<File>,
}

impl Drop for Part {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next writer.
        let _ = fs_err::remove_dir_all(&self.path);
    }
}

fn opened_parent(path: &Path) -> io::Result<Dir> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Dir::open_ambient_dir(parent.unwrap_or(Path::new(".")), ambient_authority())
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
#[cfg(unix)]
fn sweep(parent: &Path) {
    if let Ok(parent) = Dir::open_ambient_dir(parent, ambient_authority()) {
        crate::new_file::sweep(&parent, PART_PREFIX);
    }
}

#[cfg(not(unix))]
fn sweep(parent: &Path) {
    for entry in fs_err::read_dir(parent).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !entry.file_name().to_string_lossy().starts_with(PART_PREFIX) {
            continue;
        }
        // Files that somebody has open stay, and their folder with them.
        let _ = fs_err::remove_dir_all(entry.path());
    }
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

/// Takes a file's write permission away: a layer is never written again, and what cannot be written
/// can be shared between saves.
fn make_read_only(file: &File) -> io::Result<()> {
    let mut permissions = file.metadata()?.permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o400);
    #[cfg(not(unix))]
    permissions.set_readonly(true);
    file.set_permissions(permissions)
}

/// Whether a file can get a second name in a folder: it is on its file system, and this user's own.
#[cfg(target_os = "linux")]
fn can_link(layer: &File, folder: &Dir) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let layer = layer.metadata()?;
    let folder = cap_std::fs::MetadataExt::dev(&folder.dir_metadata()?);
    let is_own = layer.uid() == rustix::process::geteuid().as_raw();
    Ok(is_own && layer.dev() == folder && layer.nlink() > 0)
}

#[cfg(not(target_os = "linux"))]
fn can_link(_layer: &File, _folder: &Dir) -> io::Result<bool> {
    Ok(false)
}

fn copied(layer: &File, folder: &Dir) -> io::Result<NewFile> {
    let copy = NewFile::create(folder, PART_PREFIX)?;
    if !reflink(layer, copy.file()) {
        let (mut source, mut copy) = (layer.try_clone()?, copy.file());
        io::Seek::rewind(&mut source)?;
        io::copy(&mut source, &mut copy)?;
    }
    Ok(copy)
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
