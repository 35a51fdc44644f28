//! The stages of a bake, each an entry of the build cache.

use super::{Args, needs::KERNEL_PACKAGES, rootfs::TAR};
use crate::{cache::Key, context::Context, setup, ui::Step};
use anyhow::{Context as _, Result};
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    apt, assemble, ext4, initrd, kernel::Form, kernel_package, lock::ArchLock, modules::Unpacked,
    qcow2, recipe::Recipe, tree::Tree, wheel,
};
use package_layout::image::distribution;
use std::path::{Path, PathBuf};

/// zstd's level for disks. Level 19 makes a Debian disk 5 percent smaller in twenty times the time.
const DISK_LEVEL: i32 = 9;

/// The file of an entry that holds the kernel as wheels do: each wheel takes it from there.
const PACKED_KERNEL: &str = "kernel.zip";
/// The folder of an entry with the copyright files of the kernel's packages, by name.
const COPYRIGHTS: &str = "copyrights";

/// The file of an entry that holds an image's whole tree.
pub const TREE: &str = "tree.tar";

/// The texts of our own licences.
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// What every stage needs.
pub struct Baker<'a> {
    pub context: &'a Context,
    pub args: &'a Args,
    pub recipe: &'a Recipe,
    pub arch: Arch,
    pub lock: &'a ArchLock,
    /// The locks of what an overlay lies on, the bottom one first.
    pub base: &'a [ArchLock],
    pub pool: &'a Path,
}

/// The code that makes disks.
pub const DISK_SOURCES: &[&str] = &[
    "account.rs",
    "apt/image_sources.rs",
    "apt/sources.rs",
    "assemble.rs",
    "difference.rs",
    "disk.rs",
    "ext4.rs",
    "ext4/acl.rs",
    "ext4/device_number.rs",
    "ext4/fill.rs",
    "identity.rs",
    "qcow2.rs",
    "tree.rs",
    "tree/archive.rs",
    "tree/tar.rs",
];

