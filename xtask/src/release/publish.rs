//! `cargo xtask release publish DIR`: checks what an index would refuse and writes an index of our
//! own. Uploads only with `--execute`.
//!
//! Linux tags: wheels with programs carry the manylinux tag that their audit proves. Image wheels
//! are built and retagged as `linux_*`, as the installation document's table names them; the
//! public index refuses that family, so `--linux-tags manylinux` ships those wheels under the
//! manylinux name instead. They hold no program of the host, so that this promise is kept anywhere.

use super::{Plan, index, verify};
use crate::{context::Context, setup, ui::hinted};
use anyhow::Result;
use duct::cmd;
use fs_err as fs;
use serde::Serialize;
use std::path::{Path, PathBuf};
use wheel_retag::{WheelFileName, retag, wheels_in};

/// The public index's default limit for one file.
const MAX_FILE_MIB: u64 = 100;

/// Platforms that the public index refuses, by their start.
const REFUSED_PLATFORMS: [&str; 1] = ["linux_"];

/// What replaces a refused `linux_` where nothing in the wheel forbids it.
const MANYLINUX: &str = "manylinux_2_17_";

/// What uploads, pinned.
pub(super) const UPLOADER: &[&str] = &["uv==0.13.9"];

/// What to publish.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the wheels.
    dir: PathBuf,

    /// Where the index is written; DIR/index unless given.
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,

    /// The largest file that the index takes, in MiB.
    #[arg(long, default_value_t = MAX_FILE_MIB, value_name = "N")]
    max_file_mib: u64,

    /// What becomes of the tags `linux_*`.
    #[arg(long, value_enum, default_value_t = LinuxTags::AsIs)]
    linux_tags: LinuxTags,

    /// Really upload, with `uv publish`; credentials come from its environment variables or from
    /// the runner's identity (trusted publishing).
    #[arg(long)]
    execute: bool,

    /// The index's upload address; that of the public index unless given.
    #[arg(long, requires = "execute", value_name = "URL")]
    publish_url: Option<String>,

    /// An index whose files are compared before each upload, so that one that was cut can be repeated
    /// where the index refuses what it has; the public one takes the same file twice.
    #[arg(long, requires = "execute", value_name = "URL")]
    check_url: Option<String>,

    /// The tag that is released: nothing is published when it is not `v` and this tree's version.
    #[arg(long)]
    tag: Option<String>,

    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// A dry run that keeps all names.
    pub fn dry(dir: &Path, index: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            index: Some(index.to_owned()),
            max_file_mib: MAX_FILE_MIB,
            linux_tags: LinuxTags::AsIs,
            execute: false,
            publish_url: None,
            check_url: None,
            tag: None,
            json: false,
        }
    }
}

/// What becomes of the tags `linux_*`, which the public index refuses.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LinuxTags {
    /// Kept: for an index of one's own.
    AsIs,
    /// Replaced by the manylinux tag where the wheel holds no program of the host.
    Manylinux,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    is_published: bool,
    index: PathBuf,
    max_file_bytes: u64,
    files: Vec<File>,
    missing: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct File {
    name: String,
    size: u64,
    sha256: String,
}

/// Checks, writes the index, and uploads if asked to.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    if let Some(tag) = &args.tag {
        Plan::of_this_tree().check_tag(tag)?;
    }
    let release = verify::look(&args.dir)?;
    verify::conclude(&release)?;
    let staging = tempfile::Builder::new().prefix("quicksand-publish-").tempdir()?;
    let mut wheels = Vec::new();
    for wheel in wheels_in(&args.dir)? {
        wheels.push(match args.linux_tags {
            LinuxTags::AsIs => wheel,
            LinuxTags::Manylinux => accepted(&wheel, staging.path())?,
        });
    }
    let max_file_bytes = args.max_file_mib << 20;
    check_sizes(&sizes(&wheels)?, max_file_bytes)?;
    let mut warnings = refused(&wheels);
    if args.execute {
        check_executable(&warnings, &release.missing, args.linux_tags)?;
    }
    let place = args.index.clone().unwrap_or_else(|| args.dir.join("index"));
    let listed = index::write(&wheels, &place)?;
    if args.execute {
        upload(context, &wheels, args.publish_url.as_deref(), args.check_url.as_deref())?;
    } else {
        warnings.push("dry run: nothing was uploaded (--execute does)".to_owned());
    }
    let files = listed
        .into_iter()
        .map(|file| File { name: file.file_name, size: file.size, sha256: file.sha256 })
        .collect();
    let report = Report {
        is_published: args.execute,
        index: place,
        max_file_bytes,
        files,
        missing: release.missing,
        warnings,
    };
    print(&report, args.json)
}

fn print(report: &Report, as_json: bool) -> Result<()> {
    report.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if as_json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    if !report.missing.is_empty() {
        eprintln!("warning: {} wheels of the plan are missing", report.missing.len());
    }
    for file in &report.files {
        println!("{} {:.1} MB sha256={}", file.name, file.size as f64 / 1e6, file.sha256);
    }
    println!("index: {}", report.index.join("simple").display());
    Ok(())
}

