//! The stages that make the packages' files: each tier of them is an entry of the build cache, so that
//! a package that changed is installed anew with its own tier and those above, and no more.

use super::{
    Files, Host, Outcome, StepOf,
    stages::{Baker, name_of},
};
use crate::{
    Error, apk, beside,
    recipe::{DistributionName, Method},
    rootfs,
    tiers::{self, Tier},
    tree::Tree,
};
use cache_key::{Key, tools};
use fs_err as fs;
use std::path::{Path, PathBuf};

/// What makes root file systems. A way of making them may need more.
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
                Ok(rootfs::unpack(self.lock, self.pool)?.write_tar(&folder.join(TAR))?)
            }),
            (_, Method::Install) => {
                self.add_tools(&mut key)?;
                self.tiers(&key, None, true)
            }
        }
    }

    /// The same with the packages of an overlay in the tree of what is below: tier upon tier, where the lock
    /// holds all that tells them apart.
    pub(super) fn install_over(&self, below: &Files, in_tiers: bool) -> Outcome<PathBuf, H> {
        let title = format!("Install the packages of {}", self.recipe.name);
        let body = &self.recipe.body;
        if !in_tiers && self.lock.package.is_empty() && body.commands.is_empty() {
            let mut key = self.key("rootfs");
            key.add("below", below.identity());
            return self.entry("rootfs", &key, |folder| Ok(below.put_tar(&folder.join(TAR))?));
        }
        let all = Tier::whole(self.lock, self.recipe);
        let mut key = self.tier_key(&all, Some(below))?;
        key.add("fragments", format!("{:?}", body.fragment_packages).as_bytes());
        if body.distribution.name != DistributionName::Alpine {
            return self.tiers(&key, Some(below), in_tiers);
        }
        self.add_apk(&mut key)?;
        self.stage("rootfs", &key, &title, |step, folder| {
            self.configure(step, Some(below), &folder.join(TAR))
        })
    }

    /// The entry of this key, with the packages installed tier upon tier, or all at once.
    fn tiers(&self, key: &Key, below: Option<&Files>, in_tiers: bool) -> Outcome<PathBuf, H> {
        self.entry("rootfs", key, |folder| {
            let time = self.base.iter().map(|lock| lock.source_date).max().unwrap_or_default();
            let tiers = match in_tiers {
                true => tiers::split(self.lock, self.recipe, self.pool, time)?,
                false => vec![Tier::whole(self.lock, self.recipe)],
            };
            let mut top: Option<PathBuf> = None;
            for (number, tier) in tiers.iter().enumerate() {
                let name = &self.recipe.name;
                let title = match tiers.len() {
                    1 => format!("Install the packages of {name}"),
                    n => format!("Install the packages of {name} ({} of {n})", number + 1),
                };
                let lower = top.take().map(Lower::Tier);
                let lower = lower.or(below.map(Lower::Layer));
                let key = self.tier_key_on(tier, lower.as_ref().map(Lower::identity))?;
                top = Some(self.stage("tier", &key, &title, |step, folder| {
                    self.install(step, tier, lower.as_ref(), &folder.join(TAR))
                })?);
            }
            let top = top.ok_or_else(|| std::io::Error::other("A system has packages"))?;
            let (tree, place) = (top.join(TAR), folder.join(TAR));
            // The same file under two names, where the file system has that.
            fs::hard_link(&tree, &place).or_else(|_| fs::copy(&tree, &place).map(|_| ()))?;
            Ok(())
        })
    }

    /// What a tier depends on: its packages, what is below, and how dpkg was told to unpack.
    fn tier_key(&self, tier: &Tier, below: Option<&Files>) -> Outcome<Key, H> {
        self.tier_key_on(tier, below.map(Files::identity))
    }

    fn tier_key_on(&self, tier: &Tier, below: Option<&[u8]>) -> Outcome<Key, H> {
        let mut key = self.key("tier");
        self.add_tools(&mut key)?;
        key.add("below", below.unwrap_or_default());
        for package in &tier.packages {
            key.add("package", package.sha256.as_bytes());
        }
        key.add("time", &tier.source_date.to_le_bytes());
        key.add("suite", format!("{:?}", self.recipe.body.distribution).as_bytes());
        self.add_rules(&mut key);
        key.add("commands", format!("{:?}", tier.commands).as_bytes());
        Ok(key)
    }

    /// What the recipe and those below it leave out, which dpkg does not even unpack.
    fn add_rules(&self, key: &mut Key) {
        for layer in self.recipe.layers() {
            let body = &layer.body;
            key.add("rules", format!("{:?} {:?}", body.exclude, body.keep).as_bytes());
        }
    }

    /// Installs a tier, on the files of those below if there are any.
    fn install(
        &self,
        step: StepOf<'_, H>,
        tier: &Tier,
        below: Option<&Lower<'_>>,
        tar: &Path,
    ) -> Outcome<(), H> {
        let (recipe, arch) = (self.recipe, self.arch);
        self.run_with(step, |folder, means| {
            rootfs::lay_out(&tier.packages, recipe, arch, self.pool, folder)?;
            let Some(below) = below else {
                return Ok(rootfs::install(tier, recipe, arch, means, folder, tar));
            };
            below.put_tar(&folder.join(rootfs::BASE_TAR))?;
            Ok(rootfs::install_over(tier, recipe, arch, means, folder, tar))
        })
    }

    /// Alpine's packages: unpacked by us into an empty tree or that of `below`, then configured.
    fn configure(&self, step: StepOf<'_, H>, below: Option<&Files>, tar: &Path) -> Outcome<(), H> {
        let time = self.lock.source_date;
        let tree = below.map_or_else(|| Ok(Tree::new(time)), |below| below.tree(time))?;
        let tree = apk::lay_out(self.base, self.lock, self.recipe, self.pool, tree)?;
        self.run_with(step, |folder, means| {
            tree.write_tar(&folder.join(rootfs::BASE_TAR))?;
            let all = Tier::whole(self.lock, self.recipe);
            Ok(rootfs::configure(&all, self.arch, means, folder, tar))
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
        make: impl FnOnce(&Path, &rootfs::Means) -> Result<duct::Expression, Error>,
    ) -> Outcome<(), H> {
        let (way, lacking) = rootfs::way(self.options.ownership)?;
        if !self.host.install(lacking)? && !lacking.is_empty() {
            let tried = vec![format!("{} (its programs are not installed)", way.describe())];
            let hint = format!("install {}", lacking.join(" and "));
            return Err(Error::NoWay { tried, hint }.into());
        }
        let means = rootfs::Means { way, runner: self.host.runner(self.arch)? };
        self.host.line(&format!("    root file system: {}", means.describe()));
        let folder = beside(&std::env::temp_dir())?;
        let command = make(folder.path(), &means)?;
        rootfs::share(folder.path())?;
        step.run("mmdebstrap", command).map_err(|failure| self.host.not_installed(way, failure))
    }
}

/// What a tier is installed on.
enum Lower<'a> {
    /// The entry of the tier below.
    Tier(PathBuf),
    /// The layer below.
    Layer(&'a Files),
}

impl Lower<'_> {
    fn identity(&self) -> &[u8] {
        match self {
            Self::Tier(entry) => name_of(entry),
            Self::Layer(files) => files.identity(),
        }
    }

    fn put_tar(&self, place: &Path) -> Result<(), Error> {
        match self {
            // A copy: what is kept may lie where other users may not look.
            Self::Tier(entry) => Ok(fs::copy(entry.join(TAR), place).map(|_| ())?),
            Self::Layer(files) => files.put_tar(place),
        }
    }
}
