//! `cargo xtask audit FILE…`: what `wheel-audit` finds, printed. Exit code 0 when every claim is true, 1
//! otherwise.

pub mod corpus;

use crate::ui::hinted;
use anyhow::Result;
use binary_bundler::verdict::Report;
use serde::Serialize;
use std::path::PathBuf;
use wheel_audit::{audit, text};

/// What to audit.
#[derive(clap::Args)]
pub struct Args {
    /// Wheels, folders or single binaries.
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// Print the reports as JSON.
    #[arg(long)]
    json: bool,
}

/// All reports, as `--json` prints them.
#[derive(Serialize)]
struct Reports {
    is_true: bool,
    reports: Vec<Report>,
}

/// Audits and prints.
pub fn run(args: &Args) -> Result<()> {
    let mut reports: Vec<Report> = Vec::new();
    for file in &args.files {
        reports.extend(audit(file)?);
    }
    let is_true = reports.iter().all(|report| report.is_true);
    let reports = Reports { is_true, reports };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        for report in &reports.reports {
            print!("{}", text(report));
        }
    }
    if is_true {
        return Ok(());
    }
    let wrong: Vec<&str> = reports
        .reports
        .iter()
        .filter(|report| !report.is_true)
        .map(|report| report.subject.as_str())
        .collect();
    Err(hinted(
        format!("These promise more than they hold: {}", wrong.join(", ")),
        "give a wheel the tag that is named as its truth, or build what is named on an older system",
    ))
}
