//! `cargo xtask retag DIR`: the other tags of image wheels. The matrix is `wheel_retag::RETAGS`.

use crate::ui::hinted;
use anyhow::Result;
use std::path::PathBuf;
use wheel_retag::{Runner, retag_folder};

/// What to retag.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the wheels; the new ones are put beside them.
    dir: PathBuf,

    /// The machine of the release that made the wheels: linux-x64, linux-arm64, macos-arm64,
    /// windows-x64 or windows-arm64; this host unless given.
    #[arg(long, value_parser = runner)]
    runner: Option<Runner>,

    /// Print the new wheels as JSON.
    #[arg(long)]
    json: bool,
}

/// Retags and prints the new wheels.
pub fn run(args: &Args) -> Result<()> {
    let runner = args.runner.map_or_else(this_runner, Ok)?;
    let made = retag_folder(&args.dir, runner)?;
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

/// Reads a runner's name, with the allowed ones in the message.
pub fn runner(text: &str) -> Result<Runner, String> {
    text.parse().map_err(|error: wheel_retag::Error| {
        format!("{error}: {}", error.hint().unwrap_or_default())
    })
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
