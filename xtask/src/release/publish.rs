//! `cargo xtask release publish DIR`: checks what an index would refuse and writes an index of our
//! own. Uploads only with `--execute`.

use crate::{context::Context, setup};
use anyhow::Result;
use duct::cmd;
use release_plan::{Order, Plan, stage};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The public index's default limit for one file.
const MAX_FILE_MIB: u64 = 100;

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
#[derive(Clone, Copy, clap::ValueEnum)]
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
    let index = args.index.clone().unwrap_or_else(|| args.dir.join("index"));
    let order = Order {
        folder: &args.dir,
        index: &index,
        max_file_bytes: args.max_file_mib << 20,
        linux_tags: match args.linux_tags {
            LinuxTags::AsIs => release_plan::LinuxTags::AsIs,
            LinuxTags::Manylinux => release_plan::LinuxTags::Manylinux,
        },
        is_upload: args.execute,
    };
    let staged = stage(&order)?;
    let max_file_bytes = order.max_file_bytes;
    let mut warnings = staged.warnings.clone();
    if args.execute {
        upload(context, &staged.wheels, args)?;
    } else {
        warnings.push("dry run: nothing was uploaded (--execute does)".to_owned());
    }
    let files = staged
        .listed
        .iter()
        .map(|file| File {
            name: file.file_name.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
        })
        .collect();
    let missing = staged.missing.clone();
    let report =
        Report { is_published: args.execute, index, max_file_bytes, files, missing, warnings };
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

/// Not run by any test: it needs an account.
fn upload(context: &Context, wheels: &[PathBuf], args: &Args) -> Result<()> {
    let uv = setup::python_tools(context, UPLOADER)?.join("uv");
    let mut line = vec!["publish".to_owned(), "--trusted-publishing=automatic".to_owned()];
    line.extend(args.publish_url.iter().map(|url| format!("--publish-url={url}")));
    line.extend(args.check_url.iter().map(|url| format!("--check-url={url}")));
    line.extend(wheels.iter().map(|wheel| wheel.display().to_string()));
    context.ui.step("Upload the wheels", |step| step.run(cmd(uv, line)))
}
