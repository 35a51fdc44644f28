//! `cargo xtask verify FILE…`: what installers let pass. Exit code 0 when nothing is found.

use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;
use wheel_audit::{Verified, check_sound, expanded};

/// What to verify.
#[derive(clap::Args)]
pub struct Args {
    /// Wheels, or folders with wheels in them.
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// All findings, as `--json` prints them.
#[derive(Serialize)]
struct Report {
    is_sound: bool,
    wheels: Vec<Verified>,
}

/// Verifies and prints.
pub fn run(args: &Args) -> Result<()> {
    let wheels: Vec<Verified> =
        expanded(&args.files)?.iter().map(|file| Verified::verify(file)).collect();
    let report = Report { is_sound: wheels.iter().all(|wheel| wheel.is_sound), wheels };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let lines = report.wheels.iter().flat_map(Verified::lines);
        lines.for_each(|line| println!("{line}"));
    }
    Ok(check_sound(&report.wheels)?)
}
