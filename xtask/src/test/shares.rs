//! `cargo xtask test shares`: what people do in a project, on a share, and two suites of others that try file
//! systems. It needs an image with git, Python and a compiler, and minutes, so that it runs by its name alone.

use super::{cargo_test, with_image};
use crate::{
    bake,
    cache::Key,
    context::Context,
    preflight::{Needs, Registry, Room},
};
use anyhow::Result;
use duct::cmd;
use std::path::PathBuf;

const IMAGE: &str = "debian-agent";

/// Programs of crates.io that try a file system, pinned. They run in the guest, whose C library is newer
/// than those of the hosts that build here.
const SUITES: [&str; 2] = ["pjdfstest@0.2.2", "fsx@0.3.2"];

/// Seconds of one processor for them, and room.
const SECONDS: f64 = 240.0;
const ROOM: Room = Room { cache: 40, target: 0, temporary: 600 };

/// What the suites and the image need, beside what all machines need.
pub fn needs(context: &Context) -> Needs {
    let needs = bake::needs(context, &bake::Args::to(IMAGE, &context.dist()));
    match suites(&context.looking()) {
        Ok(_) => needs,
        Err(_) => needs
            .and(Needs { compiles: true, ..Needs::default() })
            .build("the suites for file systems", SECONDS, ROOM)
            .fetch("suites for file systems", Registry::Crates),
    }
}

/// The folder with their programs, built at the first time.
fn suites(context: &Context) -> Result<PathBuf> {
    let mut key = Key::new("file-system-suites");
    SUITES.iter().for_each(|suite| key.add("suite", suite.as_bytes()));
    let entry = context.cache.entry("file-system-suites", &key, |folder| {
        context.ui.step("Build suites for file systems", |step| {
            let temporary = tempfile::tempdir()?;
            let mut line = vec!["install", "--locked", "--quiet"];
            if context.offline {
                line.push("--offline");
            }
            line.extend(SUITES);
            let install = cmd("cargo", line)
                .env("CARGO_INSTALL_ROOT", folder)
                .env("CARGO_TARGET_DIR", temporary.path());
            step.run(install)
        })
    })?;
    Ok(entry.join("bin"))
}

/// Runs them.
pub fn run(context: &Context, runner_args: &[String]) -> Result<()> {
    let tests = cargo_test(context, &["--test", "shares"], runner_args)
        .env("QUICKSAND_POSIX_TOOLS", suites(context)?);
    with_image(context, IMAGE, tests)
}
