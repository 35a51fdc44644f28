//! The bake of a recipe outside of this repository, from the folder to the finished files and their
//! wheel.

use super::{
    Base, LOCK, load,
    lock::{Inputs, Lock, Pinned, compare},
    packages, programs,
};
use crate::{
    Error, assemble, beside, disk, ext4, qcow2,
    recipe::{Check, Defaults, Recipe, Root},
    root,
    rootfs::Ownership,
    tree::Tree,
    wheel::{self, Contents, Papers},
};
use fs_err as fs;
use host_platform::Arch;
use package_layout::{
    image::{MANIFEST_FILE, Part, file_name, installed_beside, overlay_file},
    manifest::{BaseDisk, Manifest},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// zstd's level for disks, as everywhere in this project.
const DISK_LEVEL: i32 = 9;

/// How a bake is done.
pub struct Options<'a> {
    /// Where the finished files are written.
    pub out: &'a Path,
    /// Where packages and wheels that were fetched are kept.
    pub cache: &'a Path,
    /// The Python whose pip fetches wheels, as a path or as a word that is looked for in `PATH`.
    pub python: &'a OsStr,
    /// Where the owners of files are kept while packages are installed; where it is possible, if
    /// nothing is said.
    pub ownership: Option<Ownership>,
    /// Renew the lock.
    pub update: bool,
    /// The texts of our own licences by file name.
    pub licences: &'a [(String, Vec<u8>)],
    /// The version of what is ours in the image.
    pub version: &'a str,
    /// Hears what is being done.
    pub say: &'a dyn Fn(&str),
    /// Fetches an image of a registry; the error says why it could not.
    pub pull: &'a dyn Fn(&Pull) -> Result<Pulled, String>,
}

/// An image of a registry that is wanted.
#[derive(Debug)]
pub struct Pull<'a> {
    /// As the recipe names it.
    pub reference: &'a str,
    /// Whose image it is.
    pub arch: Arch,
    /// The digest of the manifest that the lock names, `sha256:…`.
    pub locked: Option<String>,
}

/// One that was fetched.
#[derive(Debug)]
pub struct Pulled {
    /// The folder with `blobs/sha256`.
    pub store: PathBuf,
    /// The digest of its manifest, `sha256:…`.
    pub digest: String,
}

/// What a bake made, before it is published.
#[derive(Debug)]
pub struct Baked {
    /// The image's name.
    pub name: String,
    /// Holds the image's files and the wheel, and goes with them if they are not published.
    folder: tempfile::TempDir,
    /// What the wheel is called.
    wheel: String,
    /// Where they are published.
    out: PathBuf,
    /// What the recipe gives a machine by default.
    pub defaults: Defaults,
    /// The checks that must pass in a booted machine.
    pub checks: BTreeMap<String, Check>,
}

impl Baked {
    /// The folder that holds the image's files, to be used as a folder of images.
    pub fn images(&self) -> &Path {
        self.folder.path()
    }

    /// Moves everything to its place, with a report of what was proved, and gives the wheel's.
    pub fn publish(self, report: Option<&str>) -> Result<PathBuf, Error> {
        if let Some(report) = report {
            fs::write(self.folder.path().join(format!("{}.json", self.name)), report)?;
        }
        publish(self.folder.path(), &self.out)?;
        Ok(self.out.join(&self.wheel))
    }
}

