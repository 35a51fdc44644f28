//! Locks: the exact packages of an image, as `recipes/NAME/recipe.lock`.
//!
//! A lock names each package by version, path below its archive and sha256, and no mirror: any
//! mirror that still holds the file will do. It also names the signed releases that the packages
//! were chosen from, whose newest date is the time stamp of everything in the image.

use crate::{Error, LockError};
use fs_err as fs;
use host_platform::Arch;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

/// The version of the lock's format.
const VERSION: u32 = 1;

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// By architecture, in Debian's words.
    #[serde(default)]
    arch: BTreeMap<String, ArchLock>,
}

/// What is locked for one architecture.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ArchLock {
    /// A digest of what was asked for: a lock that answers another question is out of date.
    pub request: String,
    /// The time stamp of everything in the image: the newest release's date, in seconds since the
    /// epoch.
    pub source_date: i64,
    /// The signed releases.
    pub release: Vec<Release>,
    /// The packages of the root file system, by name.
    pub package: Vec<Package>,
    /// The package that holds the kernel and its modules; an overlay has its base's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Package>,
    /// The packages with the kernel's modules, where they are not in the kernel's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_modules: Vec<Package>,
}

/// A signed release.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The archive, such as `debian` or `debian-security`.
    pub archive: String,
    pub suite: String,
    /// Its date in seconds since the epoch.
    pub date: i64,
    /// The sha256 of the signed release file.
    pub sha256: String,
}

/// A locked package.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// Its architecture, `all` among others.
    pub arch: String,
    /// The archive that holds it.
    pub archive: String,
    /// Its path below the archive's root.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its sha256 in hexadecimal.
    pub sha256: String,
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, arch: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads a lock; one that is absent is empty.
    pub fn load(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(path)?;
        let lock: Self = toml::from_str(&text).map_err(|source| {
            Error::Lock(LockError::BadLock { path: path.to_owned(), source: Box::new(source) })
        })?;
        if lock.version != VERSION {
            return Err(Error::Lock(LockError::LockVersion {
                path: path.to_owned(),
                found: lock.version,
                known: VERSION,
            }));
        }
        for arch in lock.arch.values() {
            arch.check(path)?;
        }
        Ok(lock)
    }

    /// What is locked for an architecture, if it answers this request.
    pub fn get(&self, arch: Arch, request: &str) -> Option<&ArchLock> {
        self.arch.get(arch.image_name()).filter(|lock| lock.request == request)
    }

    /// What is locked for an architecture, whatever it was asked for.
    pub fn any(&self, arch: Arch) -> Option<&ArchLock> {
        self.arch.get(arch.image_name())
    }

    /// Replaces what is locked for an architecture.
    pub fn set(&mut self, arch: Arch, lock: ArchLock) {
        self.arch.insert(arch.image_name().to_owned(), lock);
    }

    /// Writes one architecture's part: those of others are what the file says now, for another bake may
    /// have written its own meanwhile.
    pub fn put(path: &Path, recipe: &str, arch: Arch, part: ArchLock) -> Result<(), Error> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // Held until the file is written; a system without locks of folders does without.
        let turn = fs::File::open(folder.unwrap_or(Path::new(".")));
        let _ = turn.as_ref().map(|turn| turn.file().lock());
        let mut lock = Self::load(path).unwrap_or_default();
        lock.set(arch, part);
        lock.save(path, recipe)
    }

    /// Writes the lock beside its place and renames it.
    pub fn save(&self, path: &Path, recipe: &str) -> Result<(), Error> {
        let body = toml::to_string(self).map_err(|error| {
            std::io::Error::other(format!("the lock cannot be written as TOML: {error}"))
        })?;
        let text = format!(
            "# The exact inputs of the image `{recipe}`. Renewed by: cargo xtask bake {recipe} --update\n{body}"
        );
        write_beside(path, &text)
    }
}

