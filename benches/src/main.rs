//! The figures of the runtime. `cargo xtask bench` sets up what is measured and calls this program;
//! it measures ours and the reference by turns in one run, so that a noisy machine disturbs both. It
//! runs on Linux: it reads `/proc`.

mod audit;
mod bake;
mod desktop;
mod execute;
mod figure;
mod fork;
mod greeting;
mod host;
mod network;
mod retag;
mod save;
mod shares;
mod ssh;
mod start;
mod starts;
mod stream;
mod warm;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use figure::Figure;
use serde::Serialize;
use std::path::PathBuf;

/// Measures quicksand beside its references.
#[derive(Parser)]
pub struct Args {
    /// What to measure; all without an argument.
    #[arg(value_enum)]
    names: Vec<Name>,

    /// Samples of each figure; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..))]
    samples: u32,

    /// Also write the figures to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,

    /// Our QEMU's wheel.
    #[arg(long)]
    qemu_wheel: PathBuf,

    /// Our emulator and its firmware folder.
    #[arg(long, num_args = 2)]
    qemu: Vec<PathBuf>,

    /// A Python that has the package `wheel`, which stands beside retag and merge.
    #[arg(long)]
    wheel_python: Option<PathBuf>,

    /// The xtask that audits, auditwheel, and the folder of the corpus.
    #[arg(long, num_args = 3, value_names = ["XTASK", "AUDITWHEEL", "CORPUS"])]
    audit: Vec<PathBuf>,

    /// The xtask that bakes, the workspace's root, the build cache, the repository of the pipeline by hand,
    /// and where the reports of baked images are.
    #[arg(long, num_args = 5, value_names = ["XTASK", "ROOT", "CACHE", "REPOSITORY", "REPORTS"])]
    bake: Vec<PathBuf>,

    /// Root folder of an installed distribution QEMU.
    #[arg(long)]
    reference_root: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Cold start to the first answer, `minimal` and `debian`.
    Start,
    /// 16 machines started at once.
    Starts,
    /// Copies of a template beside starts from the image.
    Warm,
    /// Sandboxes that go on from a running one, and from a save with memory.
    Fork,
    /// `execute("true")` beside the guest's own fork and exec.
    Execute,
    /// The first and later calls of `execute` beside SSH into the same machine.
    Ssh,
    /// 50 MB through `execute` with a callback.
    Stream,
    /// 50 MB, 500 small files and a tree of 2,000 through a share by FUSE, beside SMB, 9p and the guest's
    /// disk.
    Shares,
    /// 50 MB through the guest's network both ways.
    Network,
    /// A save beside a plain copy, and a start from it beside one from the image.
    Save,
    /// Checkpoints and reverts.
    Checkpoint,
    /// Processor and memory of a machine that does nothing.
    Idle,
    /// Pictures of the screen, typing, clicks, and the time until a desktop is there.
    Desktop,
    /// Size of the QEMU wheel and time to the QMP greeting.
    Qemu,
    /// Another tag for an 85 MB wheel, beside cp and Python's tool.
    Retag,
    /// The fat wheel, beside Python's zipfile.
    Merge,
    /// The audit of the pinned corpus, beside auditwheel.
    Audit,
    /// Bakes beside the usual pipeline by hand, our qcow2 beside qemu-img's, overlays, boot marks.
    Bake,
}

/// A figure in the JSON file.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    figure: &'a Figure,
    host: &'a host::Host,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let names = if args.names.is_empty() { Name::value_variants() } else { &args.names };
    let host = host::host();
    let mut figures: Vec<Figure> = vec![];
    for name in names {
        let found = match name {
            Name::Start => runtime.block_on(start::measure(args.samples))?,
            Name::Starts => runtime.block_on(starts::measure())?,
            Name::Warm => runtime.block_on(warm::measure(args.samples))?,
            Name::Fork => runtime.block_on(fork::measure(args.samples))?,
            Name::Execute => runtime.block_on(execute::measure())?,
            Name::Ssh => runtime.block_on(ssh::measure(args.samples))?,
            Name::Stream => runtime.block_on(stream::measure(args.samples))?,
            Name::Shares => runtime.block_on(shares::measure(args.samples))?,
            Name::Network => runtime.block_on(network::measure(args.samples))?,
            Name::Save => runtime.block_on(save::measure_saves(args.samples))?,
            Name::Checkpoint => runtime.block_on(save::measure_checkpoints(args.samples))?,
            Name::Idle => runtime.block_on(save::measure_idle(args.samples))?,
            Name::Desktop => runtime.block_on(desktop::measure(args.samples))?,
            Name::Qemu => greeting::measure(&args)?,
            Name::Retag => retag::measure(&args)?,
            Name::Merge => retag::measure_merge(&args)?,
            Name::Audit => audit::measure(&args)?,
            Name::Bake => bake::measure(&args)?,
        };
        for figure in &found {
            println!("{figure}");
        }
        figures.extend(found);
    }
    if let Some(path) = &args.json {
        let beside = path.with_extension("part");
        let all: Vec<Entry<'_>> = figures.iter().map(|figure| Entry { figure, host }).collect();
        fs_err::write(&beside, serde_json::to_vec_pretty(&all)?)?;
        fs_err::rename(beside, path)?;
    }
    Ok(())
}
