//! A bake that `xtask` runs: made things are entries of the build cache, steps are shown, what is missing of
//! the host is installed.

use super::{agent, emulator};
use crate::{
    cache::Key,
    context::Context,
    setup, side_by_side,
    ui::{self, hinted},
};
use anyhow::{Error, Result};
use duct::Expression;
use host_platform::Arch;
use image_builder::{
    bake::{Host, Step, StepOf},
    foreign::Runner,
    rootfs::Way,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What makes an environment that has pip.
pub const PIP: &[&str] = &["wheel==0.48.0", "packaging==26.3"];

impl Host for Context {
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
        self.ui.step(title, |step| work(step))
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
        self.offline
    }

    fn install(&self, packages: &[&str]) -> Result<bool> {
        setup::ensure_packages(self, packages)?;
        Ok(true)
    }

    fn python(&self) -> Result<OsString> {
        Ok(setup::python_tools(self, PIP)?.join("python").into_os_string())
    }

    fn runner(&self, arch: Arch) -> Result<Runner> {
        emulator::runner(self, arch)
    }

    fn agent(&self, arch: Arch) -> Result<PathBuf> {
        agent::binary(self, arch)
    }

    fn renewal(&self, image: &str, arch: Arch) -> String {
        format!("cargo xtask bake {image} --arch {} --update", arch.image_name())
    }

    fn not_installed(&self, way: Way, failure: Error) -> Error {
        match way.hint() {
            None => failure,
            Some(hint) => hinted(format!("{failure:#}"), hint),
        }
    }

    fn no_lock(&self, image: &str, arch: Arch, failure: Error) -> Error {
        let is_builders = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<image_builder::Error>()?.hint()
        };
        let cause = failure.chain().find_map(is_builders);
        let hint = cause.map(|hint| format!("{hint}; then: ")).unwrap_or_default();
        hinted(
            format!(
                "`{image}` has no lock for {} yet, and none could be made: {failure:#}",
                arch.image_name()
            ),
            format!("{hint}{}", self.renewal(image, arch)),
        )
    }
}

impl Step for ui::Step<'_> {
    type Failure = Error;

    fn say(&self, what: String) {
        self.say(what);
    }

    fn expect(&self, n_total: u64) {
        self.expect(n_total);
    }

    fn reach(&self, n_done: u64) {
        self.reach(n_done);
    }

    fn run(&self, _program: &str, command: Expression) -> Result<()> {
        self.run(command)
    }

    fn has_printed(&self, text: &str) -> bool {
        self.has_printed(text)
    }
}
