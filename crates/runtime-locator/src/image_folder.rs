//! What one folder holds of images: the three files of bases, or the disks of an overlay or save.
//!
//! The folder is opened once; names and files are read through it (see [`Folder`]).

use crate::{Error, Folder};
use host_platform::Arch;
use package_layout::image::{
    ImageFileName, MANIFEST_FILE, OVERLAYS_DIR, Part, compare_versions, file_name, overlay_file,
    overlay_number,
};
use package_layout::manifest::Manifest;
use package_layout::save::{MAX_OVERLAYS, MEMORY_FILE, MEMORY_MANIFEST_FILE};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// The image files of one folder.
#[derive(Debug, Default)]
pub(crate) struct ImageFolder {
    /// The folder and the one of its overlays, where they were opened.
    opened: Option<(Folder, Option<Folder>)>,
    /// The parts that are there, by name, version and architecture.
    bases: BTreeMap<(String, String, String), BTreeSet<Part>>,
    /// Whether `manifest.json` is there.
    pub(crate) has_manifest: bool,
    /// Whether a folder of overlays is there.
    has_overlays_dir: bool,
    /// Why the folder of overlays cannot be read.
    fault: Option<String>,
    /// The numbers of the overlays that are there.
    overlays: BTreeSet<usize>,
}

/// The three files of a base image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) version: String,
    /// The name that the files bear.
    pub(crate) name: String,
    /// The file names of kernel, initrd and disk.
    pub(crate) kernel: String,
    pub(crate) initrd: String,
    pub(crate) disk: String,
}

/// Which base of a folder is meant.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    /// `None` takes the highest.
    pub(crate) version: Option<&'a str>,
    pub(crate) arch: Arch,
    /// Whether the folder is this image's own, so that its files may bear another name.
    pub(crate) own_folder: bool,
}

/// The most bytes of a manifest that are read.
pub(crate) const MAX_MANIFEST: u64 = 1 << 20;

/// Why a folder's bases do not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Nothing of that name and version.
    Nothing,
    /// Complete, but for these architectures.
    OtherArch(Vec<String>),
    /// Files of it are missing.
    Incomplete(String),
}

impl ImageFolder {
    /// Reads an open folder.
    pub(crate) fn read(folder: Folder) -> io::Result<Self> {
        let names = folder.names()?;
        let (mut overlays, mut fault) = (None, None);
        if names.iter().any(|name| name == OVERLAYS_DIR) {
            match folder.below(OVERLAYS_DIR).and_then(|below| Ok((below.names()?, below))) {
                Ok(found) => overlays = Some(found),
                Err(error) => fault = Some(format!("`{OVERLAYS_DIR}` cannot be read: {error}")),
            }
        }
        let mut held =
            Self::from_names(&names, overlays.as_ref().map(|(names, _)| names.as_slice()));
        held.opened = Some((folder, overlays.map(|(_, below)| below)));
        held.has_overlays_dir |= fault.is_some();
        held.fault = fault;
        Ok(held)
    }

    /// The pure part: what a folder with these names (and these in its `overlays`) holds.
    fn from_names(names: &[String], overlays: Option<&[String]>) -> Self {
        let mut bases: BTreeMap<_, BTreeSet<Part>> = BTreeMap::new();
        for file in names.iter().filter_map(|name| ImageFileName::parse(name)) {
            bases.entry((file.name, file.version, file.arch)).or_default().insert(file.part);
        }
        Self {
            opened: None,
            bases,
            has_manifest: names.iter().any(|name| name == MANIFEST_FILE),
            has_overlays_dir: overlays.is_some(),
            fault: None,
            overlays: overlays
                .unwrap_or_default()
                .iter()
                .filter_map(|n| overlay_number(n))
                .collect(),
        }
    }

    fn folder(&self) -> io::Result<&Folder> {
        Ok(&self.opened.as_ref().ok_or(io::ErrorKind::NotFound)?.0)
    }

    /// Opens one of its files. An error comes with the file's path.
    pub(crate) fn open(&self, name: &str) -> Result<(PathBuf, File), (PathBuf, io::Error)> {
        match self.folder() {
            Ok(folder) => {
                let path = folder.path().join(name);
                folder.file(name).map(|file| (path.clone(), file)).map_err(|error| (path, error))
            }
            Err(error) => Err((PathBuf::from(name), error)),
        }
    }

