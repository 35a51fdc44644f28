//! `cargo xtask image`: what is in images. Finding, reading and comparing them is `image-inspect`'s.

use crate::{context::Context, ui::hinted};
use anyhow::Result;
use image_builder::audit::{self, Advisories};
use image_inspect::{Difference, Image, bills_of};
use runtime_locator::Search;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Explain how two images differ: packages with their versions, files with kind, mode, owner,
    /// size in bytes, package, and what of these changed. Exits with 0 whether or not they differ, unless
    /// --exit-code is given.
    Diff(DiffArgs),

    /// List the components of an image that have known flaws: its packages, its kernel, and what is compiled
    /// into the agent. Exits with 1 when there is one.
    Audit(AuditArgs),
}

#[derive(clap::Args)]
struct DiffArgs {
    /// The image before: a wheel, a qcow2 disk, the folder of an image or a save, or the name of an
    /// image in dist/ or installed, such as debian or, of the other architecture, debian-arm64. Whose a
    /// file is, wheels and installed images say.
    a: String,

    /// The image after, named in the same way.
    b: String,

    /// Exit with 1 when the two differ in a byte of kernel, initrd or disk, as a rebuild must not.
    #[arg(long)]
    exit_code: bool,

    /// Print JSON: `packages`, `files`, the other `parts` that differ, and whether the two are the `same`.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct AuditArgs {
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

pub fn run(context: &Context, args: &Args) -> Result<()> {
    let mut search = Search::from_process(Vec::new());
    search.image_path.push(context.dist());
    match &args.action {
        Action::Diff(args) => diff(&search, args),
        Action::Audit(args) => audit(&search, args),
    }
}

fn diff(search: &Search, args: &DiffArgs) -> Result<()> {
    let difference =
        Difference::between(Image::open(search, &args.a)?, Image::open(search, &args.b)?)?;
    match args.json {
        true => println!("{:#}", difference.json()),
        false => print!("{}", difference.text()),
    }
    if args.exit_code && !difference.is_same() {
        return Err(hinted(
            format!("`{}` and `{}` are not the same image", args.a, args.b),
            "the same lock and the same code give the same bytes: compare the locks, the compiler and its C library",
        ));
    }
    Ok(())
}

/// Prints what was found; an error where a component has a known flaw.
fn audit(search: &Search, args: &AuditArgs) -> Result<()> {
    let report =
        audit::audit(&bills_of(search, &args.image)?, &Advisories::read(&args.advisories)?);
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
