//! The stages of a bake, each an entry of the build cache.

use super::{
    Agent, AgentBill, Below, Files, Host, Image, LICENCES, Options, Outcome, StepOf, packages::TAR,
};
use crate::{
    Error, KernelError, apt, assemble, base::Base, ext4, initrd, kernel::Form, kernel_package,
    lock::ArchLock, modules::Unpacked, qcow2, recipe::Recipe, tree::Tree, wheel,
};
use bill_of_materials::image::Component;
use cache_key::{Key, tools};
use fs_err as fs;
use host_platform::Arch;
use package_layout::image::{Part, distribution};
use std::{
    io,
    path::{Path, PathBuf},
};

/// zstd's level for disks. Level 19 makes a Debian disk 5 percent smaller in twenty times the time.
const DISK_LEVEL: i32 = 9;

/// The file of an entry that holds the kernel as wheels do: each wheel takes it from there.
const PACKED_KERNEL: &str = "kernel.zip";
/// The folder of an entry with the copyright files of the kernel's packages, by name.
const COPYRIGHTS: &str = "copyrights";

/// The file of an entry that holds an image's whole tree.
pub(super) const TREE: &str = "tree.tar";

/// Unpacks the kernel's modules.
pub const KERNEL_PACKAGES: &[&str] = &["kmod"];

/// What every stage needs.
pub struct Baker<'a, H> {
    /// Who runs the bake.
    pub host: &'a H,
    /// How it is done.
    pub options: &'a Options,
    /// The layer.
    pub recipe: &'a Recipe,
    /// Whose image it is.
    pub arch: Arch,
    /// Its packages and kernel.
    pub lock: &'a ArchLock,
    /// The locks of what an overlay lies on, the bottom one first.
    pub base: &'a [ArchLock],
    /// Where packages are kept.
    pub store: &'a Path,
}

/// The entries of a layer.
pub struct Made {
    /// The disk and the whole tree.
    pub disk: PathBuf,
    /// The packages' files.
    pub rootfs: PathBuf,
    /// The kernel, where the layer has one of its own.
    pub kernel: Option<PathBuf>,
    /// The folder with the bill of the agent, where the layer has one of its own.
    pub bill: Option<PathBuf>,
}

/// The finished files and what they are called.
type Finished = Vec<(PathBuf, String)>;