    /// Opens the disks of its overlays, from bottom to top.
    pub(crate) fn open_overlays(&self) -> Result<Vec<(PathBuf, File)>, (PathBuf, io::Error)> {
        let below = self.opened.as_ref().and_then(|(_, below)| below.as_ref());
        let missing = || (PathBuf::from(OVERLAYS_DIR), io::ErrorKind::NotFound.into());
        let below = below.ok_or_else(missing)?;
        let open = |number: &usize| {
            let file = overlay_file(*number);
            let name = file.rsplit('/').next().unwrap_or_default();
            let path = below.path().join(name);
            below.file(name).map(|file| (path.clone(), file)).map_err(|error| (path, error))
        };
        self.overlays.iter().map(open).collect()
    }

    /// Opens what a save has of the guest's memory: the memory, and what it depends on.
    pub(crate) fn open_memory(&self) -> Vec<File> {
        let files = [MEMORY_FILE, MEMORY_MANIFEST_FILE];
        let open = |name: &str| self.folder().ok()?.file(name).ok();
        files.into_iter().filter_map(open).collect()
    }

    /// Reads `manifest.json`.
    pub(crate) fn manifest_text(&self) -> io::Result<String> {
        self.folder()?.text(MANIFEST_FILE, MAX_MANIFEST)
    }

    /// Whether it looks like an overlay or a save, whole or broken.
    pub(crate) fn is_layered(&self) -> bool {
        self.has_overlays_dir || (self.has_manifest && self.bases.is_empty())
    }

    /// Names, versions and architectures of its complete bases.
    pub(crate) fn complete_bases(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.bases
            .iter()
            .filter(|(_, parts)| parts.len() == Part::ALL.len())
            .map(|((name, version, arch), _)| (name.as_str(), version.as_str(), arch.as_str()))
    }

    /// The highest version of the base that is wanted.
    pub(crate) fn base(&self, wanted: &Wanted) -> Result<Base, Unfit> {
        let name = self.name_on_disk(wanted).ok_or(Unfit::Nothing)?;
        let is_requested = |candidate: &str, version: &str| {
            candidate == name && wanted.version.is_none_or(|wanted| wanted == version)
        };
        let arch = wanted.arch.image_name();
        let best = self
            .complete_bases()
            .filter(|(name, version, its)| is_requested(name, version) && *its == arch)
            .max_by(|(_, a, _), (_, b, _)| compare_versions(a, b).then_with(|| a.cmp(b)));
        if let Some((name, version, arch)) = best {
            let file = |part| file_name(name, version, arch, part);
            return Ok(Base {
                version: version.to_owned(),
                name: name.to_owned(),
                kernel: file(Part::Kernel),
                initrd: file(Part::Initrd),
                disk: file(Part::Disk),
            });
        }
        let incomplete = self
            .bases
            .iter()
            .rev()
            .find(|((name, version, its), _)| is_requested(name, version) && its == arch);
        if let Some(((name, version, arch), parts)) = incomplete {
            let missing = Part::ALL.iter().filter(|part| !parts.contains(part));
            let missing: Vec<String> =
                missing.map(|part| file_name(name, version, arch, *part)).collect();
            return Err(Unfit::Incomplete(format!("{} is missing", missing.join(", "))));
        }
        let others: BTreeSet<&str> = self
            .complete_bases()
            .filter(|(name, version, _)| is_requested(name, version))
            .map(|(_, _, arch)| arch)
            .collect();
        match others.is_empty() {
            true => Err(Unfit::Nothing),
            false => Err(Unfit::OtherArch(others.into_iter().map(str::to_owned).collect())),
        }
    }

    /// The name that the files bear: the wanted one, else in the image's own folder the only one.
    fn name_on_disk<'a>(&'a self, wanted: &Wanted<'a>) -> Option<&'a str> {
        let names: BTreeSet<&str> = self.bases.keys().map(|(name, _, _)| name.as_str()).collect();
        if names.contains(wanted.name) {
            return Some(wanted.name);
        }
        match (wanted.own_folder, names.len()) {
            (true, 1) => names.into_iter().next(),
            _ => None,
        }
    }

    /// How many overlays there are, or what is missing. A gap would boot with the upper half of
    /// somebody's data on the wrong base, so it is an error.
    pub(crate) fn n_overlays(&self) -> Result<usize, String> {
        if !self.has_manifest {
            return Err("Missing manifest.json".to_owned());
        }
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if !self.has_overlays_dir {
            return Err("Missing overlays".to_owned());
        }
        let Some(top) = self.overlays.last() else {
            return Err("No overlay files found".to_owned());
        };
        if let Some(gap) = (0..=*top).find(|number| !self.overlays.contains(number)) {
            return Err(format!("{} is missing", overlay_file(gap)));
        }
        match top + 1 {
            n if n > MAX_OVERLAYS => {
                Err(format!("it has {n} overlays, and {MAX_OVERLAYS} at most can be used"))
            }
            n => Ok(n),
        }
    }
}

