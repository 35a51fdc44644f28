//! `cargo xtask audit FILE…`: the lowest true platform tag of wheels, trees and single binaries.
//!
//! Composes `wheel-retag` (which opens wheels) and `binary-bundler` (which judges binaries). Exit
//! code 0 when every claim is true, 1 otherwise.

pub mod corpus;
mod print;

use crate::ui::hinted;
use anyhow::{Context as _, Result};
use binary_bundler::{
    inspect::{self, Binary},
    verdict::{Report, judge},
};
use serde::Serialize;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

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
    let reports: Vec<Report> = args.files.iter().map(|file| audit(file)).collect::<Result<_>>()?;
    let is_true = reports.iter().all(|report| report.is_true);
    let reports = Reports { is_true, reports };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        for report in &reports.reports {
            print!("{}", print::text(report));
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

/// The report of one wheel, folder or file.
///
/// # Errors
/// When it cannot be read, and for a file that is neither a wheel nor a binary.
pub fn audit(path: &Path) -> Result<Report> {
    let subject = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    if path.is_dir() {
        return Ok(judge(&subject, &read_tree(path)?, &[]));
    }
    if path.extension().is_some_and(|extension| extension == "whl") {
        let (binaries, claimed) = read_wheel(path)?;
        return Ok(judge(&subject, &binaries, &claimed));
    }
    match inspect::inspect_file(path).map_err(with_hint)? {
        Some(mut binary) => {
            binary.path = PathBuf::from(&subject);
            Ok(judge(&subject, &[binary], &[]))
        }
        None => Err(hinted(
            format!("`{}` is neither a wheel nor an executable or library", path.display()),
            "audit reads .whl files, folders, and binaries of Linux, macOS and Windows",
        )),
    }
}

/// The one tag that a wheel with the binaries of these folders and files is true under.
///
/// # Errors
/// When there is none, or more than one: the machines or systems differ.
pub fn one_tag(name: &str, paths: &[PathBuf]) -> Result<String> {
    let mut binaries = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => binaries.extend(read_tree(path)?),
            false => binaries.extend(inspect::inspect_file(path).map_err(with_hint)?),
        }
    }
    let report = judge(name, &binaries, &[]);
    match report.tags.as_slice() {
        [tag] if report.is_true => Ok(tag.clone()),
        _ => Err(hinted(
            format!("The binaries of `{name}` bear no one tag:\n{}", print::text(&report)),
            "`cargo xtask audit` on each file says why",
        )),
    }
}

/// The binaries of a wheel with the platform tags of its name.
fn read_wheel(path: &Path) -> Result<(Vec<Binary>, Vec<String>)> {
    let mut binaries = Vec::new();
    let mut failed = None;
    let name = wheel_retag::read_entries(path, |entry, size, contents| {
        // Damage in one file is told of that file, after the archive's own errors.
        if failed.is_some() || is_for_the_guest(entry) {
            return Ok(());
        }
        let mut bytes = vec![0; inspect::N_MAGIC_BYTES];
        let n_read = read_start(contents, &mut bytes)?;
        bytes.truncate(n_read);
        if !inspect::may_be_binary(&bytes) {
            return Ok(());
        }
        // The size is the archive's word: a lie must not reserve memory.
        const MAX_RESERVED: u64 = 64 << 20;
        bytes.reserve(size.min(MAX_RESERVED) as usize);
        contents.read_to_end(&mut bytes)?;
        match inspect::inspect(Path::new(entry), &bytes) {
            Ok(found) => binaries.extend(found),
            Err(error) => failed = Some(error),
        }
        Ok(())
    })
    .map_err(|error| {
        let hint = error.hint();
        with_this_hint(error, hint)
    })?;
    match failed {
        Some(error) => Err(with_hint(error)),
        None => Ok((binaries, name.tag.platforms)),
    }
}

/// Whether it is a part of an image, whose kernel is an executable, or firmware, which comes as
/// ELF for some machines: no host executes them, whatever host the wheel is for.
fn is_for_the_guest(entry: &str) -> bool {
    if entry.contains(&format!("/{}/", package_layout::qemu::FIRMWARE_DIR)) {
        return true;
    }
    let file_name = entry.rsplit('/').next().unwrap_or(entry);
    package_layout::image::ImageFileName::parse(file_name).is_some()
}

fn read_start(contents: &mut dyn std::io::Read, start: &mut [u8]) -> std::io::Result<usize> {
    let mut n_read = 0;
    while n_read < start.len() {
        match contents.read(&mut start[n_read..])? {
            0 => break,
            n => n_read += n,
        }
    }
    Ok(n_read)
}

/// The binaries below a folder, with their paths in it; links are not followed.
fn read_tree(root: &Path) -> Result<Vec<Binary>> {
    let mut binaries = Vec::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.with_context(|| format!("Failed to walk `{}`", root.display()))?;
        let inside = entry.path().strip_prefix(root)?;
        if !entry.file_type().is_file()
            || is_for_the_guest(&inside.to_string_lossy().replace('\\', "/"))
        {
            continue;
        }
        let mut start = vec![0; inspect::N_MAGIC_BYTES];
        let mut file = fs_err::File::open(entry.path())?;
        let n_read = read_start(&mut file, &mut start)?;
        start.truncate(n_read);
        if inspect::may_be_binary(&start) {
            file.read_to_end(&mut start)?;
            binaries.extend(inspect::inspect(inside, &start).map_err(with_hint)?);
        }
    }
    Ok(binaries)
}

/// An error of `binary-bundler` with its hint.
pub fn with_hint(error: binary_bundler::Error) -> anyhow::Error {
    let hint = error.hint();
    with_this_hint(error, hint)
}

/// The hint is told apart from the error; the causes then stand in the message.
fn with_this_hint(
    error: impl std::error::Error + Send + Sync + 'static,
    hint: Option<String>,
) -> anyhow::Error {
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => hinted(format!("{error:#}"), hint),
        None => error,
    }
}
