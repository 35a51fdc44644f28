//! `cargo xtask release build`: this runner's wheels, or what is in the way of each.

use crate::{bake, context::Context, retag::this_runner, ui};
use anyhow::Result;
use package_layout::known::published_for;
use qemu_builder::Target;
use release_plan::{Plan, Qemu, image_arch, qemu_of};
use runtime_builder::Profile;
use std::path::PathBuf;
use wheel_retag::Runner;

/// Which runner this is.
#[derive(clap::Args)]
pub struct Args {
    /// The machine of the release that is asked for; an error when this host is another one.
    #[arg(long, value_parser = qemu_builder::runner)]
    runner: Option<Runner>,

    /// Print what was made and what is missing as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whatever runner this host is.
    pub fn for_this_host() -> Self {
        Self { runner: None, json: false }
    }
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
    let plan = Plan::from_this_tree();
    let mut made: Vec<PathBuf> = Vec::new();
    let mut failed: Vec<(String, anyhow::Error)> = Vec::new();
    let mut part = |name: String, outcome: Result<Vec<PathBuf>>| match outcome {
        Ok(wheels) => made.extend(wheels),
        Err(error) => failed.push((name, error)),
    };
    for qemu in qemu_of(runner) {
        let (machine, args) = match qemu {
            Qemu::Built(machine) => {
                (machine, qemu_builder::Args::for_release_target(Target::new(machine)))
            }
            Qemu::Installed(machine) => (machine, qemu_builder::Args::for_installed()),
        };
        part(format!("quicksand_qemu for {machine}"), qemu_builder::run(context, &args));
    }
    for machine in runtime_builder::machines(runner) {
        part(
            format!("quicksand_runtime for {machine}"),
            runtime_builder::build_for(context, Profile::Release, Target::new(machine))
                .map(|wheel| vec![wheel]),
        );
    }
    for image in image_arch(runner).into_iter().flat_map(published_for) {
        let wheel = bake::run(context, &bake::Args::for_image(image)).map(|wheel| vec![wheel]);
        part(format!("quicksand_{image}"), wheel);
    }
    let missing = plan.not_made(runner, &file_names(&made));
    if args.json {
        let failed: Vec<serde_json::Value> = failed
            .iter()
            .map(|(name, error)| serde_json::json!({ "part": name, "error": format!("{error:#}") }))
            .collect();
        let report = serde_json::json!({
            "runner": runner,
            "made": made,
            "failed": failed,
            "missing": missing,
        });
        println!("{report}");
    } else {
        made.iter().for_each(|wheel| println!("{}", wheel.display()));
    }
    if failed.is_empty() {
        return Ok(plan.check_made(runner, &file_names(&made))?);
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

fn file_names(made: &[PathBuf]) -> Vec<String> {
    let names = made.iter().filter_map(|wheel| wheel.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}