/// The manifest of a folder, which is held open.
pub(crate) fn read_manifest(folder: &Path, held: &ImageFolder) -> Result<Manifest, Error> {
    let path = folder.join(MANIFEST_FILE);
    match held.manifest_text() {
        Ok(text) => Manifest::parse(&text).map_err(|source| Error::Manifest { path, source }),
        Err(source) => Err(Error::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str], overlays: Option<&[&str]>) -> ImageFolder {
        let owned = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let overlays = overlays.map(owned);
        ImageFolder::from_names(&owned(names), overlays.as_deref())
    }

    fn three(stem: &str) -> [String; 3] {
        Part::ALL.map(|part| format!("{stem}.{}", part.extension()))
    }

    #[test]
    fn the_right_base_is_chosen() {
        let mut names: Vec<String> = Vec::new();
        for stem in [
            "debian-9-amd64",
            "debian-13-amd64",
            "debian-13-arm64",
            "ubuntu-24.04-arm64",
            "x-1-amd64",
        ] {
            names.extend(three(stem));
        }
        // The newest is not whole, so it is not a candidate.
        names.push("debian-14-amd64.kernel".into());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let folder = folder(&names, None);
        let get = |name, version, arch| {
            let wanted = Wanted { name, version, arch, own_folder: false };
            folder.base(&wanted).map(|base| base.disk)
        };
        assert_eq!(get("debian", None, Arch::Amd64), Ok("debian-13-amd64.qcow2".into()));
        assert_eq!(get("debian", Some("9"), Arch::Amd64), Ok("debian-9-amd64.qcow2".into()));
        assert_eq!(get("debian", None, Arch::Arm64), Ok("debian-13-arm64.qcow2".into()));
        assert_eq!(
            get("ubuntu", None, Arch::Amd64),
            Err(Unfit::OtherArch(vec!["arm64".to_owned()]))
        );
        assert_eq!(
            get("debian", Some("14"), Arch::Amd64),
            Err(Unfit::Incomplete(
                "debian-14-amd64.initrd, debian-14-amd64.qcow2 is missing".to_owned()
            ))
        );
        assert_eq!(get("alpine", None, Arch::Amd64), Err(Unfit::Nothing));
        assert_eq!(get("debian", Some("12"), Arch::Amd64), Err(Unfit::Nothing));
    }

    #[test]
    fn in_its_own_folder_an_image_may_bear_another_name() {
        let names = three("upstream-name-7-amd64");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let folder = folder(&names, None);
        let get = |own_folder| {
            let wanted = Wanted { name: "mine", version: None, arch: Arch::Amd64, own_folder };
            folder.base(&wanted).map(|base| base.version)
        };
        assert_eq!(get(true), Ok("7".to_owned()));
        assert_eq!(get(false), Err(Unfit::Nothing));
    }

    #[test]
    fn overlays_are_ordered_as_numbers_and_must_be_without_gap() {
        let names: Vec<String> = (0..12).rev().map(|n| format!("{n}.qcow2")).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.push("notes.txt");
        let whole = folder(&["manifest.json"], Some(&names));
        assert_eq!(whole.n_overlays(), Ok(12));
        let order: Vec<usize> = whole.overlays.iter().copied().collect();
        assert_eq!(order, (0..12).collect::<Vec<_>>());

        let error = |names: &[&str], overlays| folder(names, overlays).n_overlays().unwrap_err();
        assert_eq!(error(&[], Some(&["0.qcow2"])), "Missing manifest.json");
        assert_eq!(error(&["manifest.json"], None), "Missing overlays");
        assert_eq!(error(&["manifest.json"], Some(&[])), "No overlay files found");
        assert_eq!(
            error(&["manifest.json"], Some(&["0.qcow2", "2.qcow2"])),
            "overlays/1.qcow2 is missing"
        );
        assert_eq!(error(&["manifest.json"], Some(&["1.qcow2"])), "overlays/0.qcow2 is missing");
        let many: Vec<String> = (0..=MAX_OVERLAYS).map(|n| format!("{n}.qcow2")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(error(&["manifest.json"], Some(&many)).contains("at most"));
    }

    #[test]
    fn layers_and_bases_are_distinguished() {
        let base = three("debian-13-amd64");
        let mut base: Vec<&str> = base.iter().map(String::as_str).collect();
        assert!(!folder(&base, None).is_layered());
        base.push("manifest.json");
        assert!(!folder(&base, None).is_layered(), "a base may have defaults");
        assert!(folder(&["manifest.json"], Some(&["0.qcow2"])).is_layered());
        assert!(folder(&["manifest.json"], None).is_layered(), "a broken save is one, too");
        assert!(!folder(&[], None).is_layered());
    }
}