fn sizes(wheels: &[PathBuf]) -> Result<Vec<(String, u64)>> {
    let size = |wheel: &PathBuf| Ok((wheel.display().to_string(), fs::metadata(wheel)?.len()));
    wheels.iter().map(size).collect()
}

fn check_sizes(sizes: &[(String, u64)], limit: u64) -> Result<()> {
    let too_large: Vec<String> = sizes
        .iter()
        .filter(|(_, size)| *size > limit)
        .map(|(wheel, size)| format!("`{wheel}` ({size} bytes)"))
        .collect();
    if too_large.is_empty() {
        return Ok(());
    }
    Err(hinted(
        format!("The index takes files of {limit} bytes at most: {}", too_large.join(", ")),
        "make them smaller, or ask the index for a higher limit and name it with --max-file-mib",
    ))
}

/// A warning for each wheel that the public index would refuse.
fn refused(wheels: &[PathBuf]) -> Vec<String> {
    let platforms = |wheel: &PathBuf| -> Vec<String> {
        let name = wheel.file_name().unwrap_or_default().to_string_lossy();
        name.parse::<WheelFileName>().map_or_else(|_| Vec::new(), |name| name.tag.platforms)
    };
    let is_refused =
        |platform: &String| REFUSED_PLATFORMS.iter().any(|start| platform.starts_with(start));
    wheels
        .iter()
        .filter(|wheel| platforms(wheel).iter().any(is_refused))
        .map(|wheel| {
            let name = wheel.file_name().unwrap_or_default().to_string_lossy();
            format!("the public index refuses the tag of `{name}` (--linux-tags manylinux)")
        })
        .collect()
}

/// What has to be true before anything is uploaded.
fn check_executable(refused: &[String], missing: &[String], tags: LinuxTags) -> Result<()> {
    if let Some(first) = refused.first() {
        let hint = match tags {
            LinuxTags::AsIs => "use --linux-tags manylinux",
            LinuxTags::Manylinux => "build those wheels with the tag that their audit proves",
        };
        return Err(hinted(first.clone(), hint));
    }
    if let Some(first) = missing.first() {
        return Err(hinted(
            format!("{} wheels of the plan are missing, the first is `{first}`", missing.len()),
            "a release is published whole: gather what every runner made",
        ));
    }
    Ok(())
}

/// The wheel itself, or a copy with a tag that the public index takes.
fn accepted(wheel: &Path, staging: &Path) -> Result<PathBuf> {
    let file_name = wheel.file_name().unwrap_or_default().to_string_lossy();
    let name: WheelFileName = file_name.parse()?;
    let platforms: Vec<String> = name
        .tag
        .platforms
        .iter()
        .map(|platform| match platform.strip_prefix(REFUSED_PLATFORMS[0]) {
            Some(machine) => format!("{MANYLINUX}{machine}"),
            None => platform.clone(),
        })
        .collect();
    // A program's tag is what its audit proves, never what is convenient.
    if platforms == name.tag.platforms || !wheel_audit::audit_wheel(wheel)?.verdicts.is_empty() {
        return Ok(wheel.to_owned());
    }
    Ok(retag(wheel, &name.tag.with_platforms(platforms), staging)?)
}

/// Not run by any test: it needs an account.
fn upload(
    context: &Context,
    wheels: &[PathBuf],
    publish_url: Option<&str>,
    check_url: Option<&str>,
) -> Result<()> {
    let uv = setup::python_tools(context, UPLOADER)?.join("uv");
    let mut args = vec!["publish".to_owned(), "--trusted-publishing=automatic".to_owned()];
    args.extend(publish_url.map(|url| format!("--publish-url={url}")));
    args.extend(check_url.map(|url| format!("--check-url={url}")));
    args.extend(wheels.iter().map(|wheel| wheel.display().to_string()));
    context.ui.step("Upload the wheels", |step| step.run(cmd(uv, args)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_over_the_limit_are_named() {
        let sizes = |size: u64| [("a.whl".to_owned(), size), ("b.whl".to_owned(), 1)];
        assert!(check_sizes(&sizes(100 << 20), 100 << 20).is_ok());
        let error = check_sizes(&sizes((100 << 20) + 1), 100 << 20).unwrap_err().to_string();
        assert!(error.contains("`a.whl` (104857601 bytes)") && !error.contains("b.whl"), "{error}");
    }

    #[test]
    fn an_upload_is_whole_and_accepted() {
        let wheels = |platform: &str| vec![PathBuf::from(format!("d/q-1-py3-none-{platform}.whl"))];
        assert_eq!(refused(&wheels("linux_x86_64")).len(), 1);
        assert_eq!(refused(&wheels("manylinux_2_17_x86_64")), Vec::<String>::new());
        assert_eq!(refused(&wheels("win_amd64")), Vec::<String>::new());
        let check = |refused: &[String], missing: &[String]| {
            check_executable(refused, missing, LinuxTags::AsIs).is_ok()
        };
        assert!(check(&[], &[]));
        assert!(!check(&["refused".into()], &[]));
        assert!(!check(&[], &Plan::of_this_tree().missing(&[])));
    }
}
