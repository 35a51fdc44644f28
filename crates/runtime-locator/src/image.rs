//! Finds an image by its name and resolves it to the files that a machine boots from.
//!
//! Order: the name as a path, saves below the working folder and the home folder, the folders of
//! QUICKSAND_IMAGE_PATH, packages by entry point, packages by layout alone, the data folder.
//! A save or overlay is resolved further by the image that its manifest names.

use crate::{
    Attempt, Error, Search, Source,
    entry_points::image_entry_points,
    image_folder::{ImageFolder, Unfit, Wanted},
    list::nearest_names,
    search::IMAGE_PATH_VARIABLE,
};
use host_platform::Arch;
use package_layout::{
    image::{ARCHES, DISK_SUFFIX, ImageFileName, MANIFEST_FILE, distribution, images_dir, package},
    manifest::Manifest,
    save::SANDBOXES_DIR,
    user_data,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// An image that was found, resolved to files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageFind {
    /// The name as it was asked for.
    pub name: String,
    /// The version of the base image.
    pub version: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// The kernel, for `-kernel`.
    pub kernel: PathBuf,
    /// The initial RAM disk, for `-initrd`.
    pub initrd: PathBuf,
    /// The disks from bottom to top; the first is the base image's.
    pub chain: Vec<PathBuf>,
    /// The name by which the image below all saves is found again: an installed image, or the
    /// absolute path of one.
    pub base: String,
    /// How many disks of the chain are that image's; those above them are saves'.
    pub n_base_disks: usize,
    /// The configuration of the manifests of all layers, upper ones winning, without the names of
    /// the images below.
    pub defaults: Map<String, Value>,
    /// Where the topmost layer came from.
    pub source: Source,
    /// What was looked at before, in order.
    pub tried: Vec<Attempt>,
}

/// Finds the image of that name. Without an architecture a save's own is taken, else the
/// hardware's.
pub fn find_image(search: &Search, name: &str, arch: Option<Arch>) -> Result<ImageFind, Error> {
    find_below(search, name, arch, &mut Vec::new())
}

/// A folder that may be, or hold, the image.
struct Candidate {
    source: Source,
    folder: PathBuf,
    /// Whether the folder is this image's own (not one with images of many names).
    own_folder: bool,
}

/// `seen` are the folders of the layers above: a save of the name of its own base is not its base.
fn find_below(
    search: &Search,
    name: &str,
    arch: Option<Arch>,
    seen: &mut Vec<PathBuf>,
) -> Result<ImageFind, Error> {
    let mut tried = Vec::new();
    let mut other_arches = BTreeSet::new();
    let wanted_arch = arch.unwrap_or(search.host.arch);
    if let Some(find) = base_by_file(search, name, arch, &mut tried)? {
        return Ok(find);
    }
    for (name_part, version, arch_part) in readings(name) {
        if arch_part.is_some_and(|part| arch.is_some_and(|arch| arch != part)) {
            continue;
        }
        let arch = arch_part.or(arch);
        for candidate in candidates(search, name_part) {
            let Candidate { source, folder, own_folder } = candidate;
            let outcome = match ImageFolder::read(&folder) {
                None => "no such folder".to_owned(),
                Some(_) if seen.contains(&folder) => "is the layer above itself".to_owned(),
                Some(held) if own_folder && version.is_none() && is_meant(name, &source, &held) => {
                    let find = layered(search, name, arch, &folder, &held, source.clone(), seen)?;
                    return Ok(ImageFind { tried, ..find });
                }
                Some(held) => {
                    let arch = arch.unwrap_or(search.host.arch);
                    match held.base(&Wanted { name: name_part, version, arch, own_folder }) {
                        Ok(base) => {
                            return Ok(ImageFind {
                                name: name.to_owned(),
                                version: base.version,
                                arch,
                                kernel: base.kernel,
                                initrd: base.initrd,
                                chain: vec![base.disk],
                                base: lasting_name(search, name, &source),
                                n_base_disks: 1,
                                defaults: if held.has_manifest && own_folder {
                                    config_of(read_manifest(&folder)?)
                                } else {
                                    Map::new()
                                },
                                source,
                                tried,
                            });
                        }
                        Err(Unfit::Nothing) => "no files of that image".to_owned(),
                        Err(Unfit::Incomplete(what)) => what,
                        Err(Unfit::OtherArch(arches)) => {
                            let outcome = format!("only for {}", arches.join(", "));
                            other_arches.extend(arches);
                            outcome
                        }
                    }
                }
            };
            let attempt = Attempt { source, path: folder, outcome };
            if !tried.contains(&attempt) {
                tried.push(attempt);
            }
        }
    }
    if !other_arches.is_empty() {
        return Err(Error::ImageArch {
            name: name.to_owned(),
            wanted: wanted_arch,
            available: other_arches.into_iter().collect(),
        });
    }
    Err(Error::ImageNotFound { name: name.to_owned(), nearest: nearest_names(search, name), tried })
}

