//! Saves: the disk of a sandbox, kept under a name in `.quicksand/sandboxes/NAME`.
//!
//! ```text
//!   NAME/manifest.json          version, configuration, architecture
//!   NAME/overlays/0.qcow2 …     from bottom to top, without the image below them
//!   NAME/memory.state, .json    only in saves with memory (`saving/memory.rs`); never exported
//! ```
//! Owns where saves are, what is in them and how they come and go; how the bytes leave a running
//! machine is `saving`'s. Must not know the guest.
//!
//! Invariant: a save is replaced in one step. Whatever ends this process, the old one or the new one
//! is there, whole.
//!
//! Invariant: nothing in a save names a file that is opened. Which layers there are is known from
//! their numbers, what is below them from the manifest's image; the names in the files' headers are
//! for people.

mod archive;
pub(crate) mod portable;
mod store;

pub use crate::save_name::check_name;
pub use archive::{export, import};
pub use package_layout::manifest::Manifest as SaveManifest;
pub(crate) use store::Staging;

use crate::error::{Error, Result};
use crate::overlay::check_layer;
use package_layout::save::{
    MANIFEST_FILE, MAX_OVERLAYS, OVERLAYS_DIR, SANDBOXES_DIR, is_unfinished, overlay_number,
};
use runtime_locator::{Folder, Search};
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The most bytes of a manifest that are read.
const MAX_MANIFEST: u64 = 1 << 20;

/// How a save is made.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// The folder of saves, instead of the configuration's.
    pub workspace: Option<PathBuf>,
    /// Compresses what was written since the start. Slower to make, as quick to use.
    pub compress: bool,
    /// Keeps the guest's memory as well: a start from the save goes on where it was made, on the same kind
    /// of host, and boots from the disk elsewhere. The machine stands still while it is written.
    pub memory: bool,
    /// Deletes the checkpoints of the running sandbox afterwards. A save holds none either way.
    pub delete_checkpoints: bool,
}

/// One save, whole or damaged.
#[derive(Clone, Debug, Serialize)]
pub struct SaveInfo {
    /// The name of its folder.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// The image that it lies on.
    pub base: Option<String>,
    /// The guest's architecture, in QEMU's words.
    pub arch: Option<String>,
    /// How many layers it has.
    pub n_overlays: usize,
    /// The bytes of its layers. Saves that were made from one another share files, and each counts
    /// them.
    pub bytes: u64,
    /// When it was made: seconds since 1970.
    pub created: Option<u64>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Where a save of that name is or comes to be.
///
/// # Errors
/// As [`check_name`].
pub fn place(search: &Search, name: &str, workspace: Option<&Path>) -> Result<PathBuf> {
    check_name(name)?;
    let folder = match workspace {
        Some(workspace) => search.working_dir.join(workspace),
        None => search.working_dir.join(SANDBOXES_DIR),
    };
    // An absolute path replaces all of it.
    Ok(folder.join(name))
}

/// Refuses a place where something else is, which a save would replace.
pub(crate) fn check_place(path: &Path) -> Result<()> {
    store::recover(path);
    store::check_target(path)
}

/// Finds a save by its name or path: in the workspace, or else in the working folder's and the home
/// folder's `.quicksand/sandboxes`.
///
/// # Errors
/// [`Error::SaveNotFound`] with the place where it would have been.
pub fn find(search: &Search, name: &str, workspace: Option<&Path>) -> Result<PathBuf> {
    let direct = search.working_dir.join(name);
    let is_path = name.contains(['/', '\\']) || matches!(name, "" | "." | "..");
    if is_path {
        store::recover(&direct);
        let exists = !name.is_empty() && direct.exists();
        return if exists { Ok(direct) } else { Err(Error::SaveNotFound { path: direct }) };
    }
    let mut places: Vec<PathBuf> = match workspace {
        Some(workspace) => vec![search.working_dir.join(workspace)],
        None => {
            let homes = [Some(&search.working_dir), search.home.as_ref()];
            homes.into_iter().flatten().map(|folder| folder.join(SANDBOXES_DIR)).collect()
        }
    };
    for place in &mut places {
        place.push(name);
        store::recover(place);
    }
    if let Some(found) = places.iter().find(|place| place.exists()) {
        return Ok(found.clone());
    }
    if workspace.is_none() && direct.exists() {
        return Ok(direct);
    }
    Err(Error::SaveNotFound { path: places.swap_remove(0) })
}

/// Reads a save and checks all of it: the manifest, the layers' numbers, and each layer's tables.
///
/// # Errors
/// [`Error::SaveNotFound`], [`Error::NotASave`] with what is missing, or [`Error::BadImage`].
pub fn validate(path: &Path) -> Result<SaveManifest> {
    store::recover(path);
    let Save { manifest, layers } = read(path)?;
    for (name, file) in &layers {
        let sound = check_disk(file, name)?;
        sound.map_err(|reason| Error::NotASave { path: path.into(), reason })?;
    }
    Ok(manifest)
}

/// Says what is wrong with a layer. Even the lowest lies on an image, so that none of them is a base.
fn check_disk(file: &File, name: &str) -> Result<std::result::Result<(), String>> {
    match check_layer(file, Path::new(name), false) {
        Ok(_) => Ok(Ok(())),
        Err(Error::BadImage { reason, .. }) => {
            Ok(Err(format!("{OVERLAYS_DIR}/{name} is damaged or not a qcow2 file: {reason}")))
        }
        Err(error) => Err(error),
    }
}

/// Reads a manifest, or says what is wrong with it.
fn parse(text: &str) -> std::result::Result<SaveManifest, String> {
    SaveManifest::parse(text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    })
}

