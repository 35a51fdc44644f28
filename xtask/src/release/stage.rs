//! `cargo xtask release stage DIR --out STAGED`: the folder of exactly the wheels that are uploaded, made before
//! anything is, so that these files can be attested.

use anyhow::Result;
use release_plan::{Plan, stage};
use serde::Serialize;
use std::path::PathBuf;

/// The public index's default limit for one file.
pub(super) const MAX_FILE_MIB: u64 = 100;

/// What to stage.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the wheels of the whole release, gathered and merged.
    dir: PathBuf,

    /// Where the staged wheels are written; a new or an empty folder.
    #[arg(long, value_name = "STAGED")]
    out: PathBuf,

    /// The largest file that the index takes, in MiB.
    #[arg(long, default_value_t = MAX_FILE_MIB, value_name = "N")]
    max_file_mib: u64,

    /// The tag that is released: nothing is staged when it is not `v` and this tree's version.
    #[arg(long)]
    tag: Option<String>,

    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    staged: PathBuf,
    wheels: Vec<String>,
}

/// Stages the wheels.
pub fn run(args: &Args) -> Result<()> {
    if let Some(tag) = &args.tag {
        Plan::from_this_tree().check_tag(tag)?;
    }
    let wheels = stage(&args.dir, &args.out, args.max_file_mib << 20)?;
    let name = |wheel: &PathBuf| wheel.file_name().map(|name| name.to_string_lossy().into_owned());
    let report =
        Report { staged: args.out.clone(), wheels: wheels.iter().filter_map(name).collect() };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    report.wheels.iter().for_each(|wheel| println!("{wheel}"));
    println!("staged: {} wheels in {}", report.wheels.len(), report.staged.display());
    Ok(())
}
