//! Whoever runs these bakes: they are kept in a build cache as those of the tasks are, and nothing is installed
//! on the host, compiled or booted.

use anyhow::{Error, Result};
use cache_key::Key;
use host_platform::Arch;
use image_builder::{
    bake::{Agent, Host, StepOf},
    foreign::Runner,
    rootfs::InstallMode,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};
use xtask_base::{cache::Cache, side_by_side, ui::Ui};
use xtask_host::bake_step::Shown;

/// A bake in a build cache.
pub struct Baking {
    pub cache: Cache,
    ui: Ui,
    is_offline: bool,
}

impl Baking {
    /// One whose packages and wheels were all fetched before.
    pub fn offline(cache: &Path) -> Result<Self> {
        let cache = Cache::at(cache)?;
        let ui = Ui::new(cache.logs());
        Ok(Self { cache, ui, is_offline: true })
    }

    /// One that may ask the mirrors that its environment names.
    pub fn online(cache: &Path) -> Result<Self> {
        Ok(Self { is_offline: false, ..Self::offline(cache)? })
    }
}

impl Host for Baking {
    type Failure = Error;

    fn entry(
        &self,
        kind: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        self.cache.entry(kind, key, fill)
    }

    fn forget(&self, kind: &str, key: &Key) -> Result<()> {
        self.cache.forget(kind, key)
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        self.cache.folder(name)
    }

    fn line(&self, text: &str) {
        self.ui.line(text);
    }

    fn step<T>(&self, title: &str, work: impl FnOnce(StepOf<'_, Self>) -> Result<T>) -> Result<T> {
        self.ui.step(title, |step| work(&Shown(step)))
    }

    fn together<A: Send, B: Send, C>(
        &self,
        first: impl FnOnce() -> Result<A> + Send,
        second: impl FnOnce() -> Result<B> + Send,
        third: impl FnOnce() -> Result<C>,
    ) -> Result<(A, B, C)> {
        side_by_side::three(&self.ui, first, second, third)
    }

    fn is_offline(&self) -> bool {
        self.is_offline
    }

    fn install(&self, _packages: &[&str]) -> Result<bool> {
        Ok(false)
    }

    fn python(&self) -> Result<OsString> {
        Ok("python3".into())
    }

    fn runner(&self, arch: Arch) -> Result<Runner> {
        Ok(Runner::ready(arch)?)
    }

    fn agent(&self, _arch: Arch) -> Result<Agent> {
        anyhow::bail!("a test gives the agent with its options")
    }

    fn renewal(&self, image: &str, _arch: Arch) -> String {
        format!("renew {image}")
    }

    fn not_installed(&self, _mode: InstallMode, failure: Error) -> Error {
        failure
    }

    fn hint(&self, _failure: &Error) -> Option<String> {
        None
    }
}
