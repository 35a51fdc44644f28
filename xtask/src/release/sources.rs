//! `cargo xtask release sources DIR`: the corresponding source of the wheels' parts under the GPL, the LGPL and
//! licences like them, as one archive. Whose source is owed, where it lies and how it is gathered is
//! `corresponding-source`'s.

use crate::context::Context;
use anyhow::Result;
use corresponding_source::{Owed, archive_name, gather};
use std::{path::PathBuf, time::Instant};
use wheel_retag::wheels_in;

/// Whose source.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the wheels.
    dir: PathBuf,

    /// Where the archive is written; DIR/quicksand-VERSION-sources.tar.zst unless given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Say what would be in it, and fetch nothing.
    #[arg(long)]
    plan: bool,
}

/// The largest file that GitHub lays beside a release.
const LARGEST: u64 = 2 << 30;

/// Gathers and writes.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let start = Instant::now();
    let wheels = wheels_in(&args.dir)?;
    if wheels.is_empty() {
        return Err(release_plan::Error::NoWheels { folder: args.dir.clone() }.into());
    }
    let owed = Owed::by(&wheels)?;
    context.ui.line(&owed.words());
    if args.plan {
        owed.folders().iter().for_each(|folder| println!("{folder}"));
        return Ok(());
    }
    let file_name = format!("{}.tar.zst", archive_name());
    let out = args.out.clone().unwrap_or_else(|| args.dir.join(file_name));
    let gathered = gather(context, owed, &out)?;
    if gathered.size > LARGEST {
        let limit = LARGEST >> 20;
        context.ui.line(&format!("warning: a release's page takes files of {limit} MiB at most"));
    }
    context.ui.line(&format!(
        "{} source packages, {} files, {:.0} MB, {:.1} min",
        gathered.n_packages,
        gathered.n_files,
        gathered.size as f64 / 1e6,
        start.elapsed().as_secs_f64() / 60.0
    ));
    println!("{}", out.display());
    Ok(())
}
