//! `cargo xtask retag DIR`: the other tags of image wheels.

use crate::ui::hinted;
use anyhow::Result;
use std::path::PathBuf;
use wheel_retag::Runner;

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
    let retagged = wheel_audit::retag_images(&args.dir, runner)?;
    retagged.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if args.json {
        println!("{}", serde_json::json!({ "runner": runner, "made": retagged.made }));
    } else {
        retagged.made.iter().for_each(|wheel| println!("{}", wheel.display()));
    }
    if retagged.made.is_empty() {
        eprintln!("nothing to retag for {runner}");
    }
    Ok(())
}

/// The runner that this host is.
pub fn this_runner() -> Result<Runner> {
    let host = host_platform::host();
    Runner::for_host(host.os, host.arch).ok_or_else(|| {
        hinted(
            format!("The release has no runner like this host ({:?} on {})", host.os, host.arch),
            "say which runner made the wheels with --runner",
        )
    })
}
