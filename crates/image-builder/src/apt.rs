//! Chooses and fetches packages with the host's apt under a configuration of our own: the host's
//! lists, caches and status are neither read nor changed. Of the host's configuration only the
//! mirrors and the way to reach them (proxies) are taken.
//!
//! Signatures are checked by apt against the distribution's keyring alone, whatever other keys the
//! host trusts.

pub(crate) mod answer;
mod image_sources;
mod private;
pub(crate) mod repositories;
pub mod snapshot;
mod sources;

use crate::{
    Error, KernelError, PackageError, RootError, StoreError,
    lock::{ArchLock, Package},
    recipe::{DistributionName, Method, Recipe},
};
use answer::Choice;
use duct::Expression;
use fs_err as fs;
use host_platform::Arch;
use std::path::{Path, PathBuf};

pub use answer::releases;
pub use image_sources::{examples, sources_for_image};
pub use private::{APT_HELPER, Download, Private};
pub use repositories::{Repository, repositories};
pub use sources::{Archive, archive_name, archives, is_dated, mirror_variable, tool_text};

/// The package that holds a distribution's keys, and where it puts them.
fn keyring_package(distribution: DistributionName) -> (&'static str, &'static str) {
    match distribution {
        DistributionName::Debian => {
            ("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg")
        }
        DistributionName::Ubuntu => {
            ("ubuntu-keyring", "/usr/share/keyrings/ubuntu-archive-keyring.gpg")
        }
        DistributionName::Alpine => ("alpine-keys", "/etc/apk/keys"),
    }
}

/// The variable by which the person names another keyring.
pub fn keyring_variable(distribution: &str) -> String {
    format!("QUICKSAND_KEYRING_{}", distribution.to_uppercase())
}

/// The keyring that a distribution's signatures are checked with: the person's, else the host's.
pub fn keyring(distribution: DistributionName) -> Result<PathBuf, Error> {
    let (package, usual) = keyring_package(distribution);
    let variable = keyring_variable(distribution.as_str());
    let path = std::env::var_os(&variable).map_or_else(|| PathBuf::from(usual), PathBuf::from);
    match path.is_file() {
        true => Ok(path),
        false => Err(Error::Package(PackageError::NoKeyring { path, package, variable })),
    }
}

/// An apt that chooses and fetches a recipe's packages.
pub struct Apt {
    private: Private,
    archives: Vec<Archive>,
}

impl Apt {
    /// Writes the configuration for a recipe and an architecture into `folder`. No other keys than
    /// those of `keyring` are trusted.
    pub fn new(
        folder: &Path,
        recipe: &Recipe,
        arch: Arch,
        archives: Vec<Archive>,
        keyring: &Path,
    ) -> Result<Self, Error> {
        let list = sources::list(&archives, &recipe.body.distribution, keyring);
        Ok(Self { private: Private::new(folder, arch, &list)?, archives })
    }

    /// The command that fetches the package lists and checks their signatures.
    pub fn update(&self) -> Expression {
        self.private.update()
    }

    /// Says that the packages of these locks are installed already, as they are below an overlay:
    /// what is chosen then comes on top of them.
    pub fn assume(&self, locks: &[ArchLock], store: &Path) -> Result<(), Error> {
        let mut status = String::new();
        for package in locks.iter().flat_map(|lock| &lock.package) {
            let control = crate::deb::control(&store_path(store, package))?;
            status += control.trim_end();
            status += "\nStatus: install ok installed\n\n";
        }
        self.private.set_status(&status)
    }

    /// Says that what a tree's own database lists is installed already; see [`Apt::assume`].
    pub fn assume_status(&self, status: &str) -> Result<(), Error> {
        self.private.set_status(status)
    }

    /// Chooses packages and their versions; the lists must have been fetched. `base` are the locks
    /// of what an overlay lies on, the bottom one first.
    pub fn resolve(
        &self,
        recipe: &Recipe,
        arch: Arch,
        base: &[ArchLock],
    ) -> Result<ArchLock, Error> {
        let mut wanted = recipe.body.packages.clone();
        let release = answer::releases(&self.private.lists(), &self.archives)?;
        let known = answer::components(&self.private.lists())?;
        let asked = &recipe.body.distribution.components;
        if let Some(component) = asked.iter().find(|component| !known.contains(*component)) {
            // apt would go on without it, with a warning that nobody reads.
            let (component, known) = (component.clone(), known.into_iter().collect());
            return Err(Error::Package(PackageError::NoComponent { component, known }));
        }
        let source_date = release.iter().map(|release| release.date).max().unwrap_or(0);
        let request = request(recipe, arch, base);
        if !base.is_empty() {
            let package = if wanted.is_empty() { Vec::new() } else { self.choose(wanted)? };
            let kernel_modules = Vec::new();
            return Ok(ArchLock {
                request,
                source_date,
                release,
                package,
                kernel: None,
                kernel_modules,
            });
        }
        if recipe.body.distribution.method == Method::Install {
            wanted.insert(0, "?essential".to_owned());
            wanted.push("apt".to_owned());
        }
        let package = self.choose(wanted)?;
        let kernel_package = recipe.kernel_package(arch);
        let with_kernel = self.choose(vec![kernel_package.clone()])?;
        // The meta package depends on the real one, which is called by its release.
        let release_of = |package: &Package, stem: &str| {
            let release = package.name.strip_prefix(stem)?.to_owned();
            release.starts_with(|c: char| c.is_ascii_digit()).then_some(release)
        };
        let kernel = with_kernel
            .iter()
            .find(|package| release_of(package, "linux-image-").is_some())
            .cloned()
            .ok_or(Error::Kernel(KernelError::NoKernel { package: kernel_package }))?;
        // Ubuntu's modules are in packages of their own.
        let its_release = release_of(&kernel, "linux-image-");
        let kernel_modules = with_kernel
            .into_iter()
            .filter(|package| {
                ["linux-modules-", "linux-modules-extra-"]
                    .iter()
                    .any(|stem| release_of(package, stem) == its_release)
            })
            .collect();
        let kernel = Some(kernel);
        Ok(ArchLock { request, source_date, release, package, kernel, kernel_modules })
    }