/// Bakes the recipe in `folder` on the base.
pub fn bake(folder: &Path, base: &Base, options: &Options) -> Result<Baked, Error> {
    (options.say)("Reading the base");
    let chain: Vec<&Path> = base.chain.iter().map(PathBuf::as_path).collect();
    let chunks = qcow2::read(&chain)?;
    let base_disk = disk::SparseDisk::from_chunks(chunks.clone());
    let below = ext4::read(base_disk)?;
    let recipe = load(folder, base, &below, (chunks.len() * disk::CHUNK) as u64)?;

    let top = base
        .chain
        .last()
        .ok_or_else(|| Error::NoRecipe { name: base.name.clone(), known: Vec::new() })?;
    let base_pin = Pinned { name: display_name(top), sha256: crate::sha256(&fs::read(top)?) };
    let lock_path = folder.join(LOCK);
    let lock = match Lock::load(&lock_path) {
        Err(error) if options.update => {
            (options.say)(&format!("warning: {error}"));
            Lock::default()
        }
        outcome => outcome?,
    };
    let old = lock.get(base.arch).filter(|_| !options.update).cloned();
    if let Some(old) = &old {
        compare("the base", &old.base, &base_pin)?;
    }
    let unpacked = tempfile::tempdir()?;
    let recipe = programs::add(&recipe, base.arch, unpacked.path(), options)?;
    let brought = match &recipe.body.root {
        None => None,
        Some(root) => {
            (options.say)("Reading the root file system");
            let locked = old.as_ref().and_then(|old| old.root.as_ref());
            let brought = brought_root(root, folder, base.arch, locked, options)?;
            let pin = Pinned { name: root.path().to_owned(), sha256: brought.sha256.clone() };
            if let Some(locked) = old.as_ref().and_then(|old| old.root.as_ref()) {
                compare("the root file system", locked, &pin)?;
            }
            Some((brought.tree, pin))
        }
    };
    let ground = brought.as_ref().map_or(&below, |(tree, _)| tree);
    let locked = old.as_ref().map(|old| &old.packages);
    let packages = packages::lock(&recipe, base.arch, ground, locked, options)?;
    let inputs = Inputs {
        base: base_pin.clone(),
        root: brought.as_ref().map(|(_, pin)| pin.clone()),
        packages,
    };
    if old.as_ref() != Some(&inputs) {
        lock.save(&lock_path, base.arch, inputs.clone())?;
    }
    let time = inputs.packages.source_date;
    let installed = packages::install(&recipe, base.arch, ground, &inputs.packages, options)?;

    fs::create_dir_all(options.out)?;
    let making = beside(options.out)?;
    let maker = Maker { recipe: &recipe, base, options, folder: making.path() };
    let (tree, files) = match &brought {
        Some((ground, _)) => maker.image(installed, ground, &below, time)?,
        None => maker.overlay(installed, &below, chunks, &inputs, &base_pin)?,
    };
    (options.say)("Packing the wheel");
    let wheel = maker.wheel(&tree, &below, &inputs, &files)?;
    Ok(Baked {
        folder: making,
        wheel,
        out: options.out.to_owned(),
        defaults: recipe.body.defaults.clone(),
        checks: recipe.body.checks.clone(),
        name: recipe.name,
    })
}

/// Reads the root file system that a recipe names, fetched first where it is in a registry.
fn brought_root(
    root: &Root,
    folder: &Path,
    arch: Arch,
    locked: Option<&Pinned>,
    options: &Options,
) -> Result<root::Brought, Error> {
    let Root::Image(reference) = root else { return root::read(root, folder, arch) };
    // A recipe that names another image is another lock's matter.
    let locked = locked.filter(|pin| pin.name == *reference);
    let locked = locked.map(|pin| format!("sha256:{}", pin.sha256));
    let pulled = (options.pull)(&Pull { reference, arch, locked })
        .map_err(|detail| Error::Pull { reference: reference.clone(), detail })?;
    root::read_pulled(&pulled.store, &pulled.digest)
}

type Files = Vec<(PathBuf, String)>;

/// What makes the files.
struct Maker<'a> {
    recipe: &'a Recipe,
    base: &'a Base,
    options: &'a Options<'a>,
    folder: &'a Path,
}

