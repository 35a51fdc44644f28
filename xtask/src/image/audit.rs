//! `cargo xtask image audit`: an image's bills against a file of advisories.

use crate::{context::Context, ui::hinted};
use anyhow::Result;
use image_builder::audit::{self, Advisories, bills};
use runtime_locator::Search;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// The image: the name of one in dist/ or installed, such as debian; a wheel; or a bill of materials, a
    /// file NAME.cdx.json. With an image by name what it lies on is looked at too.
    image: String,

    /// Advisories in OSV form: a file with one, with a list of them or with one on each line, or a folder of
    /// .json files. Nothing is fetched. May be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    advisories: Vec<PathBuf>,

    /// Print JSON: `findings`, what is `undecided` or `unknown`, and how much was compared.
    #[arg(long)]
    json: bool,
}

/// Prints what was found; an error where a component has a known flaw.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let bills = bills_of(context, &args.image)?;
    let report = audit::audit(&bills, &Advisories::read(&args.advisories)?);
    if args.json {
        println!("{:#}", serde_json::to_value(&report)?);
    } else {
        report.lines().iter().for_each(|line| println!("{line}"));
    }
    match report.findings.len() {
        0 => Ok(()),
        n_findings => Err(hinted(
            format!("`{}` has {n_findings} known flaws", args.image),
            "what is mended comes with newer packages: cargo xtask bake NAME --renew; what is compiled into the \
             agent with cargo update",
        )),
    }
}

/// The bills of an image and of what it lies on.
fn bills_of(context: &Context, given: &str) -> Result<Vec<Value>> {
    let path = Path::new(given);
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("whl") => return Ok(vec![bills::of_wheel(path)?]),
        Some("json") => return Ok(vec![bills::of_file(path)?]),
        _ => {}
    }
    let mut search = Search::of_process(Vec::new());
    search.image_path.push(context.dist());
    let found = runtime_locator::find_image(&search, given, None)
        .map_err(|error| hinted(error.to_string(), error.hint().unwrap_or_default()))?;
    let disks = &found.chain[..found.n_base_disks.min(found.chain.len())];
    Ok(disks.iter().map(|disk| bills::of_disk(disk)).collect::<Result<_, _>>()?)
}
