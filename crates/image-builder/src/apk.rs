//! Chooses and fetches Alpine's packages: the signed indexes of a mirror, the packages that a recipe
//! needs, and their files, each checked down to its data.
//!
//! apt's downloader fetches here too: the way to a mirror is the host's matter. What came is trusted
//! for its signature and digests alone.

mod freshness;
pub(crate) mod index;
mod install;
pub mod package;
mod signature;
mod solve;
pub(crate) mod version;

use crate::{
    Error, KernelError,
    apt::{Archive, Download, Private, request, store_path},
    lock::{ArchLock, Package, Release},
    recipe::Recipe,
};
use duct::Expression;
use fs_err as fs;
use host_platform::Arch;
use index::{Dependency, Record};
pub use install::{SCRIPTS, lay_out};
pub use signature::Keys;
use std::path::{Path, PathBuf};

/// The file of an index.
const INDEX: &str = "APKINDEX.tar.gz";

/// What chooses and fetches a recipe's packages.
pub struct Apk {
    folder: PathBuf,
    private: Private,
    archive: Archive,
    keys: Keys,
    /// Where the indexes lie below the mirror's root.
    repositories: Vec<String>,
    /// Where it is kept how new the indexes were.
    memory: PathBuf,
}

/// A package that was chosen, before its file is here: the index knows no sha256 of it.
#[derive(Clone, Debug)]
pub struct Chosen {
    record: Record,
    /// Whether it is the kernel.
    is_kernel: bool,
}

impl Apk {
    /// Works in `folder`, with one mirror and the keys that its indexes may be signed with; `memory` is
    /// a folder that outlasts the bake.
    pub fn new(
        folder: &Path,
        memory: &Path,
        recipe: &Recipe,
        arch: Arch,
        archive: Archive,
        keys: Keys,
    ) -> Result<Self, Error> {
        let distribution = &recipe.body.distribution;
        let repositories = distribution
            .components
            .iter()
            .map(|component| format!("{}/{component}/{}", distribution.suite, arch.qemu_name()))
            .collect();
        let private = Private::new(folder, arch, "")?;
        let (folder, memory) = (folder.to_owned(), memory.to_owned());
        Ok(Self { folder, private, archive, keys, repositories, memory })
    }

    fn index_path(&self, repository: &str) -> PathBuf {
        self.folder.join(format!("{}-{INDEX}", repository.replace('/', "_")))
    }

    /// The command that fetches the indexes. What it brings is not checked yet.
    pub fn update(&self) -> Result<Expression, Error> {
        let mut downloads = Vec::new();
        for repository in &self.repositories {
            let path = self.index_path(repository);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
            let uri = format!("{}/{repository}/{INDEX}", self.archive.uri);
            downloads.push(Download { uri, path, sha256: String::new() });
        }
        Ok(self.private.download(&downloads))
    }

    /// Chooses packages out of the indexes, whose signatures are checked here. `base` are the locks
    /// of what an overlay lies on, the bottom one first, with their packages in `store`.
    pub fn choose(
        &self,
        recipe: &Recipe,
        arch: Arch,
        base: &[ArchLock],
        store: &Path,
    ) -> Result<Vec<Chosen>, Error> {
        let mut records = Vec::new();
        for repository in &self.repositories {
            let path = self.index_path(repository);
            let text = package::index(&path, &self.keys)?;
            let of_index = index::parse(&text, repository, &path)?;
            freshness::check(&self.memory, repository, freshness::newest(&of_index), &path)?;
            records.extend(of_index);
        }
        let mut installed = Vec::new();
        for locked in base.iter().flat_map(|lock| &lock.package) {
            let path = store_path(store, locked);
            let text = record_of(&package::Package::read(&path)?);
            installed.extend(index::parse(&text, "", &path)?);
        }
        let dependency =
            |name: &String| Dependency { name: name.clone(), constraint: None, is_conflict: false };
        let wanted: Vec<Dependency> = recipe.body.packages.iter().map(dependency).collect();
        let mut chosen: Vec<Chosen> = solve::solve(&records, &wanted, &installed)?
            .into_iter()
            .map(|place| Chosen { record: records[place].clone(), is_kernel: false })
            .collect();
        if base.is_empty() {
            // The kernel is unpacked and never installed: its dependencies make an initramfs.
            let name = recipe.kernel_package(arch);
            let kernel = records
                .iter()
                .filter(|record| record.name == name)
                .max_by(|a, b| version::compare(&a.version, &b.version))
                .ok_or(Error::Kernel(KernelError::NoKernel { package: name }))?;
            chosen.push(Chosen { record: kernel.clone(), is_kernel: true });
        }
        chosen.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        Ok(chosen)
    }

