//! An image taken apart: its tree of files, its packages, whose each file is, and digests of its other parts.

use crate::Error;
use disk_formats::{ext4, qcow2, tree::Tree};
use fs_err as fs;
use image_builder::{
    audit::bills,
    compare::Side,
    packages::{self, Installed},
};
use package_layout::image::{DISK_SUFFIX, MANIFEST_FILE};
use runtime_locator::{ImageFind, Search};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What only one side's bill of materials tells is no difference: a disk alone may tell of no packages.
pub(crate) fn forget_packages_of_one(a: &mut Image, b: &mut Image) {
    if !(a.tells_packages && b.tells_packages) {
        a.packages.clear();
        b.packages.clear();
    }
}

/// What an image is, by name: digests of its topmost disk, its kernel and its initrd, and what a sandbox gets by
/// default. A disk alone has none of it.
pub(crate) type Parts = BTreeMap<&'static str, String>;

/// The parts that both have and that differ.
pub(crate) fn other_parts(a: &Parts, b: &Parts) -> Vec<&'static str> {
    let differs =
        |(name, part): &(&&'static str, &String)| b.get(*name).is_some_and(|it| it != *part);
    a.iter().filter(differs).map(|(name, _)| *name).collect()
}

/// The parts of an image that was found by name.
fn parts_of(found: &ImageFind) -> Result<Parts, Error> {
    let disk = found.chain.last().map(fs::read).transpose()?.unwrap_or_default();
    Ok(BTreeMap::from([
        ("disk", image_builder::sha256(&disk)),
        ("kernel", image_builder::sha256(&fs::read(&found.kernel)?)),
        ("initrd", image_builder::sha256(&fs::read(&found.initrd)?)),
        ("defaults", Value::from(found.defaults.clone()).to_string()),
    ]))
}

/// An image as it is compared.
pub struct Image {
    tree: Tree,
    packages: Vec<Installed>,
    owners: BTreeMap<String, String>,
    pub(crate) parts: Parts,
    /// Whether its packages are known, from its own database or from a bill of materials.
    tells_packages: bool,
}

impl Image {
    /// Opens a wheel, a disk, or what `search` finds by a name or folder.
    ///
    /// # Errors
    /// There is no such image, or it cannot be read.
    pub fn open(search: &Search, given: &str) -> Result<Self, Error> {
        let path = Path::new(given);
        let mut search = search.clone();
        let unpacked = tempfile::tempdir()?;
        let (mut bill, mut parts) = (None, Parts::new());
        let chain = match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("whl") => {
                bill = unpack(path, unpacked.path(), &mut parts)?;
                search.image_path.insert(0, unpacked.path().to_owned());
                disks_of_wheel(unpacked.path(), &search)?
            }
            Some("qcow2") => vec![path.to_owned()],
            _ => {
                let found = runtime_locator::find_image(&search, given, None)?;
                bill = found.chain.last().and_then(|disk| bills::from_disk(disk).ok());
                parts = parts_of(&found)?;
                found.chain
            }
        };
        let chain: Vec<&Path> = chain.iter().map(PathBuf::as_path).collect();
        let tree = ext4::read(qcow2::read_disk(&chain)?)
            .map_err(|source| Error::Unreadable { image: given.to_owned(), source })?;
        let mut packages = packages::installed(&tree)?;
        if let (true, Some(bill)) = (packages.is_empty(), &bill) {
            packages = from_bill(bill);
        }
        let tells_packages = bill.is_some() || !packages.is_empty();
        let owners = bill.as_ref().map(bill_of_materials::image::owners).unwrap_or_default();
        Ok(Self { tree, packages, owners, parts, tells_packages })
    }

    pub(crate) fn side(&self) -> Side<'_> {
        Side { tree: &self.tree, packages: &self.packages, owners: &self.owners }
    }
}