    fn choose(&self, wanted: Vec<String>) -> Result<Vec<Package>, Error> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut args: Vec<String> =
            ["install", "--print-uris", "-qq", "--no-install-recommends", "--"]
                .map(str::to_owned)
                .into();
        args.extend(wanted);
        let uris = self.private.read("apt-get", args).map_err(|error| self.explain(error))?;
        let choices: Vec<Choice> = uris
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                answer::choice(line).ok_or_else(|| {
                    Error::Package(PackageError::AptAnswer { line: line.to_owned() })
                })
            })
            .collect::<Result<_, _>>()?;
        // What is installed already need not be fetched; apt-cache refuses to show nothing.
        if choices.is_empty() {
            return Ok(Vec::new());
        }
        let mut args = vec!["show".to_owned()];
        args.extend(choices.iter().map(|choice| format!("{}={}", choice.name, choice.version)));
        let records = self.private.read("apt-cache", args)?;
        answer::packages(&choices, &records, &self.archives)
    }

    /// apt's complaint about a name that no package has, with the nearest one that there is.
    fn explain(&self, error: Error) -> Error {
        let Error::Root(RootError::Tool { source, .. }) = &error else { return error };
        let Some(package) = answer::unknown_package(&source.to_string()).map(str::to_owned) else {
            return error;
        };
        let known = self.private.read("apt-cache", vec!["pkgnames".to_owned()]).unwrap_or_default();
        let nearest = spelling::nearest(&package, known.lines()).map(str::to_owned);
        Error::Package(PackageError::NoPackage { nearest, package })
    }

    /// The command that fetches packages into `store`, each checked against its sha256.
    pub fn fetch(&self, packages: &[&Package], store: &Path) -> Result<Expression, Error> {
        self.fetch_from(&self.archives, packages, store)
    }

    /// The same from other places of the archives.
    pub fn fetch_from(
        &self,
        archives: &[Archive],
        packages: &[&Package],
        store: &Path,
    ) -> Result<Expression, Error> {
        let find = |name: &str| archives.iter().find(|archive| archive.name == name);
        let downloads = packages
            .iter()
            .map(|package| {
                let name = package.archive.as_str();
                // A security archive may be separate on one host and not on another.
                let main = || name.strip_suffix("-security").and_then(find);
                let archive = find(name).or_else(main).ok_or_else(|| {
                    Error::Package(PackageError::NoMirror { archive: package.archive.clone() })
                })?;
                Ok(Download {
                    uri: format!("{}/{}", archive.uri, package.path),
                    path: store_path(store, package),
                    sha256: package.sha256.clone(),
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(self.private.download(&downloads))
    }

    /// The archives as they were when a lock was written, the likeliest time first; none where nobody
    /// says where their past is. The releases of the present say it, so lists should be there.
    pub fn past(&self, lock: &ArchLock) -> Vec<Vec<Archive>> {
        let setting = |archive: &str| std::env::var(snapshot::variable(archive)).ok();
        snapshot::for_lock(&self.archives, lock, &setting, &self.private.lists())
    }
}

/// A digest of what a recipe asks of the package manager. What an overlay asks depends on what is
/// below it, `base`.
pub fn request(recipe: &Recipe, arch: Arch, base: &[ArchLock]) -> String {
    let mut asked = format!(
        "{:?} {:?} {} {}",
        recipe.body.distribution,
        recipe.body.packages,
        recipe.kernel_package(arch),
        arch.image_name()
    );
    for package in base.iter().flat_map(|lock| &lock.package) {
        asked += &format!(" {}={}", package.name, package.version);
    }
    crate::sha256(asked.as_bytes())[..16].to_owned()
}

/// Where a package lies in a content-addressed store.
pub fn store_path(store: &Path, package: &Package) -> PathBuf {
    let suffix = if package.path.ends_with(".apk") { "apk" } else { "deb" };
    store.join(format!("{}.{suffix}", package.sha256))
}

/// The path of a package in the store, after a look at whether it is what the lock names: a byte that
/// changed since it was fetched must not get into an image.
pub fn checked_path(store: &Path, package: &Package) -> Result<PathBuf, Error> {
    let path = store_path(store, package);
    let found = crate::sha256(&fs::read(&path)?);
    if found == package.sha256 {
        Ok(path)
    } else {
        Err(Error::Store(StoreError::WrongHash { path, found, expected: package.sha256.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::tests::package;

    #[test]
    fn a_changed_byte_is_found() {
        let store = tempfile::tempdir().unwrap();
        let package = package("bash", "5");
        let path = store_path(store.path(), &package);
        fs::write(&path, "bash").unwrap();
        assert_eq!(checked_path(store.path(), &package).unwrap(), path);
        fs::write(&path, "bosh").unwrap();
        let error = checked_path(store.path(), &package).unwrap_err();
        assert!(error.to_string().contains(&package.sha256), "{error}");
        assert!(error.hint().unwrap().contains("delete"), "{error}");
    }
}
