//! `cargo xtask`: one file per task, each a thin plan that composes the crates.
//!
//! Results go to stdout, progress to stderr. Exit codes: 0 all went well, 1 a task failed, 2 the
//! command line was wrong.

mod audit;
mod bake;
mod bench;
mod bills;
mod build_runtime;
mod check;
mod demo;
mod dist;
mod environment;
mod fuzz;
mod image;
mod merge_fat;
mod newcomer;
mod release;
mod retag;
mod soak;
mod test;
mod verify;

use clap::{Parser, Subcommand};
use qemu_builder::installation as bundle;
use xtask_base::{cache, context, side_by_side, ui};
use xtask_host::{preflight, setup};

/// Builds, bakes, packs, tests and measures quicksand.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    /// Use only what the caches already hold; never ask a registry.
    #[arg(long, global = true)]
    offline: bool,

    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Set everything up, make all wheels, install them in a new environment and run the quick start.
    Demo(demo::Args),
    /// Set everything up and run the tests: unit, it, vm, python (all without an argument).
    Test(test::Args),
    /// Format, clippy, licences and sources, tidy and layering, Python, workflows.
    Check(check::Args),
    /// Build QEMU from pinned source and pack its wheel.
    BuildQemu(qemu_builder::Args),
    /// Build the runtime's wheel as it ships.
    BuildRuntime(build_runtime::Args),
    /// Make an installed QEMU relocatable, in the layout of our wheel.
    Bundle(bundle::Args),
    /// Bake an image from its recipe and pack its wheel.
    Bake(bake::Args),
    /// Look into images and compare them.
    Image(image::Args),
    /// Make every wheel that this host can make, into dist/.
    Dist(dist::Args),
    /// Say the lowest true platform tag of wheels, folders and binaries, and refuse false ones.
    Audit(audit::Args),
    /// Find what installers let pass: RECORD, names, tags, modes, paths, the archive itself.
    Verify(verify::Args),
    /// Add the tags under which image wheels ship as well.
    Retag(retag::Args),
    /// Put the binaries of win_arm64 into the win_amd64 wheel of QEMU.
    MergeFat(merge_fat::Args),
    /// Plan a release and run its steps.
    Release(release::Args),
    /// Give parsers of foreign bytes hostile input.
    Fuzz(fuzz::Args),
    /// Work in eight sandboxes at once for a time, and look for growth and wrong results.
    Soak(soak::Args),
    /// Measure, and print figures beside their references.
    Bench(bench::Args),
}

impl Task {
    /// What the person calls it, and what it needs from this host; none for a task that needs what it is
    /// compiled with alone.
    fn needs(&self, context: &context::Context) -> Option<(&'static str, preflight::Needs)> {
        Some(match self {
            Self::Demo(_) => ("demo", demo::needs(context)),
            Self::Test(args) => ("test", test::needs(context, args)),
            Self::Check(args) => ("check", check::needs(context, args)),
            Self::BuildQemu(args) => ("build-qemu", qemu_builder::needs(context, args)),
            // Where none are baked, the task says so, and nothing is missing of the host.
            Self::Bake(_) if !cfg!(target_os = "linux") => return None,
            Self::Bake(args) => ("bake", bake::needs(context, args)),
            Self::Dist(_) => (
                "dist",
                dist::needs(context, &dist::published(), runtime_builder::Profile::Release),
            ),
            Self::Soak(_) => ("soak", soak::needs(context)),
            Self::Bench(_) => ("bench", bench::needs(context)),
            _ => return None,
        })
    }
}

/// What the libraries say to do about their errors.
fn hints() -> Vec<ui::HintOf> {
    vec![
        |error| error.downcast_ref::<image_builder::Error>()?.hint(),
        |error| error.downcast_ref::<disk_formats::Error>()?.hint(),
        |error| error.downcast_ref::<bill_of_materials::Error>().map(|error| error.hint()),
        |error| error.downcast_ref::<wheel_retag::Error>()?.hint(),
        |error| error.downcast_ref::<wheel_audit::Error>()?.hint(),
        |error| error.downcast_ref::<corresponding_source::Error>()?.hint(),
        |error| error.downcast_ref::<release_plan::Error>()?.hint(),
        |error| error.downcast_ref::<image_prover::Error>()?.hint(),
        |error| error.downcast_ref::<image_inspect::Error>()?.hint(),
    ]
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    ui::ask_for_hints(hints());
    let Some(task) = cli.task else {
        print!("{}", newcomer::text());
        return std::process::ExitCode::SUCCESS;
    };
    let context = match context::Context::new(cli.offline) {
        Ok(context) => context,
        Err(error) => return ui::report(&error),
    };
    if let Some((name, needs)) = task.needs(&context)
        && let Err(error) = preflight::run(&context, name, &needs)
    {
        return ui::report(&error);
    }
    let outcome = match task {
        Task::Demo(args) => demo::run(&context, &args),
        Task::Test(args) => test::run(&context, &args),
        Task::Check(args) => check::run(&context, &args),
        Task::BuildQemu(args) => qemu_builder::run(&context, &args).map(|wheels| {
            for wheel in wheels {
                println!("{}", wheel.display());
            }
        }),
        Task::BuildRuntime(args) => build_runtime::run(&context, &args),
        Task::Bake(args) => bake::task(&context, &args),
        Task::Image(args) => image::run(&context, &args),
        Task::Dist(args) => dist::run(&context, &args).map(|wheels| {
            for wheel in wheels {
                println!("{}", wheel.display());
            }
        }),
        Task::Bundle(args) => bundle::run(&context, &args),
        Task::Audit(args) => audit::run(&args),
        Task::Verify(args) => verify::run(&args),
        Task::Retag(args) => retag::run(&args),
        Task::MergeFat(args) => merge_fat::run(&args),
        Task::Release(args) => release::run(&context, &args),
        Task::Fuzz(args) => fuzz::run(&context, &args),
        Task::Soak(args) => soak::run(&context, &args),
        Task::Bench(args) => bench::run(&context, &args),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => ui::report(&error),
    }
}
