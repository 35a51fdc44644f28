//! A bake that `xtask` runs: made things are entries of the build cache, steps are shown, what is missing of
//! the host is installed.

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
    bake::{Agent, Host, Step, StepOf},
    foreign::Runner,
    rootfs::Way,
};
use runtime_builder::agent;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};
use xtask_host::emulator;

/// What makes an environment that has pip.
pub const PIP: &[&str] = &["wheel==0.48.0", "packaging==26.3"];

/// A bake in the build cache.
pub struct Baking<'a>(pub &'a Context);

/// A step of one.
struct Shown<'a>(&'a ui::Step<'a>);

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

    fn python(&self) -> Result<OsString> {
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

impl Step for Shown<'_> {
    type Failure = Error;

    fn say(&self, what: String) {
        self.0.say(what);
    }

    fn expect(&self, n_total: u64) {
        self.0.expect(n_total);
    }

    fn reach(&self, n_done: u64) {
        self.0.reach(n_done);
    }

    fn run(&self, _program: &str, command: Expression) -> Result<()> {
        self.0.run(command)
    }

    fn has_printed(&self, text: &str) -> bool {
        self.0.has_printed(text)
    }
}
