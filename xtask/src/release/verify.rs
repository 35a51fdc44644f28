//! `cargo xtask release verify DIR`: every wheel is sound, every tag is true, and which are missing.

use super::Plan;
use crate::{ui::hinted, verify as wheels};
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};
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

/// What is true of a folder of wheels.
#[derive(Serialize)]
pub struct Release {
    /// Whether nothing was found; completeness is apart.
    pub is_true: bool,
    /// Each wheel with what `verify` finds.
    pub wheels: Vec<wheels::Verified>,
    /// Tags that promise more than the files hold: wheel, claim, reason.
    pub lies: Vec<(String, String, String)>,
    /// Wheels of the plan that are not there.
    pub missing: Vec<String>,
    /// Wheels that are there and not planned.
    pub unplanned: Vec<String>,
}

/// Looks at every wheel of the folder.
pub fn look(folder: &Path) -> Result<Release> {
    let files = wheels_in(folder)?;
    if files.is_empty() {
        return Err(hinted(
            format!("`{}` has no wheels in it", folder.display()),
            "make them with `cargo xtask release build`, or name their folder",
        ));
    }
    let mut release = Release {
        is_true: true,
        wheels: files.iter().map(|file| wheels::verified(file)).collect(),
        lies: Vec::new(),
        missing: Vec::new(),
        unplanned: Vec::new(),
    };
    let mut names = Vec::new();
    for (file, verified) in files.iter().zip(&release.wheels) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What is no sound archive is not read any further.
        if verified.is_sound {
            let lies = wheel_audit::audit_wheel(file)?.lies.into_iter();
            release.lies.extend(lies.map(|lie| (name.clone(), lie.claim, lie.reason)));
        }
        names.push(name);
    }
    let plan = Plan::of_this_tree();
    release.missing = plan.missing(&names);
    release.unplanned = plan.unplanned(&names);
    release.is_true = release.lies.is_empty() && release.wheels.iter().all(|w| w.is_sound);
    Ok(release)
}

/// An error when something is not true.
pub fn conclude(release: &Release) -> Result<()> {
    wheels::conclude(&release.wheels)?;
    if let Some((wheel, claim, reason)) = release.lies.first() {
        return Err(hinted(
            format!("`{wheel}` claims {claim}, which is not true: {reason}"),
            "`cargo xtask audit` names the tag that is true",
        ));
    }
    Ok(())
}

/// Looks and prints.
pub fn run(args: &Args) -> Result<()> {
    let release = look(&args.dir)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&release)?);
    } else {
        release.wheels.iter().for_each(wheels::print);
        for (wheel, claim, reason) in &release.lies {
            println!("{wheel}: claims {claim}: {reason}");
        }
        release.missing.iter().for_each(|name| println!("missing: {name}"));
        release.unplanned.iter().for_each(|name| println!("not planned: {name}"));
    }
    conclude(&release)?;
    if args.complete && !(release.missing.is_empty() && release.unplanned.is_empty()) {
        return Err(hinted(
            format!(
                "The release is not the plan's: {} wheels are missing, {} are not planned",
                release.missing.len(),
                release.unplanned.len()
            ),
            "`cargo xtask release plan` says which runner makes each",
        ));
    }
    Ok(())
}
