//! `cargo xtask check`: everything about the tree that needs no machine to be judged.
//!
//! Checks that need nothing but cargo are `xtask-check`'s, which runs alone where no other check is asked for;
//! here is what needs tools from elsewhere.

mod python;

use crate::{context::Context, preflight::Needs, setup};
use anyhow::Result;
use duct::cmd;
use xtask_trials::cross;

/// Which checks to run; all without an argument.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Checks to run; all without an argument.
    #[arg(value_enum)]
    pub checks: Vec<Check>,

    /// Type-check for Windows and macOS, and run the Windows command under Wine, instead.
    #[arg(long, conflicts_with = "checks")]
    pub cross: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Check {
    /// rustfmt finds nothing to change.
    Fmt,
    /// clippy finds nothing to say.
    Clippy,
    /// Licences and sources of dependencies are on the list of deny.toml; advisories where reachable.
    Licences,
    /// Rules of the house: module docs, file sizes, the map, names that must not occur, links; and that
    /// SECURITY.md promises nothing without a test.
    Tidy,
    /// Who may depend on whom, and that the tasks share what they are compiled from with the rest.
    Layering,
    /// ruff and pyright find nothing in the Python, and `quicksand.sync` is what its source gives.
    Python,
    /// The workflows fit their schema, and the security scanner zizmor finds nothing in them.
    Workflows,
}

const ALL: [Check; 7] = [
    Check::Fmt,
    Check::Tidy,
    Check::Layering,
    Check::Python,
    Check::Licences,
    Check::Workflows,
    Check::Clippy,
];

/// Linter and scanner of workflows. Neither asks a network: the schema is part of the linter.
const WORKFLOW_TOOLS: &[&str] = &["check-jsonschema==0.39.0", "zizmor==1.32.0"];

pub fn needs(context: &Context, args: &Args) -> Needs {
    if args.cross {
        return cross::needs(context);
    }
    let wants = |check| args.checks.is_empty() || args.checks.contains(&check);
    let mut needs = Needs { compiles: wants(Check::Clippy), ..Needs::default() };
    if wants(Check::Python) {
        needs = needs.and(python::needs(context));
    }
    if wants(Check::Workflows) {
        needs = needs.and(setup::needs_of_python_tools(context, WORKFLOW_TOOLS));
    }
    needs
}

/// Runs the checks and fails when any of them found something.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    if args.cross {
        return cross::run(context);
    }
    let checks = if args.checks.is_empty() { &ALL[..] } else { &args.checks[..] };
    for check in checks {
        match check {
            Check::Fmt => xtask_check::run(context, "fmt")?,
            Check::Tidy => xtask_check::run(context, "tidy")?,
            Check::Layering => xtask_check::run(context, "layering")?,
            Check::Licences => xtask_check::run(context, "licences")?,
            Check::Clippy => xtask_check::run(context, "clippy")?,
            Check::Python => python::run(context)?,
            Check::Workflows => {
                let tools = setup::python_tools(context, WORKFLOW_TOOLS)?;
                context.ui.step("Check the workflows", |step| {
                    let folder = context.root.join(".github/workflows");
                    let mut lint =
                        vec!["--builtin-schema".into(), "vendor.github-workflows".into()];
                    for entry in fs_err::read_dir(&folder)? {
                        lint.push(entry?.path().into_os_string());
                    }
                    step.run(cmd(tools.join("check-jsonschema"), lint))?;
                    step.run(cmd!(tools.join("zizmor"), "--offline", "--no-progress", folder))
                })?;
            }
        }
    }
    Ok(())
}
