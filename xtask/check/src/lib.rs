//! Rules of the tree that need nothing but its text and cargo's metadata. Each rule is a pure function from data
//! to findings; formatter and clippy are cargo's own. What needs tools from elsewhere is `xtask`'s.

mod circles;
mod features;
mod layering;
mod licences;
mod links;
mod promises;
mod tidy;

use anyhow::{Context as _, Result, bail};
use duct::cmd;
use xtask_base::{context::Context, ui::hinted};

/// The names of the checks that [`run`] knows.
pub const NAMES: [&str; 5] = ["fmt", "clippy", "tidy", "layering", "licences"];

/// Runs one check of this name, and fails when it found something.
pub fn run(context: &Context, name: &str) -> Result<()> {
    match name {
        "fmt" => context.ui.step("Check formatting", |step| {
            step.run(cmd!("cargo", "fmt", "--all", "--check").dir(&context.root))
        }),
        "clippy" => context.ui.step("Check with clippy", |step| {
            let line =
                ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
            step.run(cmd("cargo", line).dir(&context.root))
        }),
        "tidy" => context.ui.step("Check tidiness", |_| conclude(tidy::findings(&context.root)?)),
        "layering" => context.ui.step("Check layering", |_| {
            let mut findings = layering::findings(&metadata(context)?);
            findings.extend(circles::findings(&metadata(context)?)?);
            findings.extend(features::findings(context)?);
            conclude(findings)
        }),
        "licences" => context.ui.step("Check licences and sources", |step| {
            let policy = licences::Policy::read(&context.root.join("deny.toml"))?;
            conclude(licences::findings(&metadata(context)?, &policy))?;
            licences::advisories(context, step)
        }),
        other => bail!("No check is called `{other}`: there are {}", NAMES.join(", ")),
    }
}

fn metadata(context: &Context) -> Result<cargo_metadata::Metadata> {
    let mut command = cargo_metadata::MetadataCommand::new();
    command.manifest_path(context.root.join("Cargo.toml"));
    command.other_options(vec!["--locked".to_owned()]);
    command.exec().context("Failed to read cargo's metadata")
}

fn conclude(findings: Vec<String>) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let list: String = findings.iter().map(|finding| format!("\n    - {finding}")).collect();
    Err(hinted(
        format!("{} finding(s):{list}", findings.len()),
        "the rules and their reasons are in CONTRIBUTING.md",
    ))
}