/// Says what is wrong with the numbers of a save's layers, which are in order.
fn check_numbers(numbers: &[usize]) -> std::result::Result<(), String> {
    if numbers.is_empty() {
        return Err("No overlay files found".into());
    }
    if let Some((gap, _)) = numbers.iter().enumerate().find(|(index, number)| index != *number) {
        return Err(format!("{OVERLAYS_DIR}/{gap}.qcow2 is missing"));
    }
    if numbers.len() > MAX_OVERLAYS {
        return Err(format!("it has more than {MAX_OVERLAYS} layers"));
    }
    Ok(())
}

/// A save with its files open.
struct Save {
    manifest: SaveManifest,
    /// The file names of its layers, from bottom to top, with the files.
    layers: Vec<(String, File)>,
}

/// The manifest and the layers of a save, without a look into them. Each file is opened once, and no
/// link in the save's folder is followed.
fn read(path: &Path) -> Result<Save> {
    let damaged = |reason: String| Error::NotASave { path: path.into(), reason };
    let unreadable = |source| Error::File { action: "read the save", path: path.into(), source };
    match fs_err::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(damaged("it is not a directory".into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::SaveNotFound { path: path.into() });
        }
        Err(source) => return Err(unreadable(source)),
    }
    let folder = Folder::open(path).map_err(unreadable)?;
    if !folder.has(MANIFEST_FILE) {
        return Err(damaged(format!("Missing {MANIFEST_FILE}")));
    }
    let text = folder
        .text(MANIFEST_FILE, MAX_MANIFEST)
        .map_err(|error| damaged(format!("{MANIFEST_FILE} cannot be read: {error}")))?;
    let manifest = parse(&text).map_err(damaged)?;
    if !folder.has(OVERLAYS_DIR) {
        return Err(damaged(format!("Missing {OVERLAYS_DIR}")));
    }
    let below = folder.below(OVERLAYS_DIR).and_then(|below| Ok((below.names()?, below)));
    let (names, overlays) = below
        .map_err(|error| damaged(format!("{OVERLAYS_DIR} is not read, or no folder: {error}")))?;
    let mut numbers: Vec<usize> = names.iter().filter_map(|name| overlay_number(name)).collect();
    numbers.sort_unstable();
    check_numbers(&numbers).map_err(damaged)?;
    let open = |number: &usize| {
        let name = format!("{number}.qcow2");
        match overlays.file(&name) {
            Ok(file) => Ok((name, file)),
            Err(error) => Err(damaged(format!("{OVERLAYS_DIR}/{name} cannot be read: {error}"))),
        }
    };
    let layers = numbers.iter().map(open).collect::<Result<_>>()?;
    Ok(Save { manifest, layers })
}

/// All saves of the workspace, or of the working folder and the home folder; damaged ones too, with
/// what is wrong with them.
pub fn list(search: &Search, workspace: Option<&Path>) -> Vec<SaveInfo> {
    let folders = match workspace {
        Some(workspace) => vec![search.working_dir.join(workspace)],
        None => {
            let home = search.home.as_ref().filter(|home| **home != search.working_dir);
            let homes = [Some(&search.working_dir), home];
            homes.into_iter().flatten().map(|folder| folder.join(SANDBOXES_DIR)).collect()
        }
    };
    let mut saves = Vec::new();
    for folder in folders {
        store::recover_all(&folder);
        let Ok(opened) = Folder::open(&folder) else { continue };
        let mut names = opened.names().unwrap_or_default();
        // A workspace may hold other folders; one with half of a save is listed with its fault.
        names.retain(|name| {
            let is_save = |save: Folder| save.has(MANIFEST_FILE) || save.has(OVERLAYS_DIR);
            !is_unfinished(name) && opened.below(name).is_ok_and(is_save)
        });
        names.sort_unstable();
        saves.extend(names.into_iter().map(|name| info(&folder.join(&name), name)));
    }
    saves
}

/// What is known of one save at a glance.
pub fn show(path: &Path) -> Result<SaveInfo> {
    read(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(info(path, name))
}

fn info(path: &Path, name: String) -> SaveInfo {
    let (manifest, layers, problem) = match read(path) {
        Ok(Save { manifest, layers }) => (Some(manifest), layers, None),
        Err(Error::NotASave { reason, .. }) => (None, Vec::new(), Some(reason)),
        Err(error) => (None, Vec::new(), Some(error.to_string())),
    };
    let sizes = layers.iter().filter_map(|(_, file)| Some(file.metadata().ok()?.len()));
    let modified =
        fs_err::symlink_metadata(path.join(MANIFEST_FILE)).and_then(|it| it.modified()).ok();
    let created = modified
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|since| since.as_secs());
    SaveInfo {
        name,
        path: path.into(),
        base: manifest.as_ref().and_then(|it| it.base_image().map(str::to_owned)),
        arch: manifest.and_then(|it| it.arch),
        n_overlays: layers.len(),
        bytes: sizes.sum(),
        created,
        problem,
    }
}

/// Removes a save. A running sandbox that was started from it goes on.
///
/// # Errors
/// [`Error::SaveNotFound`]; [`Error::SaveInTheWay`] for a folder that is not a save, which is not touched.
pub fn remove(path: &Path) -> Result<()> {
    store::recover(path);
    if fs_err::symlink_metadata(path).is_err() {
        return Err(Error::SaveNotFound { path: path.into() });
    }
    store::check_target(path)?;
    store::remove(path)
}

#[cfg(test)]
mod tests;