/// Whether a folder's manifest and overlays are an answer to that name. A plain name that happens
/// to be a folder beside the caller's work is only taken when it is clearly one of ours; a save
/// that lacks a part is named as broken, not passed over.
fn is_meant(name: &str, source: &Source, held: &ImageFolder) -> bool {
    match source {
        Source::Configuration if !is_path(name) => held.overlay_chain().is_ok(),
        _ => held.is_layered(),
    }
}

/// The ways to read a name: as it is, then `name-version`, `name-arch` and `name-version-arch`, as
/// in the names of the files.
fn readings(name: &str) -> Vec<(&str, Option<&str>, Option<Arch>)> {
    let mut readings = vec![(name, None, None)];
    if is_path(name) {
        return readings;
    }
    let with_arch = name
        .rsplit_once('-')
        .filter(|(_, arch)| ARCHES.contains(arch))
        .and_then(|(stem, arch)| Some((stem, arch.parse::<Arch>().ok()?)));
    let (stem, arch) = with_arch.map_or((name, None), |(stem, arch)| (stem, Some(arch)));
    if arch.is_some() {
        readings.push((stem, None, arch));
    }
    if let Some((stem, version)) = stem.rsplit_once('-')
        && version.starts_with(|c: char| c.is_ascii_digit())
    {
        readings.push((stem, Some(version), arch));
    }
    readings.retain(|(stem, _, _)| !stem.is_empty());
    readings
}

fn is_path(name: &str) -> bool {
    let separator = |c: char| c == '/' || (cfg!(windows) && c == '\\');
    name.contains(separator) || matches!(name, "." | "..") || Path::new(name).is_absolute()
}

/// The name as a path: `~` is the home folder, relative paths start at the working folder.
fn as_path(search: &Search, name: &str) -> PathBuf {
    match (name.strip_prefix("~/"), &search.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => search.working_dir.join(name),
    }
}

fn candidates(search: &Search, name: &str) -> Vec<Candidate> {
    let mut list = Vec::new();
    let mut add = |source, folder, own_folder| {
        list.push(Candidate { source, folder, own_folder });
    };
    if name.is_empty() {
        return list;
    }
    add(Source::Configuration, as_path(search, name), true);
    if is_path(name) {
        return list;
    }
    add(Source::WorkingFolder, search.working_dir.join(SANDBOXES_DIR).join(name), true);
    if let Some(home) = &search.home {
        add(Source::HomeFolder, home.join(SANDBOXES_DIR).join(name), true);
    }
    for folder in &search.image_path {
        let source = || Source::Environment(IMAGE_PATH_VARIABLE);
        add(source(), folder.join(name), true);
        add(source(), folder.join(images_dir(name)), true);
        add(source(), folder.clone(), false);
    }
    let same = |entry: &str| package(entry).eq_ignore_ascii_case(&package(name));
    for site_packages in &search.site_packages {
        for entry in image_entry_points(site_packages).into_iter().filter(|e| same(&e.name)) {
            add(Source::Wheel(entry.distribution), entry.images_dir, true);
        }
    }
    for site_packages in &search.site_packages {
        let folder = site_packages.join(images_dir(name));
        add(Source::Wheel(distribution(name)), folder, true);
    }
    if let Some(data) = &search.data_dir {
        let images = data.join(user_data::IMAGES_DIR);
        add(Source::DataFolder, images.join(name), true);
        add(Source::DataFolder, images, false);
        add(Source::DataFolder, data.join(user_data::PACKAGES_DIR).join(images_dir(name)), true);
    }
    let mut unique: Vec<Candidate> = Vec::new();
    for candidate in list {
        if !unique.iter().any(|known| known.folder == candidate.folder) {
            unique.push(candidate);
        }
    }
    unique
}

