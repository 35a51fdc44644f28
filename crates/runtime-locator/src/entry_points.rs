//! Image packages by the entry points in their metadata, read without importing anything.
//!
//! Format: <https://packaging.python.org/specifications/entry-points/>.

use crate::Folder;
use package_layout::image::{ENTRY_POINT_GROUP, IMAGES_DIR};
use std::path::{Path, PathBuf};

/// The most bytes of a package's entry points that are read.
const MAX_ENTRY_POINTS: u64 = 1 << 20;

/// An image that an installed package announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageEntryPoint {
    /// The image's name.
    pub(crate) name: String,
    /// The distribution, for people.
    pub(crate) distribution: String,
    /// The folder of the image's files.
    pub(crate) images_dir: PathBuf,
}

/// All images that packages in that folder announce, sorted by name.
pub(crate) fn image_entry_points(site_packages: &Path) -> Vec<ImageEntryPoint> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(site_packages).into_iter().flatten().flatten() {
        let folder = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = folder.strip_suffix(".dist-info") else { continue };
        // The working folder can be among the folders of packages, so that no file is trusted to be one.
        let text = Folder::open(&entry.path())
            .and_then(|folder| folder.text("entry_points.txt", MAX_ENTRY_POINTS));
        let Ok(text) = text else { continue };
        let distribution = stem.split('-').next().unwrap_or(stem).replace('_', "-");
        for (name, object) in members_of(&text, ENTRY_POINT_GROUP) {
            let Some(package) = top_package(object) else { continue };
            found.push(ImageEntryPoint {
                name: name.to_owned(),
                distribution: distribution.clone(),
                images_dir: site_packages.join(package).join(IMAGES_DIR),
            });
        }
    }
    found.sort_by(|a, b| (&a.name, &a.distribution).cmp(&(&b.name, &b.distribution)));
    found
}

/// The names and objects of one group.
fn members_of<'a>(text: &'a str, group: &str) -> Vec<(&'a str, &'a str)> {
    let mut inside = false;
    let mut members = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = section.trim() == group;
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((name, object)) = line.split_once('=')
        {
            members.push((name.trim(), object.trim()));
        }
    }
    members
}

/// The first part of `package.module:object [extras]`. Only a Python identifier becomes part of a
/// path.
fn top_package(object: &str) -> Option<&str> {
    let module = object.split([':', '[', ' ']).next()?;
    let package = module.split('.').next()?;
    let identifier = |c: char| c.is_alphanumeric() || c == '_';
    (!package.is_empty() && package.chars().all(identifier)).then_some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_group_is_read() {
        let text = "[console_scripts]\nx = a:b\n\n[ quicksand.images ]\n# debian = no:no\n\
                    debian = quicksand_debian:image\n my-env=my_env.images : Image [extra]\nodd\n\
                    [other]\nz = c:d\n";
        assert_eq!(
            members_of(text, ENTRY_POINT_GROUP),
            [("debian", "quicksand_debian:image"), ("my-env", "my_env.images : Image [extra]")]
        );
    }

    #[test]
    fn only_identifiers_become_folders() {
        let table = [
            ("quicksand_debian:image", Some("quicksand_debian")),
            ("my_env.images : Image", Some("my_env")),
            ("../../etc:x", None),
            ("/etc:x", None),
            ("a/b:c", None),
            (":x", None),
            ("", None),
        ];
        for (object, expect) in table {
            assert_eq!(top_package(object), expect, "{object}");
        }
    }
}