/// Takes the disks and manifests out of a wheel, and its bill of materials.
fn unpack(wheel: &Path, folder: &Path, parts: &mut Parts) -> Result<Option<Value>, Error> {
    let mut bill = None;
    wheel_retag::read_entries(wheel, |name, _, reader| {
        if let Some((package, rest)) = name.split_once("/images/") {
            // An overlay's files have a folder to themselves when they are installed.
            let place = match rest.contains('/') || rest == MANIFEST_FILE {
                true => folder.join(package.trim_start_matches("quicksand_")).join(rest),
                false => folder.join(rest),
            };
            let part =
                ["kernel", "initrd"].into_iter().find(|part| rest.ends_with(&format!(".{part}")));
            if let Some(part) = part {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes)?;
                parts.insert(part, image_builder::sha256(&bytes));
            } else if is_inside(rest) {
                fs::create_dir_all(place.parent().unwrap_or(folder))?;
                std::io::copy(reader, &mut fs::File::create(&place)?)?;
                if rest.ends_with(DISK_SUFFIX) {
                    parts.insert("disk", image_builder::sha256(&fs::read(&place)?));
                }
                if rest == MANIFEST_FILE {
                    parts.insert("manifest", image_builder::sha256(&fs::read(&place)?));
                }
            }
        } else if name.ends_with(".cdx.json") {
            bill = serde_json::from_reader(reader).ok();
        }
        Ok(())
    })?;
    Ok(bill)
}

fn is_inside(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// The disks of an unpacked wheel: its own, or those of the image below an overlay and its own.
fn disks_of_wheel(folder: &Path, search: &Search) -> Result<Vec<PathBuf>, Error> {
    let paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    // A base with defaults has a manifest too, in a folder of its own.
    let is_disk = |path: &&PathBuf| path.extension().is_some_and(|suffix| suffix == "qcow2");
    if let Some(disk) = paths.iter().find(is_disk) {
        return Ok(vec![disk.clone()]);
    }
    let overlay = paths.iter().find(|path| path.is_dir());
    let overlay = overlay.ok_or(Error::NoDisk)?;
    let found = runtime_locator::find_image(search, &overlay.to_string_lossy(), None)?;
    Ok(found.chain)
}

/// The packages that a bill names, for images that keep no database of their own.
fn from_bill(bill: &Value) -> Vec<Installed> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let components = bill["components"].as_array().cloned().unwrap_or_default();
    components
        .iter()
        .filter(|part| part["purl"].is_string())
        .map(|part| Installed {
            name: text(part, "name"),
            version: text(part, "version"),
            ..Installed::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Difference;

    #[test]
    fn a_kernel_or_a_default_alone_makes_another_image() {
        let parts = |kernel: &str| Parts::from([("kernel", kernel.to_owned())]);
        assert!(other_parts(&parts("1"), &parts("1")).is_empty());
        assert!(other_parts(&parts("1"), &Parts::new()).is_empty(), "a disk alone");
        let image = |kernel: &str| Image {
            tree: Tree::new(0),
            packages: Vec::new(),
            owners: BTreeMap::new(),
            parts: parts(kernel),
            tells_packages: true,
        };
        let same = Difference::between(image("1"), image("1")).unwrap();
        assert!(same.is_same() && same.text().starts_with("The images are the same"));
        let other = Difference::between(image("1"), image("2")).unwrap();
        let shown = other.text();
        assert!(!other.is_same(), "{shown}");
        assert!(shown.starts_with("kernel: not the same\npackages: 0 added"), "{shown}");
    }

    #[test]
    fn packages_that_one_side_alone_can_tell_are_no_difference() {
        let image = |tells_packages| Image {
            tree: Tree::new(0),
            packages: vec![Installed::default(); usize::from(tells_packages)],
            owners: BTreeMap::new(),
            parts: Parts::new(),
            tells_packages,
        };
        for (mut a, mut b) in [(image(true), image(false)), (image(false), image(true))] {
            forget_packages_of_one(&mut a, &mut b);
            assert!(a.packages.is_empty() && b.packages.is_empty());
        }
        let (mut a, mut b) = (image(true), image(true));
        forget_packages_of_one(&mut a, &mut b);
        assert_eq!(a.packages.len(), 1);
    }

    #[test]
    fn a_wheels_names_stay_inside() {
        assert!(is_inside("overlays/0.qcow2"));
        assert!(!is_inside("../x.qcow2") && !is_inside("/etc/passwd"));
    }
}
