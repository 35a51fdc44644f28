//! An overlay that is installed beside its base, as people and their tools find it: its header leads to the base.
//! The runtime goes on trusting no header.

use super::tool;
use disk_formats::{disk::CHUNK, qcow2};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use image_builder::{lock::ArchLock, recipe, wheel};
use package_layout::image::{Part, file_name, installed_beside, overlay_file};
use std::path::{Path, PathBuf};

fn disk(place: &Path, byte: u8, backing: Option<String>) {
    let chunks = [Some(vec![byte; CHUNK].into_boxed_slice()), None];
    let backing = backing.map(|name| (name, "qcow2".to_owned()));
    let settings = qcow2::Settings { level: 1, n_threads: 1, backing };
    qcow2::write(place, &chunks, &settings, &|_| {}).unwrap();
}

/// Packs the wheel of an image of these files, and unpacks it as pip does.
fn install(site: &Path, recipes: &Path, name: &str, files: &[(PathBuf, String)]) {
    let recipe = recipe::load(recipes, name).unwrap();
    let lock = ArchLock {
        request: String::new(),
        source_date: 0,
        release: Vec::new(),
        package: Vec::new(),
        kernel: None,
        kernel_modules: Vec::new(),
    };
    let dist_info = wheel::DistInfo {
        components: &[],
        copyrights: &wheel::Copyrights::new(),
        our_licences: &[],
        requires: Vec::new(),
        packed_kernel: None,
    };
    let spec = wheel::spec(&recipe, Arch::Amd64, "0.1.0", &lock, dist_info, files);
    let wheels = tempfile::tempdir().unwrap();
    let wheel = wheel_retag::write(&spec, wheels.path()).unwrap();
    wheel_retag::read_entries(&wheel, |entry, _, reader| {
        let place = site.join(entry);
        fs::create_dir_all(place.parent().unwrap())?;
        std::io::copy(reader, &mut fs::File::create(place)?)?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn qemu_img_follows_an_installed_overlay_to_its_base() {
    let Some(qemu_img) = tool("qemu-img") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recipe = |name: &str, text: &str| {
        fs::create_dir_all(at("recipes").join(name)).unwrap();
        fs::write(at("recipes").join(name).join("recipe.toml"), text).unwrap();
    };
    recipe(
        "small",
        "version = \"13\"\nsummary = \"x\"\npackages = [\"a\"]\n[distribution]\nname = \"debian\"\n\
         suite = \"trixie\"\n[kernel]\nflavour = \"cloud\"\ninitrd = [\"ext4\"]\n[disk]\nsize = \"1G\"\n",
    );
    recipe("small-tools", "base = \"small\"\nsummary = \"x\"\n");
    recipe("small-tools-more", "base = \"small-tools\"\nsummary = \"x\"\n");
    let site = at("site-packages");
    let part = |part| file_name("small", "13", "amd64", part);
    let mut files = Vec::new();
    for one in Part::ALL {
        fs::write(at(one.extension()), "x").unwrap();
        files.push((at(one.extension()), part(one)));
    }
    disk(&at("qcow2"), 1, None);
    install(&site, &at("recipes"), "small", &files);
    // As a bake names what is below: the base's disk, and the disk of an overlay.
    let overlay = |name: &str, byte: u8, below: String| {
        disk(&at(name), byte, Some(below));
        let manifest = at(&format!("{name}.json"));
        fs::write(&manifest, "{}").unwrap();
        let files = [
            (at(name), format!("{name}/{}", overlay_file(0))),
            (manifest, format!("{name}/manifest.json")),
        ];
        install(&site, &at("recipes"), name, &files);
    };
    overlay("small-tools", 2, installed_beside("small", &part(Part::Disk)));
    overlay("small-tools-more", 3, installed_beside("small-tools", &overlay_file(0)));

    let top = site.join("quicksand_small_tools_more/images/overlays/0.qcow2");
    let said = cmd!(&qemu_img, "info", "--backing-chain", "--output=json", &top).read().unwrap();
    let chain: serde_json::Value = serde_json::from_str(&said).unwrap();
    let found: Vec<PathBuf> = chain
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| fs::canonicalize(disk["filename"].as_str().unwrap()).unwrap())
        .collect();
    let expect = [
        "quicksand_small_tools_more/images/overlays/0.qcow2",
        "quicksand_small_tools/images/overlays/0.qcow2",
        "quicksand_small/images/small-13-amd64.qcow2",
    ];
    let expect = expect.map(|name| fs::canonicalize(site.join(name)).unwrap());
    assert_eq!(found, expect, "{said}");
    cmd!(&qemu_img, "check", "-q", &top).run().unwrap();
}
