//! `cargo xtask release verify DIR`: every wheel is sound, every tag is true, every bill of materials valid, and
//! which are missing.

use crate::{bills, context::Context};
use anyhow::Result;
use release_plan::{check_complete, check_true, look};
use std::path::PathBuf;
use wheel_audit::Verified;
use wheel_retag::wheels_in;

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
pub fn run(context: &Context, args: &Args) -> Result<()> {
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
    let n_bills = bills::check(context, &wheels_in(&args.dir)?)?;
    eprintln!("{n_bills} bills of materials are valid CycloneDX");
    if args.complete {
        check_complete(&release)?;
    }
    Ok(())
}
