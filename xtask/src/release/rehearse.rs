//! `cargo xtask release rehearse`: the whole release on one host, and nothing of it leaves the host.
//!
//! Wheels that this host has made are taken as they are; for each other wheel of the plan a stand-in with
//! a binary of the right format. Then the steps that the workflow calls, in its order, and pip and uv
//! on every host of the installation document's table.

use super::{build, publish, stage::MAX_FILE_MIB};
use crate::{bills, context::Context, setup, ui::hinted};
use anyhow::Result;
use corresponding_source::Owed;
use fs_err as fs;
use release_plan::{hosts::HOSTS, rehearse, stage};
use std::path::PathBuf;
use wheel_retag::wheels_in;

/// How much of it is real.
#[derive(clap::Args)]
pub struct Args {
    /// Build what this host's runner builds first, instead of taking what lies in dist/.
    #[arg(long)]
    build: bool,

    /// Stand-ins for everything: the flow alone, in a minute.
    #[arg(long, conflicts_with = "build")]
    stand_ins: bool,

    /// Where the wheels and the index are written; a temporary folder unless given. It must be empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Plays the release.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let temporary = tempfile::Builder::new().prefix("quicksand-rehearsal-").tempdir()?;
    let out = args.out.clone().unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&out)?;
    if fs::read_dir(&out)?.next().is_some() {
        return Err(hinted(format!("`{}` is not empty", out.display()), "name a new folder"));
    }
    if args.build {
        build::run(context, &build::Args::for_this_host())?;
    }
    let wheels = out.join("wheels");
    let have = if args.stand_ins { Vec::new() } else { real(context)? };
    // Stand-ins are made of nothing. What is owed for the others is known without asking any mirror.
    if !have.is_empty() {
        eprintln!("{}", Owed::by(&have)?.words());
        eprintln!("{} bills of materials are valid CycloneDX", bills::check(context, &have)?);
    }
    let rehearsed = rehearse(&have, &wheels)?;
    eprintln!("{} wheels of this host, {} stand-ins", rehearsed.n_real, rehearsed.n_stand_ins);
    rehearsed.news.iter().for_each(|line| eprintln!("{line}"));
    rehearsed.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    // The hosts of the table are asked with the names of the table; what is uploaded is staged too.
    let staged = stage(&wheels, &out.join("staged"), MAX_FILE_MIB << 20)?;
    eprintln!("{} wheels staged", staged.len());
    let index = out.join("index");
    publish::run(context, &publish::Args::dry(&wheels, &index))?;
    // It has a pip of its own, which the host's Python need not have.
    let installers = setup::python_tools(context, publish::UPLOADER)?;
    context.ui.step("Install on the hosts of the table", |step| {
        step.expect(HOSTS.len() as u64);
        for (number, host) in HOSTS.iter().enumerate() {
            host.try_out(&|what| step.say(what), &installers, &index)?;
            step.reach(number as u64 + 1);
        }
        Ok(())
    })?;
    println!("rehearsed: {} wheels, {} hosts", rehearsed.release.wheels.len(), HOSTS.len());
    Ok(())
}

/// The wheels that this host has made for release: one with a build number is for a first look.
fn real(context: &Context) -> Result<Vec<PathBuf>> {
    let dist = context.dist();
    if !dist.is_dir() {
        return Ok(Vec::new());
    }
    wheels_in(&dist).map_err(Into::into)
}
