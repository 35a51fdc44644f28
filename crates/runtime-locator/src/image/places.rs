//! The places where a name may lead, in the order of looking, and how far each is trusted.

use crate::{
    Folder, Search, Source, entry_points::image_entry_points, image_folder::ImageFolder,
    search::IMAGE_PATH_VARIABLE,
};
use host_platform::Arch;
use package_layout::{
    image::{ARCHES, distribution, images_dir, package},
    save::SANDBOXES_DIR,
    user_data,
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Where a name may lead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// To everything: it is the caller's.
    Everywhere,
    /// To installed images: it is a manifest's.
    Installed,
}

/// How much is believed of what lies in a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The user named the path; what the manifest says is believed when it is the user's own.
    Named,
    /// Somebody installed it.
    Installed,
    /// It is only meant when it is the user's own.
    OnlyOwn,
    /// It may be anybody's, so that its use is reported.
    WithNotice,
}

/// A folder that may be, or hold, the image.
pub(super) struct Candidate {
    pub(super) source: Source,
    /// A folder of the user's or of the installation, whose path may have links.
    pub(super) outer: PathBuf,
    /// The names below it, which must not be links.
    pub(super) inner: String,
    /// Whether the folder is this image's own (not one with images of many names).
    pub(super) own_folder: bool,
    pub(super) trust: Trust,
}

impl Candidate {
    pub(super) fn folder(&self) -> PathBuf {
        if self.inner.is_empty() { self.outer.clone() } else { self.outer.join(&self.inner) }
    }

    pub(super) fn is_place_of_saves(&self) -> bool {
        matches!(self.source, Source::WorkingFolder | Source::HomeFolder)
    }

    pub(super) fn read(&self) -> Result<ImageFolder, String> {
        let opened = Folder::open(&self.outer).and_then(|outer| match self.inner.as_str() {
            "" => Ok(outer),
            inner => outer.beneath(inner),
        });
        opened.and_then(ImageFolder::read).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => "no such folder".to_owned(),
            _ => format!("cannot be read: {error}"),
        })
    }
}

/// The ways to read a name: as it is, then `name-version`, `name-arch` and `name-version-arch`, as
/// in the names of the files.
pub(super) fn readings(name: &str) -> Vec<(&str, Option<&str>, Option<Arch>)> {
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

pub(super) fn is_path(name: &str) -> bool {
    let separator = |c: char| c == '/' || (cfg!(windows) && c == '\\');
    name.contains(separator) || matches!(name, "." | "..") || Path::new(name).is_absolute()
}

/// The name as a path: `~` is the home folder, relative paths start at the working folder.
pub(super) fn as_path(search: &Search, name: &str) -> PathBuf {
    match (name.strip_prefix("~/"), &search.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => search.working_dir.join(name),
    }
}

pub(super) fn candidates(search: &Search, name: &str, scope: Scope) -> Vec<Candidate> {
    let mut list = Vec::new();
    let mut add = |source, trust, outer: PathBuf, inner: String, own_folder| {
        list.push(Candidate { source, outer, inner, own_folder, trust });
    };
    let whole = String::new;
    if name.is_empty() {
        return list;
    }
    if is_path(name) {
        if scope == Scope::Everywhere {
            let path = as_path(search, name);
            add(Source::Configuration, Trust::Named, path, whole(), true);
        }
        return list;
    }
    let in_working = format!("{SANDBOXES_DIR}/{name}");
    let is_at_home = search.home.as_ref() == Some(&search.working_dir);
    if scope == Scope::Everywhere {
        if !is_at_home {
            let (place, inner) = (search.working_dir.clone(), in_working.clone());
            add(Source::WorkingFolder, Trust::OnlyOwn, place, inner, true);
        }
        if let Some(home) = &search.home {
            let saves = home.join(SANDBOXES_DIR);
            add(Source::HomeFolder, Trust::Named, saves, name.to_owned(), true);
        }
    }
    for folder in &search.image_path {
        let mut add = |folder, own_folder| {
            let source = Source::Environment(IMAGE_PATH_VARIABLE);
            add(source, Trust::Installed, folder, whole(), own_folder);
        };
        add(folder.join(name), true);
        add(folder.join(images_dir(name)), true);
        add(folder.clone(), false);
    }
    // Python looks for packages in the working folder too; nobody has installed those.
    let is_elsewhere = |folder: &&PathBuf| **folder != search.working_dir;
    let same = |entry: &str| package(entry).eq_ignore_ascii_case(&package(name));
    for site_packages in search.site_packages.iter().filter(is_elsewhere) {
        for entry in image_entry_points(site_packages).into_iter().filter(|e| same(&e.name)) {
            let source = Source::Wheel(entry.distribution);
            add(source, Trust::Installed, entry.images_dir, whole(), true);
        }
    }
    for site_packages in search.site_packages.iter().filter(is_elsewhere) {
        let folder = site_packages.join(images_dir(name));
        add(Source::Wheel(distribution(name)), Trust::Installed, folder, whole(), true);
    }
    if let Some(data) = &search.data_dir {
        let images = data.join(user_data::IMAGES_DIR);
        let package = data.join(user_data::PACKAGES_DIR).join(images_dir(name));
        for (folder, own) in [(images.join(name), true), (images, false), (package, true)] {
            add(Source::DataFolder, Trust::Installed, folder, whole(), own);
        }
    }
    if scope == Scope::Everywhere {
        let place = || search.working_dir.clone();
        add(Source::WorkingFolder, Trust::WithNotice, place(), in_working, true);
        add(Source::Configuration, Trust::WithNotice, place(), name.to_owned(), true);
        if search.site_packages.contains(&search.working_dir) {
            let source = Source::Wheel(distribution(name));
            add(source, Trust::WithNotice, place(), images_dir(name), true);
        }
    }
    let mut unique: Vec<Candidate> = Vec::new();
    for candidate in list {
        let is_same = |known: &Candidate| {
            known.folder() == candidate.folder() && known.trust != Trust::OnlyOwn
        };
        if !unique.iter().any(is_same) {
            unique.push(candidate);
        }
    }
    unique
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
    fn paths_are_distinguished_from_names() {
        for path in ["./x", "../x", "/x", "a/b", ".", "..", "~/x"] {
            assert!(is_path(path), "{path}");
        }
        for name in ["x", "x-1.0", ".hidden", "~x"] {
            assert!(!is_path(name), "{name}");
        }
    }
}
