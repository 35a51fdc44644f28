//! A bake that `xtask` runs: made things are entries of the build cache, steps are shown, what is missing of
//! the host is installed, and images are booted with the QEMU that is found or built here.

use super::needs::PIP;
use crate::{cache::Key, context::Context, setup, side_by_side, ui};
use anyhow::{Error, Result};
use cache_key::code::{self, Reading};
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    bake::{Agent, Baked, Host, Prover, StepOf},
    foreign::Runner,
    rootfs::InstallMode,
};
use image_prover::Subject;
use runtime_builder::agent;
use runtime_locator::Search;
use serde_json::Value;
use std::path::{Path, PathBuf};
use xtask_host::{bake_step::Shown, emulator};

/// A bake in the build cache.
pub struct Baking<'a>(pub &'a Context);

impl Host for Baking<'_> {
    type Failure = Error;

    fn entry(
        &self,
        kind: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        self.0.cache.entry(kind, key, fill)
    }

    fn forget(&self, kind: &str, key: &Key) -> Result<()> {
        self.0.cache.forget(kind, key)
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        self.0.cache.folder(name)
    }

    fn line(&self, text: &str) {
        self.0.ui.line(text);
    }

    fn step<T>(&self, title: &str, work: impl FnOnce(StepOf<'_, Self>) -> Result<T>) -> Result<T> {
        self.0.ui.step(title, |step| work(&Shown(step)))
    }

    fn together<A: Send, B: Send, C>(
        &self,
        first: impl FnOnce() -> Result<A> + Send,
        second: impl FnOnce() -> Result<B> + Send,
        third: impl FnOnce() -> Result<C>,
    ) -> Result<(A, B, C)> {
        side_by_side::three(&self.0.ui, first, second, third)
    }

    fn is_offline(&self) -> bool {
        self.0.offline
    }

    fn install(&self, packages: &[&str]) -> Result<bool> {
        setup::ensure_packages(self.0, packages)?;
        Ok(true)
    }

    fn python(&self) -> Result<std::ffi::OsString> {
        Ok(setup::python_tools(self.0, PIP)?.join("python").into_os_string())
    }

    fn runner(&self, arch: Arch) -> Result<Runner> {
        emulator::runner(self.0, arch)
    }

    fn agent(&self, arch: Arch) -> Result<Agent> {
        agent::agent(self.0, arch)
    }

    fn renewal(&self, image: &str, arch: Arch) -> String {
        format!("cargo xtask bake {image} --arch {} --update", arch.image_name())
    }

    fn not_installed(&self, mode: InstallMode, failure: Error) -> Error {
        match mode.hint() {
            None => failure,
            Some(hint) => ui::hinted(format!("{failure:#}"), hint),
        }
    }

    fn hint(&self, failure: &Error) -> Option<String> {
        failure.chain().find_map(|it| it.downcast_ref::<image_builder::Error>()?.hint())
    }
}

impl Prover<Error> for Baking<'_> {
    fn identity(&self, arch: Arch) -> Result<Vec<u8>> {
        let code = code::digest(&self.0.root, &["image-prover"], Reading::Meaning)?;
        let qemu = runtime_locator::find_qemu(&search(self.0, arch)?, arch)?;
        Ok([code.into_bytes(), fs::read(&qemu.system)?].concat())
    }

    fn prove(&self, baked: &Baked, images: &Path, say: &dyn Fn(String)) -> Result<Value> {
        let subject = Subject::from_recipe(&baked.recipe, baked.arch)?;
        Ok(image_prover::prove_in(images, &subject, search(self.0, baked.arch)?, say)?)
    }
}

/// Finds QEMU where everybody looks for it, else the one that is built here.
fn search(context: &Context, arch: Arch) -> Result<Search> {
    let mut search = Search { image_path: Vec::new(), ..Search::from_process(Vec::new()) };
    if runtime_locator::find_qemu(&search, arch).is_err() {
        search.qemu_dir = Some(qemu_builder::bundle_for(context, arch)?.0.join("bin"));
    }
    Ok(search)
}
