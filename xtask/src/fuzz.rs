//! `cargo xtask fuzz`: gives the parsers of foreign bytes hostile input, one target after another.
//!
//! A target is a test named `fuzz_NAME` beside its parser; the list is read from the sources, so that
//! nothing has to be entered twice. What the tests do is `fuzz-driver`'s business.

use crate::{context::Context, ui::hinted};
use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What an aborted process leaves the input in that it was at.
const LAST: &str = "last";

/// Which parsers to try, and for how long.
#[derive(clap::Args)]
pub struct Args {
    /// The target, such as frames; all one after another without it
    target: Option<String>,

    /// Seconds for each target
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,

    /// The seed of chance; the same seed tries the same inputs [default: the time]
    #[arg(long)]
    seed: Option<u64>,

    /// Compile with counters of what was reached, and follow inputs that reach more (slow to build)
    #[arg(long)]
    coverage: bool,

    /// Print the names of all targets
    #[arg(long)]
    list: bool,
}

/// A target and the package whose tests it is one of.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub name: String,
    pub package: String,
}

/// Runs the targets; one that finds something does not keep the others from running.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let mut targets = targets(&context.root)?;
    if args.list {
        for target in &targets {
            println!("{}  {}", target.name, target.package);
        }
        return Ok(());
    }
    if let Some(wanted) = &args.target {
        let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
        targets.retain(|target| target.name == *wanted);
        if targets.is_empty() {
            return Err(hinted(
                format!("There is no fuzz target `{wanted}`"),
                format!("there are: {}", names.join(", ")),
            ));
        }
    }
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    });
    let mut broken = vec![];
    for target in &targets {
        context.ui.line(&format!("==> Fuzz: {}", target.name));
        if !try_target(context, args, target, seed)? {
            broken.push(target.name.as_str());
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(hinted(
        format!("Findings in: {}", broken.join(", ")),
        "the messages above name the inputs; copy each into fuzz/corpus/TARGET to keep it as a test",
    ))
}

/// Whether the target found nothing.
fn try_target(context: &Context, args: &Args, target: &Target, seed: u64) -> Result<bool> {
    let first = test(context, args, target, seed, false)?.run()?;
    if first.status.success() {
        return Ok(true);
    }
    // A signal ended the whole process: once more, with each input written down before it is tried.
    let text = format!("target/fuzz/{}/{LAST}", target.name);
    let last = context.root.join(&text);
    if !was_reported(&context.root, &target.name) {
        test(context, args, target, seed, true)?.run()?;
        if last.is_file() {
            context
                .ui
                .line(&format!("{}: the process ended with the bytes of {text}", target.name));
        }
    }
    Ok(false)
}

/// Whether a finding of the last minute lies in the target's folder.
fn was_reported(root: &Path, name: &str) -> bool {
    let Ok(entries) = fs::read_dir(root.join("target/fuzz").join(name)) else { return false };
    entries.flatten().any(|entry| {
        let age = entry.metadata().and_then(|data| data.modified()).map(|time| time.elapsed());
        entry.file_name() != LAST && matches!(age, Ok(Ok(age)) if age < Duration::from_secs(60))
    })
}

fn test(
    context: &Context,
    args: &Args,
    target: &Target,
    seed: u64,
    is_traced: bool,
) -> Result<duct::Expression> {
    let name = format!("fuzz_{}", target.name);
    let mut line = vec!["test", "--quiet", "--workspace", "--lib", "--bins"];
    if context.offline {
        line.push("--offline");
    }
    line.extend(["--", &name, "--include-ignored", "--nocapture", "--test-threads=1"]);
    let mut test = cmd("cargo", line)
        .dir(&context.root)
        .env("QUICKSAND_FUZZ_SECONDS", args.seconds.to_string())
        .env("QUICKSAND_FUZZ_SEED", seed.to_string())
        .unchecked();
    if is_traced {
        test = test.env("QUICKSAND_FUZZ_TRACE", "1");
    }
    if args.coverage {
        // Dependencies stay as they are; the counters of this workspace are what is followed.
        test = test
            .env("RUSTC_WORKSPACE_WRAPPER", wrapper(&context.root)?)
            .env("CARGO_TARGET_DIR", context.root.join("target/fuzz-coverage"))
            .env("LLVM_PROFILE_FILE", "/dev/null");
    }
    Ok(test)
}

/// A compiler that counts: cargo hands it the real one and its arguments.
fn wrapper(root: &Path) -> Result<PathBuf> {
    let path = root.join("target/fuzz/rustc");
    fs::create_dir_all(path.parent().context("a path without a folder")?)?;
    fs::write(
        &path,
        "#!/bin/sh\nrustc=$1; shift\nexec \"$rustc\" \"$@\" -C instrument-coverage --cfg fuzz_coverage\n",
    )?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(path)
}

/// Every target of the workspace, by name.
pub fn targets(root: &Path) -> Result<Vec<Target>> {
    let mut found = Vec::new();
    for package in fs::read_dir(root.join("crates"))? {
        let package = package?;
        let sources = walkdir::WalkDir::new(package.path().join("src"));
        for entry in sources.into_iter().flatten() {
            if entry.path().extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(entry.path())?;
            found.extend(names(&text).map(|name| Target {
                name: name.to_owned(),
                package: package.file_name().to_string_lossy().into_owned(),
            }));
        }
    }
    found.sort();
    Ok(found)
}

fn names(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| line.strip_prefix("fn fuzz_")?.split('(').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let targets: Vec<String> =
            targets(&root).unwrap().into_iter().map(|target| target.name).collect();
        assert!(targets.len() >= 25, "{targets:?}");
        let mut folders: Vec<String> = fs::read_dir(root.join("fuzz/corpus"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        folders.sort();
        assert_eq!(targets, folders);
    }

    #[test]
    fn names_are_those_of_the_tests() {
        let source = "#[test]\nfn fuzz_dns() {\n    fn fuzz_inner() {}\n}\nfn other() {}\n";
        assert_eq!(names(source).collect::<Vec<_>>(), ["dns"]);
    }
}