/// Writes a file beside its place, called as nobody else calls its own, and renames it.
pub(crate) fn write_beside(path: &Path, text: &str) -> Result<(), Error> {
    static N_WRITTEN: AtomicU32 = AtomicU32::new(0);
    let number = N_WRITTEN.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("lock.part-{}-{number}", std::process::id()));
    fs::write(&beside, text)?;
    Ok(host_platform::rename_whole(&beside, path)?)
}

impl ArchLock {
    /// Refuses what no bake writes: a lock that was changed by hand, or on its way. `path` is for the
    /// message.
    pub fn check(&self, path: &Path) -> Result<(), Error> {
        let wrong =
            |detail: String| Error::Lock(LockError::WrongLock { path: path.to_owned(), detail });
        let newest = self.release.iter().map(|release| release.date).max();
        if newest.is_some_and(|date| date != self.source_date) {
            return Err(wrong(format!(
                "`source_date` is not its newest release's: {}",
                self.source_date
            )));
        }
        match self.all().find_map(|package| Some((package, package.fault()?))) {
            Some((package, fault)) => {
                Err(wrong(format!("the {fault} of `{}` is wrong", package.name)))
            }
            None => Ok(()),
        }
    }

    /// Every package, the kernel's included.
    pub fn all(&self) -> impl Iterator<Item = &Package> {
        self.package.iter().chain(&self.kernel).chain(&self.kernel_modules)
    }
}

impl Package {
    /// The field that does not agree with the others, if one does not. Distributions call a package's
    /// file by its name and version.
    fn fault(&self) -> Option<&'static str> {
        let is_hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if self.sha256.len() != 64 || !self.sha256.bytes().all(is_hex) {
            return Some("sha256");
        }
        let file = self.path.rsplit('/').next().unwrap_or_default();
        // The epoch is not in it.
        let version = self.version.split_once(':').map_or(self.version.as_str(), |(_, rest)| rest);
        let is_of_version = file
            .strip_prefix(self.name.as_str())
            .and_then(|rest| rest.strip_prefix(['_', '-'])?.strip_prefix(version))
            .is_some_and(|rest| rest.starts_with(['_', '.']));
        if self.path.starts_with('/') || self.path.split('/').any(|part| part == "..") {
            return Some("path");
        }
        (!is_of_version).then_some("name, version or path")
    }
}

