//! The bake of a recipe outside of this repository, from the folder to the finished files and their
//! wheel.

use super::{
    Base, LOCK, as_locked,
    host::Plain,
    load,
    lock::{Inputs, Lock, Pinned, compare},
};
use crate::{
    Error, RecipeError, RootError, apt,
    bake::{
        self, Baked, BaseLayer, Below, Files, Image, Order, Prover, Publication, Report, Wanted,
    },
    beside, disk, ext4,
    lock::ArchLock,
    qcow2,
    recipe::{Recipe, Root},
    root,
    rootfs::Ownership,
    tree::Tree,
};
use fs_err as fs;
use host_platform::Arch;
use package_layout::image::{installed_beside, overlay_file};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

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
    /// What boots the image to prove it; without one it is published as it is.
    pub prover: Option<&'a (dyn Prover<Error> + Sync)>,
    /// Hears what is being done.
    pub say: &'a (dyn Fn(&str) + Sync),
    /// Fetches an image of a registry; the error says why it could not.
    pub pull: &'a (dyn Fn(&Pull) -> Result<Pulled, String> + Sync),
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

/// Bakes the recipe in `folder` on the base, proves and publishes the image, and gives the wheel's place.
pub fn bake(folder: &Path, base: &Base, options: &Options) -> Result<PathBuf, Error> {
    (options.say)("Reading the base");
    let chain: Vec<&Path> = base.chain.iter().map(PathBuf::as_path).collect();
    let chunks = qcow2::read(&chain)?;
    let size = (chunks.len() * disk::CHUNK) as u64;
    let tree = ext4::read(disk::SparseDisk::from_chunks(chunks))?;
    let recipe = load(folder, base, &tree, size)?;

    let top = base.chain.last().ok_or_else(|| {
        Error::Recipe(RecipeError::NoRecipe { name: base.name.clone(), known: Vec::new() })
    })?;
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
    fs::create_dir_all(options.out)?;
    let host = Plain::new(options, beside(options.out)?);
    let store = bake::store_of(&host)?;
    let recipe = bake::with_programs(&host, &recipe, base.arch, &store, false)?;
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
    let base_tree = brought.as_ref().map_or(&tree, |(tree, _)| tree);
    let below = as_locked(base_tree, base_tree.newest_time())?;
    let old_packages = old.as_ref().map(|old| &old.packages);
    let lock_of_packages =
        choose(&host, &recipe, (base.arch, &store), (base_tree, &below), old_packages)?;
    let inputs = Inputs {
        base: base_pin.clone(),
        root: brought.as_ref().map(|(_, pin)| pin.clone()),
        packages: lock_of_packages.clone(),
    };
    if old.as_ref() != Some(&inputs) {
        lock.save(&lock_path, base.arch, inputs)?;
    }
    let image = Image {
        base,
        brought: brought.map(|(tree, pin)| Files::Read(Box::new(tree), pin.sha256)),
        lock: lock_of_packages,
        packages: below,
        kernel: base.kernel(&tree),
        agent: base.agent(),
    };
    let below = Below {
        files: Files::Read(Box::new(tree), base_pin.sha256.clone()),
        chain: base.chain.clone(),
        place: place_of(base, &base_pin),
        name: base_pin.name,
    };
    let how = bake::Options { ownership: options.ownership, ..bake::Options::default() };
    let order = Order {
        recipe: &recipe,
        arch: base.arch,
        store: &store,
        base: BaseLayer::Image(below, Box::new(image)),
        options: &how,
    };
    let finished = bake::run(&host, order)?;
    let baked = Baked { recipe, arch: base.arch, finished };
    let publication = Publication {
        out: options.out,
        prover: options.prover.map(|prover| prover as _),
        no_cache: false,
        report: Report::Proof,
    };
    bake::publish_proved(&host, &baked, &publication)
}

/// The packages that answer the recipe, those of the old lock if they do, with every one of them in the store.
/// Without packages nothing is asked of a mirror.
fn choose(
    host: &Plain<'_>,
    recipe: &Recipe,
    (arch, store): (Arch, &Path),
    (base_tree, below): (&Tree, &ArchLock),
    old: Option<&ArchLock>,
) -> Result<ArchLock, Error> {
    let base = std::slice::from_ref(below);
    let request = apt::request(recipe, arch, base);
    if recipe.body.packages.is_empty() {
        return Ok(ArchLock { request, package: Vec::new(), ..below.clone() });
    }
    let status = base_tree.read("var/lib/dpkg/status")?.ok_or_else(|| {
        Error::Root(RootError::NoPackageManager {
            base: recipe.base.as_ref().map(|base| base.name.clone()).unwrap_or_default(),
        })
    })?;
    let status = String::from_utf8_lossy(&status);
    let wanted = Wanted { host, recipe, arch, store, base, status: Some(&status) };
    match old.filter(|old| old.request == request) {
        Some(old) => bake::fetched(&wanted, old, false),
        None => bake::lock(&wanted),
    }
}

/// Where the base's disk is from the overlay, once both are installed; its name alone where the base is in no
/// package.
fn place_of(base: &Base, pin: &Pinned) -> String {
    let file = match base.chain.len() {
        0 | 1 => pin.name.clone(),
        _ => overlay_file(0),
    };
    match base.requirement {
        Some(_) => installed_beside(&base.name, &file),
        None => pin.name.clone(),
    }
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
        .map_err(|detail| Error::Root(RootError::Pull { reference: reference.clone(), detail }))?;
    root::read_pulled(&pulled.store, &pulled.digest)
}

fn display_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
