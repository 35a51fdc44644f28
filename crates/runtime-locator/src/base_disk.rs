//! Checks that the disks of a chain are the ones that its overlays were made on.
//!
//! An overlay holds single clusters of a file system. On another disk, be it the same image of
//! another bake, they would be torn pieces among foreign ones: the guest would see damage, or worse,
//! none at first. So the manifest of an overlay image names the sha256 of the disk below it.

use crate::{Error, ImageFind, image::read_manifest};
use sha2::{Digest, Sha256};
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// Checks each layer whose manifest names the disk below it; saves and images of other makers name
/// none. Reads those disks whole.
pub fn check_base_disks(find: &ImageFind) -> Result<(), Error> {
    for pair in find.chain.windows(2) {
        let [below, layer] = pair else { continue };
        let Some(folder) = folder_of(layer) else { continue };
        let Some(expected) = read_manifest(&folder)?.base_disk else { continue };
        let found = sha256(below).map_err(|source| Error::Io { path: below.clone(), source })?;
        if !found.eq_ignore_ascii_case(&expected.sha256) {
            return Err(Error::OtherBaseDisk {
                path: folder,
                below: below.clone(),
                file: expected.file,
            });
        }
    }
    Ok(())
}

/// The folder of the manifest of a layer that is the lowest overlay in its folder.
fn folder_of(layer: &Path) -> Option<PathBuf> {
    let overlays = layer.parent()?;
    let is_lowest = layer.file_name()? == "0.qcow2";
    (is_lowest && overlays.file_name()? == package_layout::image::OVERLAYS_DIR)
        .then(|| overlays.parent().map(Path::to_owned))?
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => digest.update(&buffer[..n]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_platform::Arch;
    use package_layout::manifest::{BaseDisk, Manifest};
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
        let mut search = crate::Search::of_process(vec![folder.path().to_owned()]);
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
