//! `cargo xtask release build`: this runner's wheels, or what is in the way of each.

use super::Plan;
use crate::{
    bake, build_qemu,
    context::Context,
    dist,
    retag::this_runner,
    runtime_wheel::{self, Profile},
    ui,
};
use anyhow::Result;
use std::path::PathBuf;
use wheel_retag::Runner;

/// Which runner this is.
#[derive(clap::Args)]
pub struct Args {
    /// The machine of the release that is asked for; an error when this host is another one.
    #[arg(long, value_parser = crate::retag::runner)]
    runner: Option<Runner>,

    /// Print what was made and what is missing as JSON.
    #[arg(long)]
    json: bool,
}

/// Makes what the plan says for this host. Each part is tried, so that the report is whole.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let runner = this_runner()?;
    if let Some(asked) = args.runner.filter(|asked| *asked != runner) {
        return Err(ui::hinted(
            format!("This host is the runner {runner}, not {asked}"),
            format!("run it on {asked}; `cargo xtask release plan` says what each one builds"),
        ));
    }
    let plan = Plan::of_this_tree();
    let is_image_builder = plan.is_built_by(runner, &images_probe(&plan, runner));
    let mut made: Vec<PathBuf> = Vec::new();
    let mut failed: Vec<(String, anyhow::Error)> = Vec::new();
    let mut part = |name: String, outcome: Result<Vec<PathBuf>>| match outcome {
        Ok(wheels) => made.extend(wheels),
        Err(error) => failed.push((name, error)),
    };
    part("quicksand_qemu".to_owned(), build_qemu::run(context, &build_qemu::Args::of_release()));
    part(
        "quicksand_runtime".to_owned(),
        runtime_wheel::build(context, Profile::Release).map(|wheel| vec![wheel]),
    );
    if is_image_builder {
        for image in dist::IMAGES {
            let wheel = bake::run(context, &bake::Args::of(image)).map(|wheel| vec![wheel]);
            part(format!("quicksand_{image}"), wheel);
        }
    }
    if args.json {
        let failed: Vec<serde_json::Value> = failed
            .iter()
            .map(|(name, error)| serde_json::json!({ "part": name, "error": format!("{error:#}") }))
            .collect();
        println!("{}", serde_json::json!({ "runner": runner, "made": made, "failed": failed }));
    } else {
        made.iter().for_each(|wheel| println!("{}", wheel.display()));
    }
    if failed.is_empty() {
        return Ok(());
    }
    for (_, error) in &failed {
        ui::report(error);
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
    Err(ui::hinted(
        format!("{runner} cannot make all of its wheels: {} missing", names.join(", ")),
        "what is in the way of each stands above",
    ))
}

/// The name of an image wheel of that runner, if it builds any.
fn images_probe(plan: &Plan, runner: Runner) -> String {
    let first = dist::IMAGES.first().copied().unwrap_or_default();
    let start = format!("{}-", package_layout::image::package(first));
    let runners = plan.runners.iter().filter(|plan| plan.runner == runner);
    let mut builds = runners.flat_map(|plan| &plan.builds);
    builds.find(|wheel| wheel.starts_with(&start)).cloned().unwrap_or_default()
}
