//! The stages of an overlay: its packages are installed into the tree of the image below, and what
//! differs then is written into that image's own file system, so that the overlay holds no more.

use super::{
    rootfs::TAR,
    stages::{Baker, DISK_SOURCES, TREE, name_of, qcow2_settings},
};
use anyhow::Result;
use fs_err as fs;
use image_builder::{assemble, disk, ext4, qcow2, tree::Tree};
use package_layout::{
    image::{installed_beside, overlay_file},
    manifest::{BaseDisk, Manifest},
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A finished image as the layer below another.
pub struct Below {
    /// Its entry of the cache, with the tree.
    pub entry: PathBuf,
    /// The disks, the base's first.
    pub chain: Vec<PathBuf>,
    /// What the topmost disk is called when it is published.
    pub name: String,
}

impl Baker<'_> {
    /// The overlay's disk, its manifest, and the whole tree for overlays on this one.
    pub fn overlay(&self, below: &Below, rootfs: &Path) -> Result<PathBuf> {
        let mut key = self.key("overlay", DISK_SOURCES)?;
        key.add("place", self.place_of(below).as_bytes());
        key.add("below", name_of(&below.entry));
        key.add("rootfs", name_of(rootfs));
        for layer in self.recipe.layers() {
            key.add("recipe", layer.identity().as_bytes());
            for file in &layer.body.file {
                key.add(file.path.as_str(), &layer.content(file)?);
            }
        }
        let title = format!("Write the overlay of {}", self.recipe.name);
        self.stage("disk", &key, &title, |step, folder| {
            let time = self.lock.source_date;
            let mut before = Tree::new(time);
            before.add_tar_file(&below.entry.join(TREE))?;
            let mut installed = Tree::new(time);
            installed.add_tar_file(&rootfs.join(TAR))?;
            let tree = assemble::overlay(installed, &before, self.recipe, self.lock)?;
            tree.write_tar(&folder.join(TREE))?;
            step.say(format!("ext4: {} entries", tree.len()));
            let chain: Vec<&Path> = below.chain.iter().map(PathBuf::as_path).collect();
            let old = qcow2::read(&chain)?;
            let new = disk::SparseDisk::from_chunks(old.clone());
            let new = ext4::update(new, &before, &tree, time)?.into_chunks();
            let changed = disk::changed(&old, new);
            step.say("qcow2");
            step.expect(changed.iter().flatten().count() as u64);
            let settings = qcow2_settings(Some(self.place_of(below)));
            qcow2::write(&folder.join("qcow2"), &changed, &settings, &|n| step.reach(n))?;
            fs::write(folder.join("manifest.json"), self.manifest(below)?)?;
            Ok(())
        })
    }

    /// Where the disk below is from this one, once both are installed. It is for people and their tools:
    /// a sandbox passes the chain itself and trusts no header.
    fn place_of(&self, below: &Below) -> String {
        let Some(base) = &self.recipe.base else { return below.name.clone() };
        let file = match base.base {
            None => below.name.clone(),
            Some(_) => format!("{}/{}", base.name, overlay_file(0)),
        };
        installed_beside(&base.name, &file)
    }

    /// The manifest: what the overlay lies on, and what a sandbox gets by default.
    fn manifest(&self, below: &Below) -> Result<String> {
        let mut config = self.recipe.body.defaults.config();
        if let Some(base) = &self.recipe.base {
            config.insert("image".to_owned(), Value::from(base.name.as_str()));
        }
        let mut manifest = Manifest::new(config, self.arch.qemu_name());
        if let Some(disk) = below.chain.last() {
            let sha256 = image_builder::sha256(&fs::read(disk)?);
            manifest.base_disk = Some(BaseDisk { file: below.name.clone(), sha256 });
        }
        Ok(manifest.to_json())
    }
}
