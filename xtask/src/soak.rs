//! `cargo xtask soak`: eight sandboxes at once for as long as one likes, watched for growth.
//!
//! The work and the judgement are `tests/vm/src/bin/soak.rs`'s; here it gets its wheels.

use crate::{context::Context, dist, environment, preflight::Needs, test, ui::hinted};
use anyhow::Result;
use duct::cmd;
use runtime_builder::Profile;
use std::path::PathBuf;

/// For how long, and where the figures go.
#[derive(clap::Args)]
pub struct Args {
    /// Minutes of work
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,

    /// Write the figures to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the work needs: the wheels and an environment with them.
pub fn needs(context: &Context) -> Needs {
    dist::needs(context, dist::IMAGES, Profile::Dev)
        .and(environment::needs(context, test::PYTHON_TOOLS))
}

/// Works, and prints the figures as JSON.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let environment = test::installed(context)?;
    // All packages are named, so that nothing is compiled a second time with other features.
    cmd!("cargo", "build", "--quiet", "--workspace", "--bin", "soak").dir(&context.root).run()?;
    let mut line = vec![args.minutes.to_string()];
    if let Some(json) = &args.json {
        line.extend(["--json".to_owned(), std::path::absolute(json)?.display().to_string()]);
    }
    let mut soak = cmd(context.root.join("target/debug/soak"), line).unchecked();
    for (name, value) in environment.variables() {
        soak = soak.env(name, value);
    }
    if soak.run()?.status.success() {
        return Ok(());
    }
    Err(hinted("The soak found something", "`findings` in the figures above say what"))
}
