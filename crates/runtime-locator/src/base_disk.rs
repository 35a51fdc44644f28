//! Checks that the disks of a chain are the ones that its overlays were made on.
//!
//! An overlay holds single clusters of a file system. On another disk, be it the same image of
//! another bake, they would be torn pieces among foreign ones: the guest would see damage, or worse,
//! none at first. So the manifest of an overlay image names the sha256 of the disk below it.

use crate::{Error, ImageFind};
use package_layout::manifest::BaseDisk;
use std::{fs::File, io::Seek, path::PathBuf};

/// What a manifest says of the disk below its layers.
#[derive(Clone, Debug)]
pub(crate) struct Below {
    /// The manifest's folder.
    pub(crate) folder: PathBuf,
    /// That disk's place in the chain.
    pub(crate) disk: usize,
    /// What it must be.
    pub(crate) expected: BaseDisk,
}

/// Checks each layer whose manifest names the disk below it; saves and images of other makers name
/// none. Reads those disks whole.
pub fn check_base_disks(find: &ImageFind) -> Result<(), Error> {
    for Below { folder, disk, expected } in &find.files.below {
        let below = find.chain[*disk].clone();
        let found = sha256(&find.files.chain[*disk])
            .map_err(|source| Error::Io { path: below.clone(), source })?;
        if !found.eq_ignore_ascii_case(&expected.sha256) {
            let (path, file) = (folder.clone(), expected.file.clone());
            return Err(Error::OtherBaseDisk { path, below, file });
        }
    }
    Ok(())
}

fn sha256(mut file: &File) -> std::io::Result<String> {
    file.rewind()?;
    checksum::sha256_of(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_platform::Arch;
    use package_layout::manifest::Manifest;
    use serde_json::json;

    fn check(sha256: Option<&str>) -> Result<(), Error> {
        let folder = tempfile::tempdir().unwrap();
        for part in ["kernel", "initrd", "qcow2"] {
            fs_err::write(folder.path().join(format!("lower-13-amd64.{part}")), "abc").unwrap();
        }
        let layer = folder.path().join("upper/overlays/0.qcow2");
        fs_err::create_dir_all(layer.parent().unwrap()).unwrap();
        fs_err::write(&layer, "").unwrap();
        let config = json!({"image": "lower"}).as_object().cloned().unwrap();
        let mut manifest = Manifest::new(config, "x86_64");
        manifest.base_disk = sha256.map(|sha256| BaseDisk {
            file: "lower-13-amd64.qcow2".to_owned(),
            sha256: sha256.to_owned(),
        });
        fs_err::write(folder.path().join("upper/manifest.json"), manifest.to_json()).unwrap();
        let mut search = crate::Search::from_process(vec![folder.path().to_owned()]);
        search.image_path = vec![folder.path().to_owned()];
        let find = crate::find_image(&search, "upper", Some(Arch::Amd64)).unwrap();
        assert_eq!(find.chain.len(), 2);
        check_base_disks(&find)
    }

    #[test]
    fn the_disk_that_the_overlay_was_made_on_is_taken() {
        check(Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")).unwrap();
        check(None).unwrap();
    }

    #[test]
    fn another_disk_of_the_same_name_is_refused() {
        let error = check(Some(&"0".repeat(64))).unwrap_err();
        assert!(error.to_string().contains("lower-13-amd64.qcow2"), "{error}");
        assert!(error.hint().unwrap().contains("same bake"));
    }
}
