//! A step of which nothing is shown but its title: what its commands print is kept, for the error of one that fails,
//! which says what failed in the words of this program.

use crate::{Error, RootError, StoreError, bake::Step, recipe::Wheel, rootfs::InstallMode};
use duct::Expression;
use std::{
    io,
    sync::{Mutex, PoisonError},
};

/// How much of what a program printed is shown when it fails.
const SHOWN: usize = 2000;

#[derive(Default)]
pub(super) struct QuietStep {
    printed: Mutex<String>,
}

impl Step<Error> for QuietStep {
    fn say(&self, _what: String) {}

    fn progress(&self, _n_done: u64, _n_total: u64) {}

    fn run(&self, program: &str, command: Expression) -> Result<(), Error> {
        let failed = |source| Error::Root(RootError::Tool { program: program.to_owned(), source });
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

/// The failure of a tool that installs packages in this mode.
pub(super) fn not_installed(mode: InstallMode, failure: Error) -> Error {
    match failure {
        Error::Root(RootError::Tool { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
            Error::Root(RootError::Installation { mode, source })
        }
        other => other,
    }
}

/// The failure of the pip that fetches a wheel.
pub(super) fn not_fetched(wheel: &Wheel, failure: Error) -> Error {
    match failure {
        Error::Root(RootError::Tool { source, .. }) => Error::Store(StoreError::WheelNotFetched {
            name: wheel.name.clone(),
            version: wheel.version.clone(),
            source: lines_of_errors(source),
        }),
        other => other,
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
