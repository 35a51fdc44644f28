//! The stages that make the packages' files: each set of them is an entry of the build cache, so that
//! a package that changed is installed again with its own set and those above, and no more.

use super::{
    Files, Host, Outcome, StepOf,
    stages::{Baker, name_of},
};
use crate::{
    Error, RootError, apk, beside,
    package_sets::{self, PackageSet},
    recipe::{DistributionName, Method},
    rootfs,
    tree::Tree,
};
use cache_key::{Key, tools};
use fs_err as fs;
use std::path::{Path, PathBuf};

/// What makes root file systems. An install mode may need more.
pub const PACKAGES: &[&str] = &["mmdebstrap"];

/// The programs of the host that decide bytes of a root file system.
const TOOLS: &[&str] = &["mmdebstrap", "dpkg", "dpkg-deb", "apt-get", "tar"];

/// The file of an entry.
pub const TAR: &str = "rootfs.tar";

impl<H: Host> Baker<'_, H> {
    /// The packages' files as a tar.
    pub fn rootfs(&self) -> Outcome<PathBuf, H> {
        let mut key = self.key("rootfs");
        for package in &self.lock.package {
            key.add("package", package.sha256.as_bytes());
        }
        let body = &self.recipe.body;
        key.add("time", &self.lock.source_date.to_le_bytes());
        let asked = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            body.distribution, body.commands, body.exclude, body.keep, body.fragment_packages
        );
        key.add("recipe", asked.as_bytes());
        let title = format!("Install the packages of {}", self.recipe.name);
        match (body.distribution.name, body.distribution.method) {
            (DistributionName::Alpine, _) => {
                self.add_apk(&mut key)?;
                self.stage("rootfs", &key, &title, |step, folder| {
                    self.configure(step, None, &folder.join(TAR))
                })
            }
            (_, Method::Unpack) => self.stage("rootfs", &key, &title, |_, folder| {
                Ok(rootfs::unpack(self.lock, self.store)?.write_tar(&folder.join(TAR))?)
            }),
            (_, Method::Install) => {
                self.add_tools(&mut key)?;
                self.package_sets(&key, None, true)
            }
        }
    }

    /// The same with the packages of an overlay in the tree of what is below: set upon set, where the lock
    /// holds all that tells them apart.
    pub(super) fn install_over(&self, below: &Files, in_sets: bool) -> Outcome<PathBuf, H> {
        let title = format!("Install the packages of {}", self.recipe.name);
        let body = &self.recipe.body;
        if !in_sets && self.lock.package.is_empty() && body.commands.is_empty() {
            let mut key = self.key("rootfs");
            key.add("below", below.identity());
            return self.entry("rootfs", &key, |folder| Ok(below.put_tar(&folder.join(TAR))?));
        }
        let all = PackageSet::whole(self.lock, self.recipe);
        let mut key = self.set_key(&all, Some(below))?;
        key.add("fragments", format!("{:?}", body.fragment_packages).as_bytes());
        if body.distribution.name != DistributionName::Alpine {
            return self.package_sets(&key, Some(below), in_sets);
        }
        self.add_apk(&mut key)?;
        self.stage("rootfs", &key, &title, |step, folder| {
            self.configure(step, Some(below), &folder.join(TAR))
        })
    }

    /// The entry of this key, with the packages installed set upon set, or all at once.
    fn package_sets(&self, key: &Key, below: Option<&Files>, in_sets: bool) -> Outcome<PathBuf, H> {
        self.entry("rootfs", key, |folder| {
            let time = self.base.iter().map(|lock| lock.source_date).max().unwrap_or_default();
            let sets = match in_sets {
                true => package_sets::split(self.lock, self.recipe, self.store, time)?,
                false => vec![PackageSet::whole(self.lock, self.recipe)],
            };
            let mut top: Option<PathBuf> = None;
            for (number, set) in sets.iter().enumerate() {
                let name = &self.recipe.name;
                let title = match sets.len() {
                    1 => format!("Install the packages of {name}"),
                    n => format!("Install the packages of {name} ({} of {n})", number + 1),
                };
                let lower = top.take().map(Lower::PackageSet);
                let lower = lower.or(below.map(Lower::Layer));
                let key = self.set_key_on(set, lower.as_ref().map(Lower::identity))?;
                top = Some(self.stage("package-set", &key, &title, |step, folder| {
                    self.install(step, set, lower.as_ref(), &folder.join(TAR))
                })?);
            }
            let top = top.ok_or_else(|| std::io::Error::other("A system has packages"))?;
            let (tree, place) = (top.join(TAR), folder.join(TAR));
            // The same file under two names, where the file system has that.
            fs::hard_link(&tree, &place).or_else(|_| fs::copy(&tree, &place).map(|_| ()))?;
            Ok(())
        })
    }

    /// What a set depends on: its packages, what is below, and how dpkg was told to unpack.
    fn set_key(&self, set: &PackageSet, below: Option<&Files>) -> Outcome<Key, H> {
        self.set_key_on(set, below.map(Files::identity))
    }

    fn set_key_on(&self, set: &PackageSet, below: Option<&[u8]>) -> Outcome<Key, H> {
        let mut key = self.key("package-set");
        self.add_tools(&mut key)?;
        key.add("below", below.unwrap_or_default());
        for package in &set.packages {
            key.add("package", package.sha256.as_bytes());
        }
        key.add("time", &set.source_date.to_le_bytes());
        key.add("suite", format!("{:?}", self.recipe.body.distribution).as_bytes());
        self.add_rules(&mut key);
        key.add("commands", format!("{:?}", set.commands).as_bytes());
        Ok(key)
    }

    /// What the recipe and those below it leave out, which dpkg does not even unpack.
    fn add_rules(&self, key: &mut Key) {
        for layer in self.recipe.layers() {
            let body = &layer.body;
            key.add("rules", format!("{:?} {:?}", body.exclude, body.keep).as_bytes());
        }
    }

    /// Installs a set, on the files of those below if there are any.
    fn install(
        &self,
        step: StepOf<'_, H>,
        set: &PackageSet,
        below: Option<&Lower<'_>>,
        tar: &Path,
    ) -> Outcome<(), H> {
        let (recipe, arch) = (self.recipe, self.arch);
        self.run_with(step, |folder, installer| {
            rootfs::lay_out(&set.packages, recipe, arch, self.store, folder)?;
            let Some(below) = below else {
                return Ok(rootfs::install(set, recipe, arch, installer, folder, tar));
            };
            below.put_tar(&folder.join(rootfs::BASE_TAR))?;
            Ok(rootfs::install_over(set, recipe, arch, installer, folder, tar))
        })
    }

    /// Alpine's packages: unpacked by us into an empty tree or that of `below`, then configured.
    fn configure(&self, step: StepOf<'_, H>, below: Option<&Files>, tar: &Path) -> Outcome<(), H> {
        let time = self.lock.source_date;
        let tree = below.map_or_else(|| Ok(Tree::new(time)), |below| below.tree(time))?;
        let tree = apk::lay_out(self.base, self.lock, self.recipe, self.store, tree)?;
        self.run_with(step, |folder, installer| {
            tree.write_tar(&folder.join(rootfs::BASE_TAR))?;
            let all = PackageSet::whole(self.lock, self.recipe);
            Ok(rootfs::configure(&all, self.arch, installer, folder, tar))
        })
    }

    /// What the tree of Alpine's packages depends on besides those.
    fn add_apk(&self, key: &mut Key) -> Outcome<(), H> {
        key.add("world", format!("{:?}", self.recipe.body.packages).as_bytes());
        self.add_tools(key)
    }

    /// The host's programs, once those that can be installed are there.
    fn add_tools(&self, key: &mut Key) -> Outcome<(), H> {
        self.host.install(PACKAGES)?;
        tools::add(key, TOOLS);
        Ok(())
    }

    /// Runs the command that `make` gives for a folder that it may fill.
    fn run_with(
        &self,
        step: StepOf<'_, H>,
        make: impl FnOnce(&Path, &rootfs::Installer) -> Result<duct::Expression, Error>,
    ) -> Outcome<(), H> {
        let (mode, lacking) = rootfs::install_mode(self.options.ownership)?;
        if !self.host.install(lacking)? && !lacking.is_empty() {
            let tried = vec![format!("{} (its programs are not installed)", mode.describe())];
            let hint = format!("install {}", lacking.join(" and "));
            return Err(Error::Root(RootError::NoInstallMode { tried, hint }).into());
        }
        let installer = rootfs::Installer { mode, runner: self.host.runner(self.arch)? };
        self.host.line(&format!("    root file system: {}", installer.describe()));
        let folder = beside(&std::env::temp_dir())?;
        let command = make(folder.path(), &installer)?;
        rootfs::share(folder.path())?;
        step.run("mmdebstrap", command).map_err(|failure| self.host.not_installed(mode, failure))
    }
}

/// What a set is installed on.
enum Lower<'a> {
    /// The entry of the set below.
    PackageSet(PathBuf),
    /// The layer below.
    Layer(&'a Files),
}

impl Lower<'_> {
    fn identity(&self) -> &[u8] {
        match self {
            Self::PackageSet(entry) => name_of(entry),
            Self::Layer(files) => files.identity(),
        }
    }

    fn put_tar(&self, place: &Path) -> Result<(), Error> {
        match self {
            // A copy: what is kept may lie where other users may not look.
            Self::PackageSet(entry) => Ok(fs::copy(entry.join(TAR), place).map(|_| ())?),
            Self::Layer(files) => files.put_tar(place),
        }
    }
}