/// What changed between two locks, a line for each package: `+ name version`, `- name version`,
/// `name old -> new`.
pub fn difference(old: Option<&ArchLock>, new: &ArchLock) -> Vec<String> {
    // A kernel's package is called by its version, so kernels are distinguished by place.
    let index = |lock: &ArchLock| -> BTreeMap<String, String> {
        let packages =
            lock.package.iter().map(|package| (package.name.clone(), package.version.clone()));
        let kernel = lock.kernel.iter().map(|kernel| ("kernel".to_owned(), kernel.version.clone()));
        packages.chain(kernel).collect()
    };
    let (old, new) = (old.map(index).unwrap_or_default(), index(new));
    let mut lines = Vec::new();
    for (name, version) in &new {
        match old.get(name) {
            None => lines.push(format!("+ {name} {version}")),
            Some(before) if before != version => {
                lines.push(format!("{name} {before} -> {version}"))
            }
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    lines.extend(gone.map(|(name, version)| format!("- {name} {version}")));
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: "amd64".to_owned(),
            archive: "debian".to_owned(),
            path: format!("pool/{name}_{version}.deb"),
            size: name.len() as u64,
            sha256: crate::sha256(name.as_bytes()),
        }
    }

    pub(crate) fn arch_lock(packages: &[(&str, &str)]) -> ArchLock {
        ArchLock {
            request: "r".to_owned(),
            source_date: 5,
            release: Vec::new(),
            package: packages.iter().map(|(name, version)| package(name, version)).collect(),
            kernel: Some(package("linux-image-6.12", "6.12-1")),
            kernel_modules: Vec::new(),
        }
    }

    #[test]
    fn eight_bakes_at_once_lose_nothing_of_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.lock");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let arch = if number % 2 == 0 { Arch::Amd64 } else { Arch::Arm64 };
                    let name = format!("of-{}", arch.image_name());
                    let part = arch_lock(&[(name.as_str(), "1")]);
                    for _ in 0..20 {
                        Lock::put(path, "small", arch, part.clone()).unwrap();
                        assert!(Lock::load(path).unwrap().any(arch).is_some());
                    }
                });
            }
        });
        let lock = Lock::load(&path).unwrap();
        for arch in [Arch::Amd64, Arch::Arm64] {
            let name = format!("of-{}", arch.image_name());
            assert_eq!(lock.any(arch).unwrap().package[0].name, name);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing lies beside it");
    }

    #[test]
    fn a_lock_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.lock");
        assert_eq!(Lock::load(&path).unwrap(), Lock::default());
        let mut lock = Lock::default();
        lock.set(Arch::Amd64, arch_lock(&[("bash", "5")]));
        lock.save(&path, "test").unwrap();
        let back = Lock::load(&path).unwrap();
        assert_eq!(back, lock);
        assert!(back.get(Arch::Amd64, "r").is_some());
        assert!(back.get(Arch::Amd64, "another question").is_none());
        assert!(back.get(Arch::Arm64, "r").is_none());
    }

    #[test]
    fn the_locks_of_this_repository_are_sound() {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        let locks = crate::recipe::names(&recipes)
            .into_iter()
            .map(|name| recipes.join(name).join("recipe.lock"))
            .filter(|path| path.is_file());
        let n_packages: usize = locks
            .map(|path| {
                let lock = Lock::load(&path).unwrap_or_else(|error| panic!("{error}"));
                lock.arch.values().map(|arch| arch.all().count()).sum::<usize>()
            })
            .sum();
        assert!(n_packages > 500, "{n_packages}");
    }

    #[test]
    fn a_lock_of_another_version_names_update() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.lock");
        fs::write(&path, "version = 99\n").unwrap();
        assert!(Lock::load(&path).unwrap_err().hint().unwrap().contains("--update"));
    }

    #[test]
    fn a_lock_that_was_changed_by_hand_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.lock");
        let mut lock = Lock::default();
        let mut locked = arch_lock(&[("bash", "1:5")]);
        locked.package[0].path = "pool/main/b/bash/bash_5_amd64.deb".to_owned();
        let (archive, suite) = ("debian".to_owned(), "trixie".to_owned());
        locked.release = vec![Release { archive, suite, date: 5, sha256: "0".repeat(64) }];
        lock.set(Arch::Amd64, locked);
        lock.save(&path, "test").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(Lock::load(&path).is_ok());
        let digest = crate::sha256(b"bash");
        let upper = digest.to_uppercase();
        for (from, to) in [
            (digest.as_str(), "../../../etc/passwd"),
            (&digest, &digest[1..]),
            (&digest, &upper),
            ("\"1:5\"", "\"1:6\""),
            ("\"bash\"", "\"bish\""),
            ("bash_5_", "bash_55_"),
            ("pool/main", "../main"),
            ("source_date = 5", "source_date = 6"),
        ] {
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let error = Lock::load(&path).unwrap_err();
            assert!(
                matches!(error, Error::Lock(LockError::WrongLock { .. })),
                "{from} {to}: {error}"
            );
            assert!(error.hint().unwrap().contains("--update"));
        }
    }

    #[test]
    fn differences_are_by_package() {
        let old = arch_lock(&[("bash", "5"), ("less", "1")]);
        let mut new = arch_lock(&[("bash", "6"), ("nano", "8")]);
        new.kernel = Some(package("linux-image-6.13", "6.13-1"));
        assert_eq!(
            difference(Some(&old), &new),
            ["bash 5 -> 6", "kernel 6.12-1 -> 6.13-1", "+ nano 8", "- less 1"]
        );
    }
}