impl Maker<'_> {
    /// An image of its own: the base's kernel and initrd, and a disk with the brought files.
    fn image(
        &self,
        installed: Tree,
        ground: &Tree,
        below: &Tree,
        time: i64,
    ) -> Result<(Tree, Files), Error> {
        let mut modules = Tree::new(time);
        for (path, node) in below.iter().filter(|(path, _)| path.starts_with(b"usr/lib/modules/")) {
            modules.put_bytes(path, node.clone())?;
        }
        let tree = assemble::brought(installed, ground, &modules, self.recipe, time)?;
        (self.options.say)("Writing the disk");
        let settings = ext4::Settings {
            size: self.recipe.body.disk.size.0,
            label: self.recipe.name.chars().take(16).collect(),
            uuid: assemble::volume_id(self.recipe, self.base.arch),
            time,
        };
        let chunks = ext4::build(&tree, &settings)?.into_chunks();
        let arch = self.base.arch.image_name();
        let name = |part| file_name(&self.recipe.name, &self.recipe.body.version, arch, part);
        let (kernel, initrd, disk) = (name(Part::Kernel), name(Part::Initrd), name(Part::Disk));
        fs::copy(&self.base.kernel, self.folder.join(&kernel))?;
        fs::copy(&self.base.initrd, self.folder.join(&initrd))?;
        qcow2::write(&self.folder.join(&disk), &chunks, &settings_of(None), &|_| {})?;
        Ok((tree, [kernel, initrd, disk].map(|name| self.place(name)).into()))
    }

    /// An overlay: what differs from the base, in the base's own file system.
    fn overlay(
        &self,
        installed: Tree,
        below: &Tree,
        old: Vec<Option<Box<[u8]>>>,
        inputs: &Inputs,
        base_pin: &Pinned,
    ) -> Result<(Tree, Files), Error> {
        let tree = assemble::overlay(installed, below, self.recipe, &inputs.packages)?;
        (self.options.say)("Writing the overlay");
        let time = inputs.packages.source_date;
        let new = disk::SparseDisk::from_chunks(old.clone());
        let new = ext4::update(new, below, &tree, time)?.into_chunks();
        let changed = disk::changed(&old, new);
        let place = |file: &str| format!("{}/{file}", self.recipe.name);
        let (disk, manifest) = (place(&overlay_file(0)), place(MANIFEST_FILE));
        let path = self.folder.join(&disk);
        fs::create_dir_all(path.parent().unwrap_or(self.folder))?;
        let backing = self.place_of_base(base_pin);
        qcow2::write(&path, &changed, &settings_of(Some(backing)), &|_| {})?;
        fs::write(self.folder.join(&manifest), self.manifest(base_pin))?;
        Ok((tree, [disk, manifest].map(|name| self.place(name)).into()))
    }

    /// Where the base's disk is from the overlay, once both are installed; its name alone where the base
    /// is in no package. It is for people and their tools: a sandbox passes the chain itself.
    fn place_of_base(&self, base_pin: &Pinned) -> String {
        let file = match self.base.chain.len() {
            0 | 1 => base_pin.name.clone(),
            _ => format!("{}/{}", self.base.name, overlay_file(0)),
        };
        match self.base.requirement {
            Some(_) => installed_beside(&self.base.name, &file),
            None => base_pin.name.clone(),
        }
    }

    fn manifest(&self, base_pin: &Pinned) -> String {
        let mut config = self.recipe.body.defaults.config();
        config.insert("image".to_owned(), Value::from(self.base.name.as_str()));
        let mut manifest = Manifest::new(config, self.base.arch.qemu_name());
        let (file, sha256) = (base_pin.name.clone(), base_pin.sha256.clone());
        manifest.base_disk = Some(BaseDisk { file, sha256 });
        manifest.to_json()
    }

    /// The wheel, and its name.
    fn wheel(
        &self,
        tree: &Tree,
        below: &Tree,
        inputs: &Inputs,
        files: &Files,
    ) -> Result<String, Error> {
        let lock = &inputs.packages;
        let pool = self.options.cache.join("packages");
        let mut copyrights = wheel::copyrights(tree, lock, &pool)?;
        copyrights.extend(wheel::copyrights_of_wheels(self.recipe)?);
        let mut kernel = None;
        if !self.is_overlay() {
            let (found, text) = self.base.kernel(below);
            copyrights.extend(text.map(|text| (found.name.clone(), text.into_bytes())));
            kernel = Some(found);
        }
        let contents = Contents {
            recipe: self.recipe,
            lock,
            pool: &pool,
            tree,
            below: self.is_overlay().then_some(below),
            kernel,
            copyrights: &copyrights,
            is_ours: false,
        };
        let components = wheel::components(&contents, self.options.version, files)?;
        let papers = Papers {
            components: &components,
            copyrights: &copyrights,
            our_licences: self.options.licences,
            requires: self.base.requirement.iter().filter(|_| self.is_overlay()).cloned().collect(),
            packed_kernel: None,
        };
        let version = &self.recipe.body.version;
        let spec = wheel::spec(self.recipe, self.base.arch, version, lock, papers, files);
        let path = wheel_retag::write(&spec, self.folder)?;
        Ok(display_name(&path))
    }

    fn is_overlay(&self) -> bool {
        self.recipe.body.root.is_none()
    }

    fn place(&self, name: String) -> (PathBuf, String) {
        (self.folder.join(&name), name)
    }
}

fn settings_of(backing: Option<String>) -> qcow2::Settings {
    qcow2::Settings {
        level: DISK_LEVEL,
        n_threads: std::thread::available_parallelism().map_or(1, usize::from),
        backing: backing.map(|name| (name, "qcow2".to_owned())),
    }
}

/// Moves everything that was made to its place, each in one step.
fn publish(from: &Path, to: &Path) -> Result<(), Error> {
    let old = tempfile::Builder::new().prefix(".old-").tempdir_in(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        // A folder cannot be renamed onto one that holds something.
        if place.is_dir() {
            fs::rename(&place, old.path().join(entry.file_name()))?;
        }
        fs::rename(entry.path(), place)?;
    }
    Ok(())
}

fn display_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