/// A name that is the path of a base's disk: its kernel and initrd lie beside it.
fn base_by_file(
    search: &Search,
    name: &str,
    arch: Option<Arch>,
    tried: &mut Vec<Attempt>,
) -> Result<Option<ImageFind>, Error> {
    if !name.ends_with(DISK_SUFFIX) {
        return Ok(None);
    }
    let path = as_path(search, name);
    let mut miss = |outcome: &str| {
        let outcome = outcome.to_owned();
        tried.push(Attempt { source: Source::Configuration, path: path.clone(), outcome });
        Ok(None)
    };
    if !path.is_file() {
        return miss("no such file");
    }
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(file) = ImageFileName::parse(file_name) else {
        return miss("is not named NAME-VERSION-ARCH.qcow2, so its kernel cannot be found");
    };
    let Ok(file_arch) = file.arch.parse::<Arch>() else { return miss("is of no known arch") };
    if let Some(wanted) = arch.filter(|wanted| *wanted != file_arch) {
        let available = vec![file.arch];
        return Err(Error::ImageArch { name: name.to_owned(), wanted, available });
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let held = ImageFolder::read(folder).unwrap_or_default();
    let version = Some(file.version.as_str());
    match held.base(&Wanted { name: &file.name, version, arch: file_arch, own_folder: false }) {
        Ok(base) => Ok(Some(ImageFind {
            name: name.to_owned(),
            version: base.version,
            arch: file_arch,
            kernel: base.kernel,
            initrd: base.initrd,
            chain: vec![base.disk],
            base: lasting_name(search, name, &Source::Configuration),
            n_base_disks: 1,
            defaults: Map::new(),
            source: Source::Configuration,
            tried: Vec::new(),
        })),
        Err(Unfit::Incomplete(what)) => miss(&what),
        Err(_) => miss("its kernel and initrd are not beside it"),
    }
}

/// Resolves a save or overlay to its own disks on top of its base's chain.
fn layered(
    search: &Search,
    name: &str,
    arch: Option<Arch>,
    folder: &Path,
    held: &ImageFolder,
    source: Source,
    seen: &mut Vec<PathBuf>,
) -> Result<ImageFind, Error> {
    let broken = |reason: String| Error::Broken { path: folder.to_owned(), reason };
    let overlays = held.overlay_chain().map_err(broken)?;
    let manifest = read_manifest(folder)?;
    let own_arch = match &manifest.arch {
        Some(text) => Some(text.parse::<Arch>().map_err(|error| broken(error.to_string()))?),
        None => None,
    };
    if let (Some(own), Some(wanted)) = (own_arch, arch)
        && own != wanted
    {
        let available = vec![own.to_string()];
        return Err(Error::ImageArch { name: name.to_owned(), wanted, available });
    }
    let base_name = manifest
        .base_image()
        .ok_or_else(|| broken("its manifest does not name the image that it lies on".to_owned()))?
        .to_owned();
    seen.push(folder.to_owned());
    let base = find_below(search, &base_name, own_arch.or(arch), seen).map_err(|error| {
        Error::Base { path: folder.to_owned(), base: base_name, source: Box::new(error) }
    })?;
    let mut defaults = base.defaults;
    defaults.extend(config_of(manifest));
    let chain: Vec<PathBuf> = base.chain.into_iter().chain(overlays).collect();
    let below = match source {
        // A save is whole by itself but for the image below it: a save made from it holds its disks.
        Source::Configuration | Source::WorkingFolder | Source::HomeFolder => {
            (base.base, base.n_base_disks)
        }
        _ => (lasting_name(search, name, &source), chain.len()),
    };
    let (lowest, n_base_disks) = below;
    let name = name.to_owned();
    Ok(ImageFind { name, chain, base: lowest, n_base_disks, defaults, source, ..base })
}

/// The name that finds the same image from another working folder.
fn lasting_name(search: &Search, name: &str, source: &Source) -> String {
    match source {
        Source::Configuration => as_path(search, name).to_string_lossy().into_owned(),
        _ => name.to_owned(),
    }
}

/// The manifest's configuration without what names the layer below.
fn config_of(manifest: Manifest) -> Map<String, Value> {
    let mut config = manifest.config;
    config.remove("image");
    config.remove("base");
    config
}

pub(crate) fn read_manifest(folder: &Path) -> Result<Manifest, Error> {
    let path = folder.join(MANIFEST_FILE);
    match fs_err::read_to_string(&path) {
        Ok(text) => Manifest::parse(&text).map_err(|source| Error::Manifest { path, source }),
        Err(source) => Err(Error::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_way() {
        use Arch::{Amd64, Arm64};
        type Reading<'a> = (&'a str, Option<&'a str>, Option<Arch>);
        let table: [(&str, &[Reading]); 6] = [
            ("debian", &[("debian", None, None)]),
            ("debian-desktop", &[("debian-desktop", None, None)]),
            ("debian-13", &[("debian-13", None, None), ("debian", Some("13"), None)]),
            ("debian-arm64", &[("debian-arm64", None, None), ("debian", None, Some(Arm64))]),
            (
                "ubuntu-24.04-amd64",
                &[
                    ("ubuntu-24.04-amd64", None, None),
                    ("ubuntu-24.04", None, Some(Amd64)),
                    ("ubuntu", Some("24.04"), Some(Amd64)),
                ],
            ),
            ("./debian-13", &[("./debian-13", None, None)]),
        ];
        for (name, expect) in table {
            assert_eq!(readings(name), expect, "{name}");
        }
    }

    #[test]
    fn paths_are_told_from_names() {
        for path in ["./x", "../x", "/x", "a/b", ".", "..", "~/x"] {
            assert!(is_path(path), "{path}");
        }
        for name in ["x", "x-1.0", ".hidden", "~x"] {
            assert!(!is_path(name), "{name}");
        }
    }
}
