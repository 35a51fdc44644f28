//! `cargo xtask verify FILE…`: what installers let pass. Exit code 0 when nothing is found.

use crate::ui::hinted;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};
use wheel_retag::{Finding, verify_with_warnings};

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

/// What was found about one wheel.
#[derive(Serialize)]
pub struct Verified {
    /// The wheel.
    pub file: PathBuf,
    /// Whether it could be read and nothing was found.
    pub is_sound: bool,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// What installers take and yet is to be looked at.
    pub warnings: Vec<Finding>,
    /// Why it could not be read at all.
    pub error: Option<String>,
}

/// Verifies and prints.
pub fn run(args: &Args) -> Result<()> {
    let mut wheels = Vec::new();
    for file in expanded(&args.files)? {
        wheels.push(verified(&file));
    }
    let is_sound = wheels.iter().all(|wheel| wheel.is_sound);
    let report = Report { is_sound, wheels };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.wheels.iter().for_each(print);
    }
    conclude(&report.wheels)
}

/// Verifies one wheel.
pub fn verified(file: &Path) -> Verified {
    let ((findings, warnings), error) = match verify_with_warnings(file) {
        Ok(found) => (found, None),
        Err(error) => {
            let causes = anyhow::Error::from(error);
            (Default::default(), Some(format!("{causes:#}")))
        }
    };
    let is_sound = findings.is_empty() && error.is_none();
    Verified { file: file.to_owned(), is_sound, findings, warnings, error }
}

/// Prints one wheel's findings, a line each.
pub fn print(wheel: &Verified) {
    let file = wheel.file.display();
    if wheel.is_sound {
        println!("{file}: sound");
    }
    if let Some(error) = &wheel.error {
        println!("{file}: {error}");
    }
    for finding in &wheel.findings {
        println!("{file}: {finding}");
    }
    for warning in &wheel.warnings {
        println!("{file}: warning: {warning}");
    }
}

/// An error when a wheel is not sound.
pub fn conclude(wheels: &[Verified]) -> Result<()> {
    let n_unsound = wheels.iter().filter(|wheel| !wheel.is_sound).count();
    if n_unsound == 0 {
        return Ok(());
    }
    Err(hinted(
        format!("{n_unsound} of {} wheels are not sound", wheels.len()),
        "make them again; a wheel that was changed by hand needs RECORD and WHEEL made anew",
    ))
}

/// Folders stand for the wheels in them.
fn expanded(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut list = Vec::new();
    for file in files {
        if !file.is_dir() {
            list.push(file.clone());
            continue;
        }
        let wheels = wheel_retag::wheels_in(file)?;
        if wheels.is_empty() {
            return Err(hinted(
                format!("`{}` has no wheels in it", file.display()),
                "name files that end with .whl, or a folder with such files",
            ));
        }
        list.extend(wheels);
    }
    Ok(list)
}
