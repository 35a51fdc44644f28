//! The proof by boot of an image that was just baked: the agent answers, and the checks pass.
//!
//! `image-builder` says what is asked of an image and `sandbox` runs it; they must not know each other, so both
//! meet here, for `cargo xtask bake` and `quicksand dev bake` alike. It must not know where the image comes from
//! nor where the report goes.

use host_platform::Arch;
use image_builder::{
    proof::{self, Answer, Boot, InUse},
    recipe::{Check, Defaults, Recipe},
};
use runtime_locator::Search;
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::Value;
use std::{collections::BTreeMap, io, path::Path, time::Duration};

/// How long a command may take on a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(120);

/// The image that is proved.
pub struct Subject<'a> {
    /// Its name, under which `search` finds it.
    pub name: &'a str,
    /// The architecture of its machine.
    pub arch: Arch,
    /// What its recipe gives a machine by default.
    pub defaults: &'a Defaults,
    /// The recipe's own checks.
    pub checks: &'a BTreeMap<String, Check>,
    /// What users do with such an image.
    pub in_use: InUse,
    /// The processors of a machine whose recipe names none.
    pub n_cpus: u16,
}

impl<'a> Subject<'a> {
    /// The image of a recipe, with all that is known of how such images are used.
    ///
    /// # Errors
    /// What users do with it cannot be put together.
    pub fn from_recipe(recipe: &'a Recipe, arch: Arch) -> Result<Self, image_builder::Error> {
        // The distribution's init starts its services side by side, and the host has little else to do
        // at the end of a bake.
        let is_free = std::thread::available_parallelism().is_ok_and(|n_host| n_host.get() > 1);
        Ok(Self {
            name: &recipe.name,
            arch,
            defaults: &recipe.body.defaults,
            checks: &recipe.body.checks,
            in_use: InUse::from_recipe(recipe)?,
            n_cpus: if is_free { 2 } else { 1 },
        })
    }

    /// The same of a recipe of which no more is known than that it lies on an image.
    ///
    /// # Errors
    /// As [`Subject::from_recipe`].
    pub fn from_any_recipe(recipe: &'a Recipe, arch: Arch) -> Result<Self, image_builder::Error> {
        Ok(Self {
            name: &recipe.name,
            arch,
            defaults: &recipe.body.defaults,
            checks: &recipe.body.checks,
            in_use: InUse::any()?,
            n_cpus: 1,
        })
    }
}

/// Why an image is not proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine does not start, or not stop.
    #[error(transparent)]
    Machine(#[from] Box<sandbox::Error>),

    /// A check failed.
    #[error(transparent)]
    Check(#[from] image_builder::Error),

    /// Without a shell no sandbox is of use, whatever the recipe checks.
    #[error("The image cannot run commands: {output}")]
    NoShell {
        /// What the attempt printed.
        output: String,
    },

    /// A command could not be run at all.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Machine(error) => error.hint(),
            Self::Check(error) => error.hint(),
            Self::NoShell { .. } => {
                Some("commands are run by /bin/sh, which the root file system must have".to_owned())
            }
            Self::Io(_) => None,
        }
    }
}

impl From<sandbox::Error> for Error {
    fn from(error: sandbox::Error) -> Self {
        Self::Machine(Box::new(error))
    }
}

/// Boots the image and gives the report; `say` hears what is done, and the console where a check failed.
///
/// # Errors
/// The machine does not start, or a check fails.
pub fn prove(subject: &Subject<'_>, search: Search, say: &dyn Fn(String)) -> Result<Value, Error> {
    let Subject { name, arch, defaults, checks, in_use, n_cpus } = subject;
    let options = proof::machine(name, *arch, defaults, *n_cpus, in_use);
    let machine = Sandbox::new(SandboxConfig::from_value(options)?).with_locator(search);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    say("Starting".to_owned());
    runtime.block_on(machine.start())?;
    let mut run = |command: &str, timeout: Duration| -> io::Result<Answer> {
        say(title_of(command));
        let request = ExecuteRequest::new(command).timeout(timeout);
        let result = runtime.block_on(machine.execute(request)).map_err(io::Error::other)?;
        let output = [result.stdout, result.stderr].concat();
        let output = String::from_utf8_lossy(&output).into_owned();
        Ok(Answer { exit_code: result.exit_code, output })
    };
    let shell = run("true", PATIENCE)?;
    let outcome = match shell.exit_code {
        0 => in_use.prove(checks, &mut run).map_err(Error::from),
        _ => Err(Error::NoShell { output: shell.output.trim().to_owned() }),
    };
    let timing = machine.boot_timing().unwrap_or_default();
    let accelerator = machine.accelerator().map(|accelerator| accelerator.name());
    let console = machine.console();
    runtime.block_on(machine.stop())?;
    let passed = outcome.inspect_err(|_| say(console))?;
    let boot =
        Boot { accelerator, launch: timing.launch, ready: timing.boot, marks: &timing.guest_marks };
    Ok(proof::report(&boot, &passed))
}

/// The same with an image whose files are laid out in a folder, while what it lies on is found by `search`.
///
/// # Errors
/// As [`prove`].
pub fn prove_in(
    images: &Path,
    subject: &Subject<'_>,
    mut search: Search,
    say: &dyn Fn(String),
) -> Result<Value, Error> {
    // The base stays where it was found: the finished files are looked for first.
    search.image_path.insert(0, std::path::absolute(images)?);
    prove(subject, search, say)
}

/// What of a command is shown while it runs: its first line, which may be a comment that says what it does.
fn title_of(command: &str) -> String {
    let first = command.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    first.trim_start_matches("# ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_by_its_first_line() {
        for (command, expect) in [
            ("uname -r", "uname -r"),
            ("\n# a name is found\ngetent hosts x\n", "a name is found"),
            ("", ""),
        ] {
            assert_eq!(title_of(command), expect, "{command:?}");
        }
    }
}
