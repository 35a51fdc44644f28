//! `cargo xtask release plan|build|retag|merge|verify|sources|stage|publish|rehearse`: a release, one step a
//! sub-command.
//!
//! What a release is and holds is `release-plan`'s; here are the flags, the builds and the upload. The workflows
//! only call these steps, and so can a person. Nothing leaves the host but by `publish --execute`.

mod build;
mod publish;
mod rehearse;
mod sources;
mod stage;
mod verify;

use crate::{context::Context, merge_fat, retag};
use anyhow::Result;
use release_plan::{Plan, gather, spread};
use std::path::PathBuf;

/// The steps of a release.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(clap::Subcommand)]
enum Step {
    /// Print the whole release as JSON: runners, wheels, retags, merges, what is published.
    Plan(PlanArgs),
    /// Make this runner's wheels.
    Build(build::Args),
    /// Add the other tags of image wheels, as `cargo xtask retag`.
    Retag(retag::Args),
    /// Gather the runners' folders into one and make the fat Windows wheel.
    Merge(MergeArgs),
    /// Verify every wheel, prove its tags, and say which wheels of the plan are missing.
    Verify(verify::Args),
    /// Gather the source that the licences of the wheels' parts ask for, GPL, LGPL and the like, as one archive.
    Sources(sources::Args),
    /// Make the folder of exactly the wheels that are uploaded: checked, complete, under the names that they ship
    /// under.
    Stage(stage::Args),
    /// Check the index's limits and write an index that pip and uv install from; upload nothing
    /// without --execute.
    Publish(publish::Args),
    /// Play all steps on this host, with stand-ins for the wheels of other machines, up to pip and uv on the
    /// hosts of the installation document; nothing is uploaded.
    Rehearse(rehearse::Args),
}

/// Which release.
#[derive(clap::Args)]
struct PlanArgs {
    /// The tag that is to be released: an error when it is not `v` and this tree's version.
    #[arg(long)]
    tag: Option<String>,
}

/// What to merge.
#[derive(clap::Args)]
struct MergeArgs {
    /// The folder with wheels, or with one folder of wheels for each runner, named as the runner.
    dir: PathBuf,

    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one step.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    match &args.step {
        Step::Plan(args) => {
            let plan = Plan::from_this_tree();
            if let Some(tag) = &args.tag {
                plan.check_tag(tag)?;
            }
            println!("{}", serde_json::to_string_pretty(&plan)?);
            Ok(())
        }
        Step::Build(args) => build::run(context, args),
        Step::Retag(args) => retag::run(args),
        Step::Merge(args) => {
            let news = gather(&args.dir)?.into_iter().chain(spread(&args.dir)?);
            news.for_each(|line| eprintln!("{line}"));
            merge_fat::run(&merge_fat::Args { dir: args.dir.clone(), json: args.json })
        }
        Step::Verify(args) => verify::run(context, args),
        Step::Sources(args) => sources::run(context, args),
        Step::Stage(args) => stage::run(args),
        Step::Publish(args) => publish::run(context, args),
        Step::Rehearse(args) => rehearse::run(context, args),
    }
}
