//! Whoever bakes without this repository: everything that is made goes into one folder, which goes with the
//! bake, and what was fetched is kept in the user's cache. Programs of the host are the person's to install.

use super::Options;
use crate::{
    Error,
    bake::{Agent, Host, Step, StepOf},
    foreign::Runner,
    recipe::Wheel,
    rootfs::Way,
};
use cache_key::Key;
use duct::Expression;
use fs_err as fs;
use host_platform::Arch;
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// How much of what a program printed is shown when it fails.
const SHOWN: usize = 2000;

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

    /// The folder with all that was made.
    pub(super) fn into_folder(self) -> tempfile::TempDir {
        self.folder
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
        work(&PlainStep::default())
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
        Err(Error::NoRunner { arch: arch.image_name() })
    }

    fn renewal(&self, _image: &str, _arch: Arch) -> String {
        super::RENEWAL.to_owned()
    }

    fn not_installed(&self, way: Way, failure: Error) -> Error {
        match failure {
            Error::Tool { source, .. } if source.kind() != io::ErrorKind::NotFound => {
                Error::Installation { way, source }
            }
            other => other,
        }
    }

    fn not_fetched(&self, wheel: &Wheel, failure: Error) -> Error {
        match failure {
            Error::Tool { source, .. } => Error::WheelNotFetched {
                name: wheel.name.clone(),
                version: wheel.version.clone(),
                source: lines_of_errors(source),
            },
            other => other,
        }
    }
}

/// A step, of which nothing is shown but its title.
#[derive(Default)]
struct PlainStep {
    printed: Mutex<String>,
}

impl Step for PlainStep {
    type Failure = Error;

    fn say(&self, _what: String) {}

    fn expect(&self, _n_total: u64) {}

    fn reach(&self, _n_done: u64) {}

    fn run(&self, program: &str, command: Expression) -> Result<(), Error> {
        let failed = |source| Error::Tool { program: program.to_owned(), source };
        let output = command
            .stdin_null()
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .map_err(failed)?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).push_str(&printed);
        if output.status.success() {
            return Ok(());
        }
        let start = printed.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
        Err(failed(io::Error::other(printed[start..].trim().to_owned())))
    }

    fn has_printed(&self, text: &str) -> bool {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).contains(text)
    }
}

/// pip's own errors, where it gives some among all that it prints.
fn lines_of_errors(said: io::Error) -> io::Error {
    let text = said.to_string();
    let errors: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("ERROR: ")).collect();
    match errors.is_empty() {
        true => said,
        false => io::Error::other(errors.join("; ")),
    }
}
