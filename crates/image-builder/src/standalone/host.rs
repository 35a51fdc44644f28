//! Whoever bakes without this repository: everything that is made goes into one folder, which goes with the
//! bake, and what was fetched is kept in the user's cache. Programs of the host are the person's to install.

use super::{
    Options,
    step::{self, QuietStep},
};
use crate::{
    Error, RootError,
    bake::{Agent, Host, StepOf},
    foreign::Runner,
    recipe::Wheel,
    rootfs::InstallMode,
};
use cache_key::Key;
use fs_err as fs;
use host_platform::Arch;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The one who bakes.
pub(super) struct Plain<'a> {
    options: &'a Options<'a>,
    folder: tempfile::TempDir,
}

impl<'a> Plain<'a> {
    /// Makes everything in `folder`.
    pub(super) fn new(options: &'a Options<'a>, folder: tempfile::TempDir) -> Self {
        Self { options, folder }
    }
}

impl Host for Plain<'_> {
    type Failure = Error;

    fn entry(
        &self,
        kind: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let place = self.folder.path().join(kind).join(key.digest());
        if !place.is_dir() {
            fs::create_dir_all(&place)?;
            fill(&place)?;
        }
        Ok(place)
    }

    fn forget(&self, kind: &str, key: &Key) -> Result<(), Error> {
        let place = self.folder.path().join(kind).join(key.digest());
        if place.is_dir() {
            fs::remove_dir_all(place)?;
        }
        Ok(())
    }

    fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.options.cache.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn line(&self, text: &str) {
        (self.options.say)(text.trim_start());
    }

    fn step<T>(
        &self,
        title: &str,
        work: impl FnOnce(StepOf<'_, Self>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        (self.options.say)(title);
        work(&QuietStep::default())
    }

    fn install(&self, _packages: &[&str]) -> Result<bool, Error> {
        Ok(false)
    }

    fn python(&self) -> Result<OsString, Error> {
        Ok(self.options.python.to_owned())
    }

    fn runner(&self, arch: Arch) -> Result<Runner, Error> {
        Runner::ready(arch)
    }

    fn agent(&self, arch: Arch) -> Result<Agent, Error> {
        // The initrd of an installed image holds it.
        Err(Error::Root(RootError::NoRunner { arch: arch.image_name() }))
    }

    fn renewal(&self, _image: &str, _arch: Arch) -> String {
        super::RENEWAL.to_owned()
    }

    fn hint(&self, failure: &Error) -> Option<String> {
        failure.hint()
    }

    fn not_installed(&self, mode: InstallMode, failure: Error) -> Error {
        step::not_installed(mode, failure)
    }

    fn not_fetched(&self, wheel: &Wheel, failure: Error) -> Error {
        step::not_fetched(wheel, failure)
    }
}