impl<H: Host> Baker<'_, H> {
    /// The bottom layer of a recipe: kernel, initrd and disk.
    pub(super) fn base(
        &self,
        files: &mut Finished,
        name: &dyn Fn(Part) -> String,
    ) -> Outcome<Made, H> {
        let agent = || match &self.options.agent {
            Some(agent) => Ok(Agent { binary: agent.clone(), bill: None }),
            None => self.host.agent(self.arch),
        };
        let (kernel, rootfs, agent) =
            self.host.together(|| self.kernel(), || self.rootfs(), agent)?;
        let disk = self.disk(&rootfs, Some(&kernel))?;
        let initrd = self.initrd(&kernel, &agent.binary)?;
        files.push((kernel.join("kernel"), name(Part::Kernel)));
        files.push((initrd.join("initrd"), name(Part::Initrd)));
        files.push((disk.join("qcow2"), name(Part::Disk)));
        Ok(Made { disk, rootfs, kernel: Some(kernel), bill: agent.bill })
    }

    /// An image on files that somebody brought, with an installed image's kernel, modules and agent.
    pub(super) fn brought(
        &self,
        brought: &Files,
        below: &Below,
        base: &Base,
        files: &mut Finished,
        name: &dyn Fn(Part) -> String,
    ) -> Outcome<Made, H> {
        let rootfs = self.install_over(brought, false)?;
        let mut key = self.key("brought");
        key.add("rootfs", name_of(&rootfs));
        key.add("below", below.files.identity());
        self.add_recipe(&mut key)?;
        let title = format!("Write the disk of {}", self.recipe.name);
        let disk = self.stage("disk", &key, &title, |step, folder| {
            let time = self.lock.source_date;
            let mut modules = Tree::new(time);
            let base = below.files.tree(time)?;
            for (path, node) in base.iter().filter(|it| it.0.starts_with(b"usr/lib/modules/")) {
                modules.put_bytes(path, node.clone())?;
            }
            let installed = read_tar(&rootfs.join(TAR), time)?;
            let original = brought.tree(time)?;
            let tree = assemble::brought(installed, &original, &modules, self.recipe, time)?;
            self.write_disk(step, folder, &tree)
        })?;
        files.push((base.kernel.clone(), name(Part::Kernel)));
        files.push((base.initrd.clone(), name(Part::Initrd)));
        files.push((disk.join("qcow2"), name(Part::Disk)));
        Ok(Made { disk, rootfs, kernel: None, bill: None })
    }

    /// The kernel, its modules for the initrd, and those for the disk as a tar.
    pub(super) fn kernel(&self) -> Outcome<PathBuf, H> {
        let locked = self.lock.kernel.as_ref().ok_or_else(|| {
            Error::Kernel(KernelError::NoKernel { package: self.recipe.kernel_package(self.arch) })
        })?;
        self.host.install(KERNEL_PACKAGES)?;
        let mut key = self.key("kernel");
        tools::add(&mut key, &["depmod", "xz", "zstd"]);
        for package in self.lock.kernel_modules.iter().chain([locked]) {
            key.add("package", package.sha256.as_bytes());
        }
        key.add("recipe", format!("{:?}", self.recipe.body.kernel).as_bytes());
        key.add("files", format!("{PACKED_KERNEL} {COPYRIGHTS}").as_bytes());
        self.stage("kernel", &key, "Unpack the kernel", |step, folder| {
            let mut packages = vec![apt::checked_path(self.store, locked)?];
            for modules in &self.lock.kernel_modules {
                packages.push(apt::checked_path(self.store, modules)?);
            }
            step.say(locked.name.clone());
            let scratch = tempfile::tempdir()?;
            let parts = kernel_package::take(&packages, self.recipe, self.arch, scratch.path())?;
            if parts.form == Form::BzImage {
                self.host.line("warning: this kernel has no PVH entry, so it starts compressed");
            }
            fs::write(folder.join("kernel"), &parts.kernel)?;
            step.say("Compressing".to_owned());
            wheel_retag::pack(&folder.join("kernel"), &folder.join(PACKED_KERNEL))
                .map_err(Error::from)?;
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
    pub(super) fn initrd(&self, kernel: &Path, agent: &Path) -> Outcome<PathBuf, H> {
        let mut key = self.key("initrd");
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
                .collect::<io::Result<Vec<_>>>()?;
            let archive = initrd::build(&fs::read(agent)?, &modules, self.lock.source_date)?;
            fs::write(folder.join("initrd"), archive)?;
            Ok(())
        })
    }

    /// The disk with everything on it. Without a kernel, its modules are the packages' matter.
    pub fn disk(&self, rootfs: &Path, kernel: Option<&Path>) -> Outcome<PathBuf, H> {
        let mut key = self.key("disk");
        key.add("rootfs", name_of(rootfs));
        key.add("kernel", kernel.map_or(&[], name_of));
        self.add_recipe(&mut key)?;
        let title = format!("Write the disk of {}", self.recipe.name);
        self.stage("disk", &key, &title, |step, folder| {
            let time = self.lock.source_date;
            let packages = read_tar(&rootfs.join(TAR), time)?;
            let modules = match kernel {
                Some(kernel) => read_tar(&kernel.join("modules.tar"), time)?,
                None => Tree::new(time),
            };
            let tree = assemble::tree(packages, &modules, self.recipe, self.arch, self.lock)?;
            self.write_disk(step, folder, &tree)
        })
    }

    /// Writes a tree as a disk, and as the tar that overlays are made on.
    fn write_disk(&self, step: StepOf<'_, H>, folder: &Path, tree: &Tree) -> Outcome<(), H> {
        tree.write_tar(&folder.join(TREE))?;
        step.say(format!("ext4: {} entries", tree.len()));
        let settings = ext4::Settings {
            size: self.recipe.body.disk.size.0,
            label: self.recipe.name.chars().take(16).collect(),
            uuid: assemble::volume_id(self.recipe, self.arch),
            time: self.lock.source_date,
        };
        let chunks = ext4::build(tree, &settings)?.into_chunks();
        step.say("qcow2".to_owned());
        let n_chunks = chunks.iter().flatten().count() as u64;
        let settings = qcow2_settings(None);
        qcow2::write(&folder.join("qcow2"), &chunks, &settings, &|n_done| {
            step.progress(n_done, n_chunks)
        })?;
        Ok(())
    }

    /// The wheel of the finished files; gives its path. `below` is what an overlay lies on; `image` is the
    /// installed image whose kernel or disk it needs.
    pub(super) fn wheel(
        &self,
        made: &Made,
        files: &[(PathBuf, String)],
        below: Option<&Below>,
        image: Option<&Image<'_>>,
    ) -> Outcome<PathBuf, H> {
        let ours = env!("CARGO_PKG_VERSION");
        let version = if image.is_some() { self.recipe.body.version.as_str() } else { ours };
        // An image on files that somebody brought stands alone.
        let below = below.filter(|_| image.is_none_or(|image| image.brought.is_none()));
        let brought = image.filter(|image| image.brought.is_some());
        let kernel = brought.map(|image| &image.kernel);
        let bill = made.bill.as_deref().map(AgentBill::read).transpose()?.unwrap_or_default();
        let (agent, agent_texts) = match brought {
            Some(image) => image.agent.clone(),
            None => (bill.parts.iter().map(Component::from).collect(), Some(bill.texts)),
        };
        let agent_texts = agent_texts.filter(|text| !text.is_empty());
        let requires: Vec<String> = match image {
            Some(image) => {
                image.base.requirement.iter().filter(|_| below.is_some()).cloned().collect()
            }
            // Exactly this one: an overlay is good for the very disk that it was made on.
            None => {
                let base = self.recipe.base.iter();
                base.map(|base| format!("{}=={ours}", distribution(&base.name))).collect()
            }
        };
        let mut key = self.key("wheel");
        key.add("recipe", self.recipe.identity().as_bytes());
        key.add("lock", format!("{:?}", self.lock).as_bytes());
        key.add("version", format!("{version} {ours} {requires:?} {kernel:?}").as_bytes());
        key.add("licences", format!("{LICENCES:?}").as_bytes());
        key.add("agent", format!("{agent:?} {agent_texts:?}").as_bytes());
        if let Some(image) = image.filter(|image| image.brought.is_some()) {
            key.add_file(&image.base.kernel)?;
            key.add_file(&image.base.initrd)?;
        }
        for (made, name) in files {
            key.add("name", name.as_bytes());
            // A finished file lies in the entry that is named by all that went into it.
            key.add("made", made.parent().map_or(&[], name_of));
        }
        let title = format!("Pack the wheel of {}", self.recipe.name);
        let entry = self.stage("wheel", &key, &title, |step, folder| {
            let time = self.lock.source_date;
            let packages = read_tar(&made.rootfs.join(TAR), time)?;
            let (recipe, arch, lock) = (self.recipe, self.arch, self.lock);
            let mut copyrights = wheel::copyrights(&packages, lock, self.store)?;
            drop(packages);
            copyrights.extend(wheel::copyrights_of_wheels(recipe)?);
            if let Some(kernel) = &made.kernel {
                copyrights.extend(copyrights_of(kernel)?);
            }
            if let Some((kernel, Some(text))) = kernel {
                copyrights.insert(kernel.name.clone(), text.clone().into_bytes());
            }
            step.say("Assigning files to packages".to_owned());
            let tree = read_tar(&made.disk.join(TREE), time)?;
            let below = below.map(|below| below.files.tree(time)).transpose()?;
            let contents = wheel::Contents {
                recipe,
                lock,
                store: self.store,
                tree: &tree,
                below: below.as_ref(),
                kernel: kernel.map(|(kernel, _)| kernel.clone()),
                agent: &agent,
                copyrights: &copyrights,
                is_ours: image.is_none(),
            };
            let components = wheel::components(&contents, ours, files)?;
            step.say("Compressing".to_owned());
            let mut our_licences =
                LICENCES.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).to_vec();
            our_licences.extend(
                agent_texts
                    .iter()
                    .map(|text| (wheel::AGENT_TEXTS.to_owned(), text.clone().into_bytes())),
            );
            let dist_info = wheel::DistInfo {
                components: &components,
                copyrights: &copyrights,
                our_licences: &our_licences,
                requires: requires.clone(),
                packed_kernel: made.kernel.as_ref().map(|kernel| kernel.join(PACKED_KERNEL)),
            };
            let spec = wheel::spec(recipe, arch, version, lock, dist_info, files);
            wheel_retag::write(&spec, folder).map_err(Error::from)?;
            Ok(())
        })?;
        let wheel = fs::read_dir(&entry)?.next().transpose()?;
        let wheel = wheel.ok_or_else(|| io::Error::other("The wheel's entry is empty"))?;
        Ok(wheel.path())
    }

    /// A key that begins with the code that makes the stage, so that a change of the code is a change of an
    /// input.
    pub(super) fn key(&self, what: &str) -> Key {
        let mut key = Key::new(what);
        key.add("code", self.options.code().as_bytes());
        key.add("arch", self.arch.image_name().as_bytes());
        key
    }

    /// Adds the recipe and those below it with the contents of their files.
    pub(super) fn add_recipe(&self, key: &mut Key) -> Result<(), Error> {
        for layer in self.recipe.layers() {
            key.add("recipe", layer.identity().as_bytes());
            for file in &layer.body.file {
                key.add(file.path.as_str(), &layer.content(file)?);
            }
        }
        Ok(())
    }

    pub(super) fn stage(
        &self,
        kind: &str,
        key: &Key,
        title: &str,
        work: impl FnOnce(StepOf<'_, H>, &Path) -> Outcome<(), H>,
    ) -> Outcome<PathBuf, H> {
        self.entry(kind, key, |folder| self.host.step(title, |step| work(step, folder)))
    }

    /// The same without a step of its own.
    pub(super) fn entry(
        &self,
        kind: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Outcome<(), H>,
    ) -> Outcome<PathBuf, H> {
        let kind = format!("image-{kind}");
        if self.options.no_cache {
            self.host.forget(&kind, key)?;
        }
        self.host.entry(&kind, key, fill)
    }
}

/// The tree in a tar.
fn read_tar(tar: &Path, time: i64) -> Result<Tree, Error> {
    let mut tree = Tree::new(time);
    tree.add_tar_file(tar)?;
    Ok(tree)
}

/// The copyright files in a kernel's entry.
fn copyrights_of(kernel: &Path) -> io::Result<wheel::Copyrights> {
    let mut found = wheel::Copyrights::new();
    for entry in fs::read_dir(kernel.join(COPYRIGHTS))? {
        let entry = entry?;
        found.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(found)
}

/// The last part of an entry's path, which is the hash of all its inputs.
pub(super) fn name_of(entry: &Path) -> &[u8] {
    entry.file_name().map_or(&[], std::ffi::OsStr::as_encoded_bytes)
}

/// How disks are written.
pub(super) fn qcow2_settings(backing: Option<String>) -> qcow2::Settings {
    qcow2::Settings {
        level: DISK_LEVEL,
        n_threads: std::thread::available_parallelism().map_or(1, usize::from),
        backing: backing.map(|name| (name, "qcow2".to_owned())),
    }
}
