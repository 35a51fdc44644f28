//! `cargo xtask release verify DIR`: every wheel is sound, every tag is true, and which are missing.

use anyhow::Result;
use release_plan::{check_complete, check_true, look};
use std::path::PathBuf;
use wheel_audit::Verified;

/// What to verify.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the wheels.
    dir: PathBuf,

    /// Fail, too, when a wheel of the plan is missing or one is there that is not planned.
    #[arg(long)]
    complete: bool,

    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// Looks and prints.
pub fn run(args: &Args) -> Result<()> {
    let release = look(&args.dir)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&release)?);
    } else {
        release.wheels.iter().flat_map(Verified::lines).for_each(|line| println!("{line}"));
        for (wheel, claim, reason) in &release.lies {
            println!("{wheel}: claims {claim}: {reason}");
        }
        release.missing.iter().for_each(|name| println!("missing: {name}"));
        release.unplanned.iter().for_each(|name| println!("not planned: {name}"));
    }
    check_true(&release)?;
    if args.complete {
        check_complete(&release)?;
    }
    Ok(())
}
