//! `cargo xtask release publish DIR`: checks what an index would refuse, and the attestations beside the wheels, and
//! writes an index of our own. Uploads only with `--execute`, what was staged.

use super::stage::MAX_FILE_MIB;
use crate::{context::Context, setup};
use anyhow::Result;
use duct::cmd;
use release_plan::{Order, Plan, Ready, prepare};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What uploads, pinned.
pub(super) const UPLOADER: &[&str] = &["uv==0.13.9"];

/// What to publish.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the wheels, for an upload one that `release stage` made.
    dir: PathBuf,

    /// Where the index is written; DIR/index unless given.
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,

    /// The largest file that the index takes, in MiB.
    #[arg(long, default_value_t = MAX_FILE_MIB, value_name = "N")]
    max_file_mib: u64,

    /// Which attestations (PEP 740, NAME.whl.publish.attestation beside each wheel) are checked and uploaded.
    #[arg(long, value_enum, default_value_t = Attestations::AsFound)]
    attestations: Attestations,

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
            attestations: Attestations::AsFound,
            execute: false,
            publish_url: None,
            check_url: None,
            tag: None,
            json: false,
        }
    }
}

/// Which attestations go with the wheels.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Attestations {
    /// Those that lie beside the wheels.
    AsFound,
    /// One for each wheel, or nothing is published.
    Required,
    /// None: for an index that refuses them.
    None,
}

impl From<Attestations> for release_plan::Attestations {
    fn from(wanted: Attestations) -> Self {
        match wanted {
            Attestations::AsFound => Self::AsFound,
            Attestations::Required => Self::Required,
            Attestations::None => Self::Ignored,
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    is_published: bool,
    index: PathBuf,
    max_file_bytes: u64,
    files: Vec<File>,
    n_attestations: usize,
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
        Plan::from_this_tree().check_tag(tag)?;
    }
    let index = args.index.clone().unwrap_or_else(|| args.dir.join("index"));
    let order = Order {
        folder: &args.dir,
        index: &index,
        max_file_bytes: args.max_file_mib << 20,
        attestations: args.attestations.into(),
        is_upload: args.execute,
    };
    let ready = prepare(&order)?;
    let max_file_bytes = order.max_file_bytes;
    let mut warnings = ready.warnings.clone();
    if args.execute {
        upload(context, &ready, args)?;
    } else {
        warnings.push("dry run: nothing was uploaded (--execute does)".to_owned());
    }
    let files = ready
        .listed
        .iter()
        .map(|file| File {
            name: file.file_name.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
        })
        .collect();
    let report = Report {
        is_published: args.execute,
        index,
        max_file_bytes,
        files,
        n_attestations: ready.attestations.len(),
        missing: ready.missing,
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

/// Tests run it against a server of their own; the public index needs an account.
fn upload(context: &Context, ready: &Ready, args: &Args) -> Result<()> {
    let uv = setup::python_tools(context, UPLOADER)?.join("uv");
    let mut line = vec!["publish".to_owned(), "--trusted-publishing=automatic".to_owned()];
    line.extend(args.publish_url.iter().map(|url| format!("--publish-url={url}")));
    line.extend(args.check_url.iter().map(|url| format!("--check-url={url}")));
    if args.attestations == Attestations::None {
        line.push("--no-attestations".to_owned());
    }
    // uv sends an attestation that is among the files it is given, and does not look beside them.
    let files = ready.wheels.iter().chain(&ready.attestations);
    line.extend(files.map(|file| file.display().to_string()));
    context.ui.step("Upload the wheels", |step| step.run(cmd(uv, line)))
}
