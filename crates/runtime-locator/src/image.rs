//! Finds an image by its name and resolves it to the files that a machine boots from.
//!
//! A path is what it says. A name means, in this order: a save that this user made in the working
//! folder, a save below the home folder, an image in the folders of QUICKSAND_IMAGE_PATH, in packages
//! by entry point, in packages by layout alone, in the data folder. What lies in the working folder
//! and was not made there by this user (a checkout may hold anything) comes last, with a notice.
//!
//! A save or overlay is resolved further by the image that its manifest names, which is looked for
//! among installed images alone: nobody else's save may lie on a save of this user. Of a manifest
//! that came from elsewhere nothing but that name is taken.

mod places;

use crate::{
    Attempt, DeclaredImage, Error, Folder, Search, Source,
    base_disk::Below,
    image_folder::{ImageFolder, Unfit, Wanted, read_manifest},
    list::nearest_names,
    seal::SealKey,
};
use host_platform::Arch;
use package_layout::{
    image::{DISK_SUFFIX, ImageFileName},
    manifest::Manifest,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use places::{Candidate, Scope, Trust, as_path, candidates, is_path, readings};

/// The most overlays and saves that lie on one another as images of their own.
const MAX_DEPTH: usize = 16;

/// An image that was found, resolved to files.
#[derive(Clone, Debug, Serialize)]
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
    /// The name that the files of the base image bear.
    pub base_name: String,
    /// How many disks of the chain are that image's; those above them are saves'.
    pub n_base_disks: usize,
    /// The configuration of the manifests of all layers that are trusted, upper ones winning,
    /// without the names of the images below. Installed images and saves that this user made are
    /// trusted.
    pub defaults: Map<String, Value>,
    /// Where the topmost layer came from.
    pub source: Source,
    /// What was looked at before, in order.
    pub tried: Vec<Attempt>,
    /// What the user should hear before the image is used.
    pub notice: Option<String>,
    /// The files, each opened once, when it was found.
    #[serde(skip)]
    pub files: ImageFiles,
}

/// The open files of an image, each of them regular and reached without a link in the folder of
/// its image. For reading.
#[derive(Clone, Debug)]
pub struct ImageFiles {
    pub kernel: Arc<File>,
    /// The initial RAM disk.
    pub initrd: Arc<File>,
    /// The disks, as in [`ImageFind::chain`].
    pub chain: Vec<Arc<File>>,
    /// The manifest of the topmost layer, when it is a save or an overlay.
    pub manifest: Option<Manifest>,
    /// The memory and devices of the machine that the topmost layer was saved from, and what they depend
    /// on, when this user's own process has saved them with it.
    pub memory: Option<(Arc<File>, Arc<File>)>,
    /// What the manifests say of the disks below their layers.
    pub(crate) below: Vec<Below>,
}

/// Finds the image of that name. Without an architecture a save's own is taken, else the
/// hardware's.
pub fn find_image(search: &Search, name: &str, arch: Option<Arch>) -> Result<ImageFind, Error> {
    find_below(search, name, arch, Scope::Everywhere, &mut Vec::new())
}

