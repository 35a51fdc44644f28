//! The bill of materials of an installed image names an owner and licences for every file of its
//! disk. No machine is booted for it.

use bill_of_materials::image;
use disk_formats::{ext4, qcow2};
use runtime_locator::Search;
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};

/// The bill in the wheel that the disk was installed from.
fn bill(name: &str, disk: &Path) -> Value {
    let package = format!("quicksand_{name}");
    let folder =
        disk.ancestors().find(|folder| folder.ends_with(&package)).expect("an installed image");
    let infos = folder.parent().expect("a folder of packages").read_dir().expect("a folder");
    let start = format!("{package}-");
    let info = infos
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&start))
        .expect("the metadata of the package");
    let text = fs_err::read(info.join(format!("sboms/{package}.cdx.json"))).expect("a bill");
    serde_json::from_slice(&text).expect("JSON")
}

fn every_file_is_known(name: &str) {
    let found = runtime_locator::find_image(&Search::from_process(Vec::new()), name, None).unwrap();
    let bill = bill(name, &found.chain[0]);
    let components = bill["components"].as_array().unwrap();
    let mut named = BTreeSet::new();
    for part in components {
        let licences = part["licenses"].as_array().unwrap();
        assert!(!licences.is_empty(), "{} has no licence", part["name"]);
        for file in part["components"].as_array().into_iter().flatten() {
            let file = file["name"].as_str().unwrap();
            assert!(named.insert(file.to_owned()), "{file} has two owners");
        }
    }
    let tree = ext4::read(qcow2::read_disk(&[&found.chain[0]]).unwrap()).unwrap();
    let on_disk: BTreeSet<String> = tree
        .iter()
        .filter(|(_, node)| !node.is_folder())
        .map(|(path, _)| format!("/{}", String::from_utf8_lossy(path)))
        .collect();
    let listed: BTreeSet<String> =
        named.iter().filter(|file| file.starts_with('/')).cloned().collect();
    assert!(on_disk.len() > 100, "{name} has {} files", on_disk.len());
    let unknown: Vec<&String> = on_disk.symmetric_difference(&listed).take(20).collect();
    assert!(unknown.is_empty(), "{name}: on the disk or in the bill alone: {unknown:?}");
    // What is not on the disk: the kernel, the agent, and the modules that are loaded first.
    assert!(named.iter().any(|file| file.ends_with(".kernel")), "{name}");
    let owners = image::owners(&bill);
    assert_eq!(owners["initrd:/init"], "quicksand-agent");
    assert!(owners.iter().any(|(file, owner)| {
        file.starts_with("initrd:/modules/") && owner.starts_with("linux-image-")
    }));
}

#[test]
fn every_file_of_minimal_has_an_owner() {
    every_file_is_known("minimal");
}

#[test]
fn every_file_of_debian_has_an_owner() {
    every_file_is_known("debian");
}
