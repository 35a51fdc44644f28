//! The stages that make the packages' files: each tier of them is an entry of the build cache, so that
//! a package that changed is installed anew with its own tier and those above, and no more.

use super::{
    emulator,
    stages::{Baker, TREE, name_of},
};
use crate::{
    cache::Key,
    setup,
    ui::{Step, hinted},
};
use anyhow::{Context as _, Result};
use fs_err as fs;
use image_builder::{
    apk, beside,
    recipe::{DistributionName, Method},
    rootfs,
    tiers::{self, Tier},
    tree::Tree,
};
use std::path::{Path, PathBuf};

/// What makes root file systems. A way of making them may need more.
pub const PACKAGES: &[&str] = &["mmdebstrap"];

/// The file of an entry.
pub const TAR: &str = "rootfs.tar";

/// The code that makes root file systems. What splits them into tiers is not in here: its outcome is.
const SOURCES: &[&str] = &[
    "deb.rs",
    "foreign.rs",
    "ownership.rs",
    "ownership/call.rs",
    "ownership/filter.rs",
    "ownership/keeper.rs",
    "ownership/target.rs",
    "rootfs.rs",
    "tree.rs",
    "tree/archive.rs",
    "tree/tar.rs",
];

impl Baker<'_> {
    /// The packages' files as a tar.
    pub fn rootfs(&self) -> Result<PathBuf> {
        let mut key = self.key("rootfs", SOURCES)?;
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
            (_, Method::Install) => self.tiers(&key, None),
        }
    }

    /// The same with the packages of an overlay in the tree of the image below, whose entry is `below`.
    pub fn install_over(&self, below: &Path) -> Result<PathBuf> {
        let all = Tier::whole(self.lock, self.recipe);
        let mut key = self.tier_key(&all, Some(below))?;
        key.add("fragments", format!("{:?}", self.recipe.body.fragment_packages).as_bytes());
        if self.recipe.body.distribution.name != DistributionName::Alpine {
            return self.tiers(&key, Some(below));
        }
        self.add_apk(&mut key)?;
        let title = format!("Install the packages of {}", self.recipe.name);
        self.stage("rootfs", &key, &title, |step, folder| {
            self.configure(step, Some(&below.join(TREE)), &folder.join(TAR))
        })
    }

    /// The entry of this key, with the packages installed tier upon tier.
    fn tiers(&self, key: &Key, below: Option<&Path>) -> Result<PathBuf> {
        self.entry("rootfs", key, |folder| {
            let time = self.base.iter().map(|lock| lock.source_date).max().unwrap_or_default();
            let tiers = tiers::split(self.lock, self.recipe, self.pool, time)?;
            let mut top = below.map(|entry| (entry.to_owned(), entry.join(TREE)));
            for (number, tier) in tiers.iter().enumerate() {
                let name = &self.recipe.name;
                let title = match tiers.len() {
                    1 => format!("Install the packages of {name}"),
                    n => format!("Install the packages of {name} ({} of {n})", number + 1),
                };
                let key = self.tier_key(tier, top.as_ref().map(|(entry, _)| entry.as_path()))?;
                let entry = self.stage("tier", &key, &title, |step, folder| {
                    let tree = top.as_ref().map(|(_, tree)| tree.as_path());
                    self.install(step, tier, tree, &folder.join(TAR))
                })?;
                top = Some((entry.clone(), entry.join(TAR)));
            }
            let (_, tree) = top.context("A system has packages")?;
            let place = folder.join(TAR);
            // The same file under two names, where the file system has that.
            fs::hard_link(&tree, &place).or_else(|_| fs::copy(&tree, &place).map(|_| ()))?;
            Ok(())
        })
    }

    /// What a tier depends on: its packages, what is below, and how dpkg was told to unpack.
    fn tier_key(&self, tier: &Tier, below: Option<&Path>) -> Result<Key> {
        let mut key = self.key("tier", SOURCES)?;
        key.add("below", below.map_or(&[], name_of));
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

    /// Installs a tier, on the tree of those below if there are any.
    fn install(&self, step: &Step, tier: &Tier, below: Option<&Path>, tar: &Path) -> Result<()> {
        let (recipe, arch) = (self.recipe, self.arch);
        self.run_with(step, |folder, means| {
            rootfs::lay_out(&tier.packages, recipe, arch, self.pool, folder)?;
            let Some(below) = below else {
                return Ok(rootfs::install(tier, recipe, arch, means, folder, tar));
            };
            // The cache may lie below a private home folder.
            fs::copy(below, folder.join(rootfs::BASE_TAR))?;
            Ok(rootfs::install_over(tier, recipe, arch, means, folder, tar))
        })
    }

    /// Alpine's packages: unpacked by us into an empty tree or that of `below`, then configured.
    fn configure(&self, step: &Step, below: Option<&Path>, tar: &Path) -> Result<()> {
        let mut tree = Tree::new(self.lock.source_date);
        if let Some(below) = below {
            tree.add_tar_file(below)?;
        }
        let tree = apk::lay_out(self.base, self.lock, self.recipe, self.pool, tree)?;
        self.run_with(step, |folder, means| {
            tree.write_tar(&folder.join(rootfs::BASE_TAR))?;
            let all = Tier::whole(self.lock, self.recipe);
            Ok(rootfs::configure(&all, self.arch, means, folder, tar))
        })
    }

    /// What the tree of Alpine's packages depends on besides those.
    fn add_apk(&self, key: &mut Key) -> Result<()> {
        key.add("world", format!("{:?}", self.recipe.body.packages).as_bytes());
        for source in ["apk/install.rs", "apk/package.rs"] {
            key.add_file(&self.context.root.join("crates/image-builder/src").join(source))?;
        }
        Ok(())
    }

    /// Runs the command that `make` gives for a folder that it may fill.
    fn run_with(
        &self,
        step: &Step,
        make: impl FnOnce(&Path, &rootfs::Means) -> Result<duct::Expression>,
    ) -> Result<()> {
        let (way, lacking) = rootfs::way(self.args.ownership)?;
        let packages = [PACKAGES, lacking].concat();
        setup::ensure_packages(self.context, &packages)?;
        let means = rootfs::Means { way, runner: emulator::runner(self.context, self.arch)? };
        self.context.ui.line(&format!("    root file system: {}", means.describe()));
        let folder = beside(&std::env::temp_dir())?;
        let command = make(folder.path(), &means)?;
        rootfs::share(folder.path())?;
        step.run(command).map_err(|error| match way.hint() {
            None => error,
            Some(hint) => hinted(format!("{error:#}"), hint),
        })
    }
}
