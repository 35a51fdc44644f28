//! `cargo xtask check` with nothing but checks of this crate: compiled in seconds, without what the tasks build.

use std::process::ExitCode;
use xtask_base::{context::Context, ui};

fn main() -> ExitCode {
    // The front gives names of checks alone; the one switch of all tasks may stand anywhere.
    let (switches, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(2).partition(|word| word.starts_with("--"));
    let outcome = Context::new(switches.iter().any(|word| word == "--offline"))
        .and_then(|context| names.iter().try_for_each(|name| xtask_check::run(&context, name)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ui::report(&error),
    }
}
