//! `cargo xtask retag DIR`: the other tags of image wheels. The matrix is `wheel_retag::RETAGS`.
//!
//! What the matrix allows by name is looked into as well: a wheel that holds a program of its host
//! would lie under another host's tag.

use crate::ui::hinted;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use wheel_retag::{Runner, WheelTag, check_names, retag, retags, wheels_in};

/// What to retag.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the wheels; the new ones are put beside them.
    dir: PathBuf,

    /// The machine of the release that made the wheels: linux-x64, linux-arm64, macos-arm64,
    /// windows-x64 or windows-arm64; this host unless given.
    #[arg(long, value_parser = qemu_builder::runner)]
    runner: Option<Runner>,

    /// Print the new wheels as JSON.
    #[arg(long)]
    json: bool,
}

/// Retags and prints the new wheels.
pub fn run(args: &Args) -> Result<()> {
    let runner = args.runner.map_or_else(this_runner, Ok)?;
    let made = all(&args.dir, runner)?;
    if args.json {
        println!("{}", serde_json::json!({ "runner": runner, "made": made }));
    } else {
        made.iter().for_each(|wheel| println!("{}", wheel.display()));
    }
    if made.is_empty() {
        eprintln!("nothing to retag for {runner}");
    }
    Ok(())
}

/// Adds the other tags of a runner's wheels in a folder; gives the new wheels.
pub fn all(dir: &Path, runner: Runner) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    // Everything is decided before the first wheel is written.
    for (wheel, tags) in plan(dir, runner)? {
        for tag in tags {
            made.push(retag(&wheel, &tag, dir)?);
        }
    }
    made.sort();
    Ok(made)
}

/// Each wheel that is retagged, with its further tags.
fn plan(folder: &Path, runner: Runner) -> Result<Vec<(PathBuf, Vec<WheelTag>)>> {
    let mut plan = Vec::new();
    for wheel in wheels_in(folder)? {
        let name = wheel.file_name().and_then(|name| name.to_str());
        let tags = retags(runner, &name.context("A wheel's name is not UTF-8")?.parse()?);
        if tags.is_empty() {
            continue;
        }
        match wheel_audit::audit_wheel(&wheel)?.verdicts.first() {
            None => plan.push((wheel, tags)),
            Some(verdict) => eprintln!(
                "warning: `{}` is not retagged: it holds programs for {}",
                wheel.display(),
                verdict.tag
            ),
        }
    }
    check_names(&plan)
        .map_err(|error| hinted(error.to_string(), error.hint().unwrap_or_default()))?;
    Ok(plan)
}

/// The runner that this host is.
pub fn this_runner() -> Result<Runner> {
    let host = host_platform::host();
    Runner::of(host.os, host.arch).ok_or_else(|| {
        hinted(
            format!("The release has no runner like this host ({:?} on {})", host.os, host.arch),
            "say which runner made the wheels with --runner",
        )
    })
}