impl Baker<'_> {
    /// The kernel, its modules for the initrd, and those for the disk as a tar.
    pub fn kernel(&self) -> Result<PathBuf> {
        let mut key =
            self.key("kernel", &["kernel.rs", "kernel_package.rs", "modules.rs", "deb.rs"])?;
        let locked = self.lock.kernel.as_ref().context("A base's lock names its kernel")?;
        for package in self.lock.kernel_modules.iter().chain([locked]) {
            key.add("package", package.sha256.as_bytes());
        }
        key.add("recipe", format!("{:?}", self.recipe.body.kernel).as_bytes());
        key.add("files", format!("{PACKED_KERNEL} {COPYRIGHTS}").as_bytes());
        self.stage("kernel", &key, "Unpack the kernel", |step, folder| {
            setup::ensure_packages(self.context, KERNEL_PACKAGES)?;
            let mut packages = vec![apt::checked_path(self.pool, locked)?];
            for modules in &self.lock.kernel_modules {
                packages.push(apt::checked_path(self.pool, modules)?);
            }
            step.say(locked.name.clone());
            let scratch = tempfile::tempdir()?;
            let parts = kernel_package::take(&packages, self.recipe, self.arch, scratch.path())?;
            if parts.form == Form::BzImage {
                self.context
                    .ui
                    .line("warning: this kernel has no PVH entry, so it starts compressed");
            }
            fs::write(folder.join("kernel"), &parts.kernel)?;
            step.say("Compressing");
            wheel_retag::pack(&folder.join("kernel"), &folder.join(PACKED_KERNEL))?;
            fs::create_dir(folder.join(COPYRIGHTS))?;
            for (name, text) in &parts.copyrights {
                fs::write(folder.join(COPYRIGHTS).join(name), text)?;
            }
            fs::write(folder.join("release"), &parts.release)?;
            fs::create_dir(folder.join("initrd"))?;
            let mut order = String::new();
            for module in &parts.initrd {
                fs::write(folder.join("initrd").join(&module.name), &module.bytes)?;
                order += &format!("{}\n", module.name);
            }
            fs::write(folder.join("order"), order)?;
            parts.disk.write_tar(&folder.join("modules.tar"))?;
            Ok(())
        })
    }

    /// The initial file system.
    pub fn initrd(&self, kernel: &Path, agent: &Path) -> Result<PathBuf> {
        let mut key = self.key("initrd", &["initrd.rs", "cpio.rs"])?;
        key.add("kernel", name_of(kernel));
        key.add("agent", &fs::read(agent)?);
        key.add("time", &self.lock.source_date.to_le_bytes());
        self.stage("initrd", &key, "Pack the initrd", |_, folder| {
            let order = fs::read_to_string(kernel.join("order"))?;
            let modules = order
                .lines()
                .map(|name| {
                    let bytes = fs::read(kernel.join("initrd").join(name))?;
                    Ok(Unpacked { name: name.to_owned(), path: String::new(), bytes })
                })
                .collect::<Result<Vec<_>>>()?;
            let archive = initrd::build(&fs::read(agent)?, &modules, self.lock.source_date)?;
            fs::write(folder.join("initrd"), archive)?;
            Ok(())
        })
    }

    /// The disk with everything on it. Without a kernel, its modules are the packages' matter.
    pub fn disk(&self, rootfs: &Path, kernel: Option<&Path>) -> Result<PathBuf> {
        let mut key = self.key("disk", DISK_SOURCES)?;
        key.add("rootfs", name_of(rootfs));
        key.add("kernel", kernel.map_or(&[], name_of));
        key.add("recipe", self.recipe.identity().as_bytes());
        for file in &self.recipe.body.file {
            key.add(file.path.as_str(), &self.recipe.content(file)?);
        }
        let title = format!("Write the disk of {}", self.recipe.name);
        self.stage("disk", &key, &title, |step, folder| {
            let mut packages = Tree::new(self.lock.source_date);
            packages.add_tar_file(&rootfs.join(TAR))?;
            let mut modules = Tree::new(self.lock.source_date);
            if let Some(kernel) = kernel {
                modules.add_tar_file(&kernel.join("modules.tar"))?;
            }
            let tree = assemble::tree(packages, &modules, self.recipe, self.arch, self.lock)?;
            // What overlays are made on.
            tree.write_tar(&folder.join(TREE))?;
            step.say(format!("ext4: {} entries", tree.len()));
            let settings = ext4::Settings {
                size: self.recipe.body.disk.size.0,
                label: self.recipe.name.chars().take(16).collect(),
                uuid: assemble::volume_id(self.recipe, self.arch),
                time: self.lock.source_date,
            };
            let chunks = ext4::build(&tree, &settings)?.into_chunks();
            step.say("qcow2");
            step.expect(chunks.iter().flatten().count() as u64);
            let settings = qcow2_settings(None);
            qcow2::write(&folder.join("qcow2"), &chunks, &settings, &|n_done| step.reach(n_done))?;
            Ok(())
        })
    }

    /// The wheel of the finished files; gives its path in the cache. `kernel` is the kernel's entry;
    /// `below` is that of the image that an overlay lies on.
    pub fn wheel(
        &self,
        rootfs: &Path,
        files: &[(PathBuf, String)],
        kernel: Option<&Path>,
        below: Option<&Path>,
    ) -> Result<PathBuf> {
        let version = env!("CARGO_PKG_VERSION");
        let sources = ["wheel.rs", "cpio.rs", "licence.rs", "owners.rs", "packages.rs", "sbom.rs"];
        let mut key = self.key("wheel", &sources)?;
        key.add("recipe", self.recipe.identity().as_bytes());
        key.add("lock", format!("{:?}", self.lock).as_bytes());
        key.add("version", version.as_bytes());
        for (made, name) in files {
            key.add("name", name.as_bytes());
            // A finished file lies in the entry that is named by all that went into it.
            key.add("made", made.parent().map_or(&[], name_of));
        }
        let title = format!("Pack the wheel of {}", self.recipe.name);
        let entry = self.stage("wheel", &key, &title, |step, folder| {
            let mut packages = Tree::new(self.lock.source_date);
            packages.add_tar_file(&rootfs.join(TAR))?;
            let (recipe, arch, lock) = (self.recipe, self.arch, self.lock);
            let mut copyrights = wheel::copyrights(&packages, lock, self.pool)?;
            copyrights.extend(wheel::copyrights_of_wheels(recipe)?);
            if let Some(kernel) = kernel {
                copyrights.extend(copyrights_of(kernel)?);
            }
            let mut our_licences = Vec::new();
            for name in LICENCES {
                our_licences.push((name.to_owned(), fs::read(self.context.root.join(name))?));
            }
            step.say("Assigning files to packages");
            let tree = self.tree_of(files)?;
            let below = below.map(|below| read_tree(below, lock.source_date)).transpose()?;
            let contents = wheel::Contents {
                recipe,
                lock,
                pool: self.pool,
                tree: &tree,
                below: below.as_ref(),
                kernel: None,
                copyrights: &copyrights,
                is_ours: true,
            };
            let components = wheel::components(&contents, version, files)?;
            step.say("Compressing");
            // Exactly this one: an overlay is good for the very disk that it was made on.
            let requires = recipe
                .base
                .iter()
                .map(|base| format!("{}=={version}", distribution(&base.name)))
                .collect();
            let (copyrights, our_licences) = (&copyrights, our_licences.as_slice());
            let papers = wheel::Papers {
                components: &components,
                copyrights,
                our_licences,
                requires,
                packed_kernel: kernel.map(|kernel| kernel.join(PACKED_KERNEL)),
            };
            let spec = wheel::spec(recipe, arch, version, lock, papers, files);
            wheel_retag::write(&spec, folder)?;
            Ok(())
        })?;
        let wheel = fs::read_dir(&entry)?.next().context("The wheel's entry is empty")??;
        Ok(wheel.path())
    }

    /// The tree of the finished disk among these files.
    fn tree_of(&self, files: &[(PathBuf, String)]) -> Result<Tree> {
        let entry = files
            .iter()
            .filter_map(|(made, _)| made.parent())
            .find(|entry| entry.join(TREE).is_file())
            .context("A disk's entry holds its tree")?;
        read_tree(entry, self.lock.source_date)
    }

    /// A key that starts with the code that makes the stage, so that a change of the code is a
    /// change of the input.
    pub fn key(&self, what: &str, sources: &[&str]) -> Result<Key> {
        let mut key = Key::new(what);
        key.add("arch", self.arch.image_name().as_bytes());
        for source in sources {
            let file = self.context.root.join("crates/image-builder/src").join(source);
            key.add_file(&file)?;
            // The modules below it.
            let folder = file.with_extension("");
            if folder.is_dir() {
                key.add_tree(&folder)?;
            }
        }
        Ok(key)
    }

    pub fn stage(
        &self,
        kind: &str,
        key: &Key,
        title: &str,
        work: impl FnOnce(&Step, &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        self.entry(kind, key, |folder| self.context.ui.step(title, |step| work(step, folder)))
    }

    /// The same without a step of its own.
    pub fn entry(
        &self,
        kind: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let kind = format!("image-{kind}");
        if self.args.no_cache {
            self.context.cache.forget(&kind, key)?;
        }
        self.context.cache.entry(&kind, key, fill)
    }
}

/// The tree in an entry of a disk.
fn read_tree(entry: &Path, time: i64) -> Result<Tree> {
    let mut tree = Tree::new(time);
    tree.add_tar_file(&entry.join(TREE))?;
    Ok(tree)
}

/// The copyright files in a kernel's entry.
fn copyrights_of(kernel: &Path) -> Result<wheel::Copyrights> {
    let mut found = wheel::Copyrights::new();
    for entry in fs::read_dir(kernel.join(COPYRIGHTS))? {
        let entry = entry?;
        found.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(found)
}

/// The last part of an entry's path, which is the hash of all its inputs.
pub fn name_of(entry: &Path) -> &[u8] {
    entry.file_name().map_or(&[], std::ffi::OsStr::as_encoded_bytes)
}

/// How disks are written.
pub fn qcow2_settings(backing: Option<String>) -> qcow2::Settings {
    qcow2::Settings {
        level: DISK_LEVEL,
        n_threads: std::thread::available_parallelism().map_or(1, usize::from),
        backing: backing.map(|name| (name, "qcow2".to_owned())),
    }
}
