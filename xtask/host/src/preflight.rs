//! Before anything long starts: what a task needs is compared with what the host has, all that is
//! missing is printed in one list, and all packages are installed at once. A run that fails after
//! minutes for a reason that was there at the start is a defect of this module.
//!
//! `needs` is what tasks say, `facts` is what the host is asked, `plan` compares the two and is pure.

mod archives;
mod disk;
mod facts;
mod plan;

pub use crate::needs::{Needs, Registry, Room, RootFileSystem};
use crate::setup;
use anyhow::Result;
use std::time::Instant;
use xtask_base::context::Context;

/// Checks that this host can do the task, installs what is missing, and says what will be done and
/// how long it will take. Says nothing where nothing is to be done.
pub fn run(context: &Context, task: &str, needs: &Needs) -> Result<()> {
    let start = Instant::now();
    let plan = plan::plan(needs, &facts::gather(context, needs));
    if !plan.lines.is_empty() || !plan.problems.is_empty() {
        context.ui.line(&format!("==> Preflight ({:.1} s)", start.elapsed().as_secs_f64()));
        plan.lines.iter().for_each(|line| context.ui.line(&format!("    {line}")));
    }
    if !plan.problems.is_empty() {
        return Err(plan.refusal(task));
    }
    if plan.install.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = plan.install.iter().map(String::as_str).collect();
    setup::ensure_packages(context, &names)?;
    // Some things can be tried only with the packages: user namespaces, virtual environments, pip.
    let plan = plan::plan(needs, &facts::gather(context, needs));
    match plan.problems.is_empty() {
        true => Ok(()),
        false => Err(plan.refusal(task)),
    }
}
