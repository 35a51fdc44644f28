//! `cargo xtask merge-fat DIR`: the `win_amd64` wheel gets the binaries of `win_arm64` too.

use anyhow::Result;
use std::path::PathBuf;

/// What to merge.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with both wheels; the `win_amd64` one is rewritten in its place.
    pub dir: PathBuf,

    /// Print what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Merges and prints.
pub fn run(args: &Args) -> Result<()> {
    let merged = wheel_audit::merge(&args.dir)?;
    for wheel in &merged {
        wheel.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        if !args.json {
            let done = if wheel.is_changed { "merged" } else { "was merged before" };
            println!("{}: {done}, {} shared files", wheel.wheel.display(), wheel.shared.len());
        }
    }
    if args.json {
        println!("{}", serde_json::json!({ "merged": merged }));
    }
    Ok(())
}