/// `seen` are the folders of the layers above: a save of the name of its own base is not its base.
fn find_below(
    search: &Search,
    name: &str,
    arch: Option<Arch>,
    scope: Scope,
    seen: &mut Vec<PathBuf>,
) -> Result<ImageFind, Error> {
    let mut tried = Vec::new();
    let mut other_arches = BTreeSet::new();
    let wanted_arch = arch.unwrap_or(search.host.arch);
    if scope == Scope::Everywhere
        && let Some(find) = base_by_file(search, name, arch, &mut tried)?
    {
        return Ok(find);
    }
    for (name_part, version, arch_part) in readings(name) {
        if arch_part.is_some_and(|part| arch.is_some_and(|arch| arch != part)) {
            continue;
        }
        let arch = arch_part.or(arch);
        for candidate in candidates(search, name_part, scope) {
            let Candidate { ref source, own_folder, trust, .. } = candidate;
            let folder = candidate.folder();
            let outcome = match candidate.read() {
                _ if seen.contains(&folder) => "is the layer above itself".to_owned(),
                Err(outcome) => outcome,
                Ok(held) if trust == Trust::OnlyOwn && !is_own(search, &held) => continue,
                Ok(held)
                    if own_folder && version.is_none() && is_requested(name, &candidate, &held) =>
                {
                    let find = layered(search, name, arch, &candidate, &held, seen)?;
                    return Ok(ImageFind { tried, ..find });
                }
                // Among saves there are no kernels to boot.
                Ok(_) if candidate.is_place_of_saves() => "is no save".to_owned(),
                Ok(held) => {
                    let arch = arch.unwrap_or(search.host.arch);
                    match held.base(&Wanted { name: name_part, version, arch, own_folder }) {
                        Ok(base) => {
                            let source = source.clone();
                            let mut find = on_base(search, name, arch, &held, base, source)?;
                            if held.has_manifest && own_folder && trust == Trust::Installed {
                                find.defaults = config_of(read_manifest(&folder, &held)?);
                            }
                            find.notice = notice(name, &candidate);
                            return Ok(ImageFind { tried, ..find });
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
            let attempt = Attempt { source: candidate.source, path: folder, outcome };
            if trust != Trust::OnlyOwn && !tried.contains(&attempt) {
                tried.push(attempt);
            }
        }
    }
    let is_it = |declared: &&DeclaredImage| declared.name == name && declared.arch == wanted_arch;
    if let Some(declared) = search.declared_images.iter().find(is_it) {
        return Ok(ImageFind { tried, ..declared.find()? });
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

/// A base image with its files open.
fn on_base(
    search: &Search,
    name: &str,
    arch: Arch,
    held: &ImageFolder,
    base: crate::image_folder::Base,
    source: Source,
) -> Result<ImageFind, Error> {
    let open = |name: &str| held.open(name).map_err(|(path, source)| Error::Io { path, source });
    let ((kernel, kernel_file), (initrd, initrd_file)) = (open(&base.kernel)?, open(&base.initrd)?);
    let (disk, disk_file) = open(&base.disk)?;
    Ok(ImageFind {
        name: name.to_owned(),
        version: base.version,
        arch,
        kernel,
        initrd,
        chain: vec![disk],
        base: lasting_name(search, name, &source),
        base_name: base.name,
        n_base_disks: 1,
        defaults: Map::new(),
        source,
        tried: Vec::new(),
        notice: None,
        files: ImageFiles {
            memory: None,
            kernel: Arc::new(kernel_file),
            initrd: Arc::new(initrd_file),
            chain: vec![Arc::new(disk_file)],
            manifest: None,
            below: Vec::new(),
        },
    })
}

/// The warning about an image that may be anybody's.
fn notice(name: &str, candidate: &Candidate) -> Option<String> {
    (candidate.trust == Trust::WithNotice).then(|| {
        format!(
            "`{name}` is no installed image and no save that you made here: the one in the working \
             folder is used, `{}`. Name it by its path if that is meant",
            candidate.folder().display()
        )
    })
}

/// Whether a folder's manifest and overlays are an answer to that name. A plain name that happens
/// to be a folder beside the caller's work is only taken when it is clearly one of ours; a save
/// that lacks a part is named as broken, not passed over.
fn is_requested(name: &str, candidate: &Candidate, held: &ImageFolder) -> bool {
    match candidate.source {
        Source::Configuration if !is_path(name) => held.n_overlays().is_ok(),
        _ => held.is_layered(),
    }
}

/// Whether the user's own process has made that save, on this host.
fn is_own(search: &Search, held: &ImageFolder) -> bool {
    let Some(key) = search.data_dir.as_deref().and_then(SealKey::read) else { return false };
    let Ok(Ok(manifest)) = held.manifest_text().map(|text| Manifest::parse(&text)) else {
        return false;
    };
    if held.n_overlays().is_err() {
        return false;
    }
    let Ok(layers) = held.open_overlays() else { return false };
    let layers: Vec<File> = layers.into_iter().map(|(_, file)| file).collect();
    key.fits(&manifest, layers.iter().chain(&held.open_memory()))
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
    let held = Folder::open(folder).and_then(ImageFolder::read).unwrap_or_default();
    let version = Some(file.version.as_str());
    match held.base(&Wanted { name: &file.name, version, arch: file_arch, own_folder: false }) {
        Ok(base) => on_base(search, name, file_arch, &held, base, Source::Configuration).map(Some),
        Err(Unfit::Incomplete(what)) => miss(&what),
        Err(_) => miss("its kernel and initrd are not beside it"),
    }
}

/// Resolves a save or overlay to its own disks on top of its base's chain.
fn layered(
    search: &Search,
    name: &str,
    arch: Option<Arch>,
    candidate: &Candidate,
    held: &ImageFolder,
    seen: &mut Vec<PathBuf>,
) -> Result<ImageFind, Error> {
    let (folder, source) = (candidate.folder(), candidate.source.clone());
    let broken = |reason: String| Error::Broken { path: folder.clone(), reason };
    held.n_overlays().map_err(broken)?;
    let manifest = read_manifest(&folder, held)?;
    let overlays = held.open_overlays().map_err(|(path, source)| Error::Io { path, source })?;
    let (overlays, files): (Vec<PathBuf>, Vec<File>) = overlays.into_iter().unzip();
    let key = search.data_dir.as_deref().and_then(SealKey::read);
    let memory = held.open_memory();
    let is_own = key.is_some_and(|key| key.fits(&manifest, files.iter().chain(&memory)));
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
    if is_path(&base_name) && !is_own {
        return Err(broken(format!(
            "its manifest names the path `{}` of the image below it, which is for the saves alone \
             that you made on this host",
            base_name.escape_default()
        )));
    }
    if seen.len() >= MAX_DEPTH {
        return Err(broken(format!("more than {MAX_DEPTH} images lie on one another")));
    }
    seen.push(folder.clone());
    let scope = if is_path(&base_name) { Scope::Everywhere } else { Scope::Installed };
    let base = find_below(search, &base_name, own_arch.or(arch), scope, seen).map_err(|error| {
        Error::Base { path: folder.clone(), base: base_name, source: Box::new(error) }
    })?;
    let mut defaults = base.defaults;
    if is_own || candidate.trust == Trust::Installed {
        defaults.extend(config_of(manifest.clone()));
    }
    let n_below = base.chain.len();
    let chain: Vec<PathBuf> = base.chain.into_iter().chain(overlays).collect();
    let (lowest, n_base_disks) = match source {
        // A save is whole by itself but for the image below it: a save made from it holds its disks.
        Source::Configuration | Source::WorkingFolder | Source::HomeFolder => {
            (base.base, base.n_base_disks)
        }
        _ => (lasting_name(search, name, &source), chain.len()),
    };
    let mut opened = base.files;
    if let Some(expected) = manifest.base_disk.clone() {
        opened.below.push(Below { folder: folder.clone(), disk: n_below - 1, expected });
    }
    opened.chain.extend(files.into_iter().map(Arc::new));
    opened.manifest = Some(manifest);
    // A state of devices is only taken from the user's own hand, and only with its own disks.
    let unused = (!is_own && !memory.is_empty()).then(|| {
        let folder = folder.display();
        format!(
            "The memory in the save `{folder}` is not used: it was not saved there on this host"
        )
    });
    let memory = <[File; 2]>::try_from(memory).ok().filter(|_| is_own);
    opened.memory = memory.map(|[state, needs]| (Arc::new(state), Arc::new(needs)));
    Ok(ImageFind {
        name: name.to_owned(),
        chain,
        base: lowest,
        n_base_disks,
        defaults,
        source,
        notice: notice(name, candidate).or(unused),
        files: opened,
        ..base
    })
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
