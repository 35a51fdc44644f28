//! What a bake asks of whoever runs it: where made things are kept, who hears how far it is, and what the
//! host has. `cargo xtask bake` answers with its build cache, `quicksand dev bake` with a folder.

use super::Agent;
use crate::{Error, foreign::Runner, recipe::Wheel, rootfs::InstallMode};
use cache_key::Key;
use duct::Expression;
use host_platform::Arch;
use std::{
    ffi::OsString,
    fmt::Display,
    io,
    path::{Path, PathBuf},
};

/// What comes of a part of a bake that `H` runs.
pub type Outcome<T, H> = Result<T, <H as Host>::Failure>;

/// One step while it runs.
pub type StepOf<'a, H> = &'a dyn Step<<H as Host>::Failure>;

/// Whoever runs a bake.
pub trait Host: Sync {
    /// Its own errors.
    type Failure: Display + From<Error> + From<disk_formats::Error> + From<io::Error> + Send;

    /// The entry `kind/key` of what is kept, made by `fill` in an empty folder when it is absent.
    ///
    /// # Errors
    /// Those of `fill`, and of the folder.
    fn entry(
        &self,
        kind: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Outcome<(), Self>,
    ) -> Outcome<PathBuf, Self>;

    /// Removes an entry, so that it is made again.
    ///
    /// # Errors
    /// It cannot be removed.
    fn forget(&self, kind: &str, key: &Key) -> Outcome<(), Self>;

    /// A folder that stays between bakes, such as that of what apt fetched.
    ///
    /// # Errors
    /// It cannot be made.
    fn folder(&self, name: &str) -> Outcome<PathBuf, Self>;

    /// One line of news.
    fn line(&self, text: &str);

    /// Runs one step under a title.
    ///
    /// # Errors
    /// Those of `work`.
    fn step<T>(
        &self,
        title: &str,
        work: impl FnOnce(StepOf<'_, Self>) -> Outcome<T, Self>,
    ) -> Outcome<T, Self>;

    /// Runs three parts of which none needs another.
    ///
    /// # Errors
    /// That of the first that fails.
    fn together<A: Send, B: Send, C>(
        &self,
        first: impl FnOnce() -> Outcome<A, Self> + Send,
        second: impl FnOnce() -> Outcome<B, Self> + Send,
        third: impl FnOnce() -> Outcome<C, Self>,
    ) -> Outcome<(A, B, C), Self> {
        Ok((first()?, second()?, third()?))
    }

    /// Whether nothing may be fetched.
    fn is_offline(&self) -> bool {
        false
    }

    /// Installs what is missing of these packages of the host's distribution; `false` where the person must
    /// do that.
    ///
    /// # Errors
    /// They cannot be installed.
    fn install(&self, packages: &[&str]) -> Outcome<bool, Self>;

    /// A Python whose pip fetches wheels: a path, or a word that is looked for in `PATH`.
    ///
    /// # Errors
    /// There is none and none can be made.
    fn python(&self) -> Outcome<OsString, Self>;

    /// What runs programs of this architecture.
    ///
    /// # Errors
    /// This host cannot run them.
    fn runner(&self, arch: Arch) -> Outcome<Runner, Self>;

    /// The guest agent.
    ///
    /// # Errors
    /// It cannot be built.
    fn agent(&self, arch: Arch) -> Outcome<Agent, Self>;

    /// The command that renews the lock of an image.
    fn renewal(&self, image: &str, arch: Arch) -> String;

    /// What to say when pip could not fetch a wheel.
    fn not_fetched(&self, _wheel: &Wheel, failure: Self::Failure) -> Self::Failure {
        failure
    }

    /// What to say when packages could not be installed in this mode.
    fn not_installed(&self, mode: InstallMode, failure: Self::Failure) -> Self::Failure;

    /// What a failure advises, where it advises anything.
    fn hint(&self, failure: &Self::Failure) -> Option<String>;
}

/// One step of a bake while it runs; `F` are the errors of whoever runs the bake.
pub trait Step<F>: Sync {
    /// Says what is being done now.
    fn say(&self, what: String);

    /// Says how many units of work are done, and how many there are.
    fn progress(&self, n_done: u64, n_total: u64);

    /// Runs a command, called `program` where nothing else is known of it.
    ///
    /// # Errors
    /// It cannot be started, or ends with another code than 0.
    fn run(&self, program: &str, command: Expression) -> Result<(), F>;

    /// Whether a command of this step has printed this.
    fn has_printed(&self, text: &str) -> bool;
}
