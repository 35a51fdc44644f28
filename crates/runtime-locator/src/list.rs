//! Every image that can be started by name, and the names that are nearest to a misspelt one.

use crate::{
    Folder, Search, Source,
    entry_points::image_entry_points,
    image_folder::{ImageFolder, read_manifest},
    search::IMAGE_PATH_VARIABLE,
};
use package_layout::{
    image::{IMAGES_DIR, PACKAGE_PREFIX},
    known,
    save::{SANDBOXES_DIR, is_unfinished},
    user_data,
};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The most entries of a folder of images or packages that are looked at.
const MAX_FOLDERS: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// Kernel, initrd and disk.
    Base,
    /// Disks on top of a base, from a package or folder.
    Overlay,
    /// Disks on top of a base, saved from a sandbox.
    Save,
}

/// One image of one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageListing {
    /// The name to start it by.
    pub name: String,
    pub kind: ImageKind,
    /// The version of a base.
    pub version: Option<String>,
    /// The architecture as in image names; `None` where the manifest does not tell.
    pub arch: Option<String>,
    /// The image that an overlay or save lies on.
    pub base: Option<String>,
    pub folder: PathBuf,
    /// Where it came from.
    pub source: Source,
}

/// All images, place by place and sorted by name within one place. A name can be there more than
/// once; which one is meant by it says [`crate::find_image`].
pub fn list_images(search: &Search) -> Vec<ImageListing> {
    let mut list = Vec::new();
    let mut saves = |parent: &Path, source: &Source| {
        let Ok(folder) = Folder::open(&parent.join(SANDBOXES_DIR)) else { return };
        let mut names = folder.names().unwrap_or_default();
        names.sort_unstable();
        for name in names.into_iter().filter(|name| !is_unfinished(name)) {
            // A link in the place of a save is not a save.
            let Ok(save) = folder.below(&name) else { continue };
            list_folder(&mut list, save, Some(&name), ImageKind::Save, source);
        }
    };
    saves(&search.working_dir, &Source::WorkingFolder);
    if let Some(home) = search.home.as_ref().filter(|home| **home != search.working_dir) {
        saves(home, &Source::HomeFolder);
    }
    for folder in &search.image_path {
        list_shared(&mut list, folder, &Source::Environment(IMAGE_PATH_VARIABLE));
    }
    let mut packages = BTreeSet::new();
    for site_packages in &search.site_packages {
        for entry in image_entry_points(site_packages) {
            if packages.insert(entry.images_dir.clone()) {
                let source = Source::Wheel(entry.distribution);
                let (dir, name) = (&entry.images_dir, entry.name.as_str());
                list_at(&mut list, dir, Some(name), ImageKind::Overlay, &source);
            }
        }
        for (name, images) in image_packages(site_packages) {
            if packages.insert(images.clone()) {
                let source = Source::Wheel(format!("quicksand-{name}"));
                list_at(&mut list, &images, Some(&name), ImageKind::Overlay, &source);
            }
        }
    }
    if let Some(data) = &search.data_dir {
        list_shared(&mut list, &data.join(user_data::IMAGES_DIR), &Source::DataFolder);
        for (name, images) in image_packages(&data.join(user_data::PACKAGES_DIR)) {
            let source = Source::DataFolder;
            list_at(&mut list, &images, Some(&name), ImageKind::Overlay, &source);
        }
    }
    list
}

/// The packages of a folder that are laid out as an image's: its name and its files' folder.
fn image_packages(folder: &Path) -> Vec<(String, PathBuf)> {
    let image = |(package, folder): (String, PathBuf)| {
        let name = package.strip_prefix(PACKAGE_PREFIX)?.replace('_', "-");
        Some((name, folder.join(IMAGES_DIR))).filter(|(_, images)| images.is_dir())
    };
    sub_folders(folder).into_iter().filter_map(image).collect()
}

/// A folder with images of many names: their files, and one folder for each overlay.
fn list_shared(list: &mut Vec<ImageListing>, folder: &Path, source: &Source) {
    list_at(list, folder, None, ImageKind::Base, source);
    for (name, sub_folder) in sub_folders(folder) {
        list_at(list, &sub_folder, Some(&name), ImageKind::Overlay, source);
    }
}

/// Lists what the folder at a path holds, if there is one.
fn list_at(
    list: &mut Vec<ImageListing>,
    path: &Path,
    name: Option<&str>,
    layers: ImageKind,
    source: &Source,
) {
    if let Ok(folder) = Folder::open(path) {
        list_folder(list, folder, name, layers, source);
    }
}

/// Lists what a folder holds. `name` is the image's when the folder is its own; `layers` is what
/// overlays in it are called.
fn list_folder(
    list: &mut Vec<ImageListing>,
    folder: Folder,
    name: Option<&str>,
    layers: ImageKind,
    source: &Source,
) {
    let path = folder.path().to_owned();
    let Ok(held) = ImageFolder::read(folder) else { return };
    if let Some(name) = name.filter(|_| held.n_overlays().is_ok()) {
        let Ok(manifest) = read_manifest(&path, &held) else { return };
        let arch = manifest.arch.as_deref().and_then(|arch| arch.parse().ok());
        list.push(ImageListing {
            name: name.to_owned(),
            kind: layers,
            version: None,
            arch: arch.map(|arch: host_platform::Arch| arch.to_string()),
            base: manifest.base_image().map(str::to_owned),
            folder: path.clone(),
            source: source.clone(),
        });
        return;
    }
    for (file_name, version, arch) in held.complete_bases() {
        list.push(ImageListing {
            name: name.unwrap_or(file_name).to_owned(),
            kind: ImageKind::Base,
            version: Some(version.to_owned()),
            arch: Some(arch.to_owned()),
            base: None,
            folder: path.clone(),
            source: source.clone(),
        });
    }
}

fn sub_folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten().take(MAX_FOLDERS);
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(_, path)| path.is_dir())
        .collect();
    found.sort();
    found
}

/// At most three names that a misspelt one may have meant, best first: of what is there and of
/// what has a name of ours.
pub(crate) fn nearest_names(search: &Search, name: &str) -> Vec<String> {
    let mut known: BTreeSet<String> =
        list_images(search).into_iter().map(|listing| listing.name).collect();
    known.extend(known::KNOWN.map(|image| image.name.to_owned()));
    let near = spelling::all_near(name, known.iter().map(String::as_str));
    near.into_iter().take(3).map(str::to_owned).collect()
}
