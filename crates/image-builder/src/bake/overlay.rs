//! The stages of an overlay: its packages are installed into the tree of the image below, and what
//! differs then is written into that image's own file system, so that the overlay holds no more.

use super::{
    Below, Host, Outcome,
    packages::TAR,
    stages::{Baker, TREE, name_of, qcow2_settings},
};
use crate::{Error, assemble, disk, ext4, qcow2, tree::Tree};
use fs_err as fs;
use package_layout::{
    image::MANIFEST_FILE,
    manifest::{BaseDisk, Manifest},
};
use serde_json::Value;
use std::path::{Path, PathBuf};

impl<H: Host> Baker<'_, H> {
    /// The overlay's disk, its manifest, and the whole tree for overlays on this one.
    pub(super) fn overlay(&self, below: &Below, rootfs: &Path) -> Outcome<PathBuf, H> {
        let mut key = self.key("overlay");
        key.add("place", below.place.as_bytes());
        key.add("below", below.files.identity());
        key.add("rootfs", name_of(rootfs));
        self.add_recipe(&mut key)?;
        let title = format!("Write the overlay of {}", self.recipe.name);
        self.stage("disk", &key, &title, |step, folder| {
            let time = self.lock.source_date;
            let before = below.files.tree(time)?;
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
            step.say("qcow2".to_owned());
            let n_chunks = changed.iter().flatten().count() as u64;
            let settings = qcow2_settings(Some(below.place.clone()));
            qcow2::write(&folder.join("qcow2"), &changed, &settings, &|n_done| {
                step.progress(n_done, n_chunks)
            })?;
            fs::write(folder.join(MANIFEST_FILE), self.manifest(below)?)?;
            Ok(())
        })
    }

    /// The manifest: what the overlay lies on, and what a sandbox gets by default.
    fn manifest(&self, below: &Below) -> Result<String, Error> {
        let mut config = self.recipe.body.defaults.config();
        if let Some(base) = &self.recipe.base {
            config.insert("image".to_owned(), Value::from(base.name.as_str()));
        }
        let mut manifest = Manifest::new(config, self.arch.qemu_name());
        if let Some(disk) = below.chain.last() {
            let sha256 = crate::sha256(&fs::read(disk)?);
            manifest.base_disk = Some(BaseDisk { file: below.name.clone(), sha256 });
        }
        Ok(manifest.to_json())
    }
}