    /// Where the file of a chosen package arrives.
    pub fn arrival(&self, chosen: &Chosen, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{}.apk", chosen.record.name, chosen.record.version))
    }

    /// The command that fetches the files of chosen packages into a folder.
    pub fn fetch_chosen(&self, chosen: &[Chosen], folder: &Path) -> Expression {
        let downloads: Vec<Download> = chosen
            .iter()
            .map(|chosen| Download {
                uri: format!("{}/{}", self.archive.uri, chosen.record.path()),
                path: self.arrival(chosen, folder),
                sha256: String::new(),
            })
            .collect();
        self.private.download(&downloads)
    }

    /// Checks a file that arrived against the signed index and moves it into the store.
    pub fn admit(&self, chosen: &Chosen, folder: &Path, store: &Path) -> Result<Package, Error> {
        let path = self.arrival(chosen, folder);
        package::check(&path, &chosen.record.checksum)?;
        let record = &chosen.record;
        let bytes = fs::read(&path)?;
        let package = Package {
            name: record.name.clone(),
            version: record.version.clone(),
            arch: record.arch.clone(),
            archive: self.archive.name.clone(),
            path: record.path(),
            size: bytes.len() as u64,
            sha256: crate::sha256(&bytes),
        };
        host_platform::rename_whole(&path, &store_path(store, &package))?;
        Ok(package)
    }

    /// The lock of chosen packages, `packages` being what `admit` gave for each of them. The newest
    /// build among them is the image's time stamp: an index of Alpine's has no date.
    pub fn lock(
        &self,
        recipe: &Recipe,
        arch: Arch,
        base: &[ArchLock],
        chosen: &[Chosen],
        packages: Vec<Package>,
        store: &Path,
    ) -> Result<ArchLock, Error> {
        let mut source_date = base.iter().map(|lock| lock.source_date).max().unwrap_or(0);
        for package in &packages {
            let read = package::Package::read(&store_path(store, package))?;
            let date = read.first("builddate").and_then(|date| date.parse().ok());
            source_date = source_date.max(date.unwrap_or(0));
        }
        let mut release = Vec::new();
        for repository in &self.repositories {
            release.push(Release {
                archive: self.archive.name.clone(),
                suite: repository.clone(),
                date: source_date,
                sha256: crate::sha256(&fs::read(self.index_path(repository))?),
            });
        }
        let (kernel, package): (Vec<_>, Vec<_>) =
            chosen.iter().zip(packages).partition(|(chosen, _)| chosen.is_kernel);
        Ok(ArchLock {
            request: request(recipe, arch, base),
            source_date,
            release,
            package: package.into_iter().map(|(_, package)| package).collect(),
            kernel: kernel.into_iter().map(|(_, package)| package).next(),
            kernel_modules: Vec::new(),
        })
    }

    /// The command that fetches locked packages into `store`, each checked against its sha256.
    pub fn fetch(&self, packages: &[&Package], store: &Path) -> Expression {
        let downloads: Vec<Download> = packages
            .iter()
            .map(|package| Download {
                uri: format!("{}/{}", self.archive.uri, package.path),
                path: store_path(store, package),
                sha256: package.sha256.clone(),
            })
            .collect();
        self.private.download(&downloads)
    }
}

/// The record of a package that is installed, from its own words.
fn record_of(package: &package::Package) -> String {
    let one = |key: &str| package.first(key).unwrap_or_default().to_owned();
    let many = |key: &str| package.all(key).collect::<Vec<_>>().join(" ");
    format!(
        "C:{}\nP:{}\nV:{}\nD:{}\np:{}\n\n",
        package.checksum,
        one("pkgname"),
        one("pkgver"),
        many("depend"),
        many("provides")
    )
}
