//! Sandboxes that go on from a running one, and from a save with memory: how long until they answer, and how
//! long the machine that they come from stands still.

use crate::figure::{Figure, GoalKind};
use crate::host::has_forks;
use anyhow::{Context as _, Result};
use sandbox::save::SaveOptions;
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig, Search};
use serde_json::json;
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

async fn run(sandbox: &Sandbox, command: &str) -> Result<()> {
    let answer = sandbox.execute(ExecuteRequest::new(command)).await?;
    anyhow::ensure!(answer.exit_code == 0, "`{command}` failed: {}", answer.stderr_lossy());
    Ok(())
}

/// What a way of forking takes, in milliseconds.
#[derive(Default)]
struct Times {
    /// To the first answer of one child, with the original idle and at work, and of the last of four.
    one: Vec<f64>,
    beside_work: Vec<f64>,
    four: Vec<f64>,
    /// The original's longest answer meanwhile, and without a fork.
    still: Vec<f64>,
    calm: Vec<f64>,
}

/// A live machine of 512 MiB, whose process is forked, and one whose memory is written to a file.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let search =
        Search { cache_dir: Some(folder.path().to_owned()), ..Search::from_process(Vec::new()) };
    let accelerator = crate::host::accelerator();
    let machine = |warm: &str| {
        let options =
            json!({ "image": "minimal", "accel": accelerator, "memory": "512M", "warm": warm });
        let sandbox = Sandbox::new(SandboxConfig::from_value(options)?);
        Ok::<_, anyhow::Error>(sandbox.with_locator(search.clone()).one_of_many())
    };
    let (live, copied) = (machine("fork")?, machine("off")?);
    if has_forks() {
        live.start().await?;
    }
    copied.start().await?;
    let (mut forked, mut written) = (Times::default(), Times::default());
    let (mut saved, mut resumed) = (vec![], vec![]);
    for _ in 0..n_samples {
        if has_forks() {
            forked.measure(&live, true).await?;
        }
        written.measure(&copied, false).await?;
        save(&copied, folder.path(), &mut saved, &mut resumed).await?;
    }
    live.stop().await?;
    copied.stop().await?;
    let name = |way: &str, what: &str| format!("fork of a live machine{way}, {what}");
    let (first, longest, four) =
        ("to the child's first answer", "longest answer of the original", "four children");
    let mut figures = Vec::new();
    if has_forks() {
        figures.extend([
            Figure::new(name("", first), "ms", forked.one)
                .beside("while the original works", forked.beside_work)
                .goal(GoalKind::AtMost, 40.0),
            Figure::new(name("", longest), "ms", forked.still)
                .beside("without a fork", forked.calm)
                .goal(GoalKind::AtMost, 20.0),
            Figure::new(name("", four), "ms", forked.four),
        ]);
    }
    let file = " by its memory in a file";
    figures.extend([
        Figure::new(name(file, first), "ms", written.one)
            .beside("while the original works", written.beside_work),
        Figure::new(name(file, longest), "ms", written.still)
            .beside("without a fork", written.calm),
        Figure::new(name(file, four), "ms", written.four),
        Figure::new("save with memory", "ms", saved),
        Figure::new("start from a save with memory, to the first answer", "ms", resumed),
    ]);
    Ok(figures)
}

impl Times {
    async fn measure(&mut self, parent: &Sandbox, is_forked: bool) -> Result<()> {
        self.calm.push(longest_answer(parent, run(parent, "sleep 0.5")).await?.1 * 1e3);
        let begin = Instant::now();
        let children = fork(parent, 1).await?;
        self.one.push(begin.elapsed().as_secs_f64() * 1e3);
        for child in &children {
            let timing = child.boot_timing().context("there is no timing")?;
            anyhow::ensure!(timing.forked == is_forked, "{:?}", timing.unforked_reason);
        }
        stop(children).await?;
        let begin = Instant::now();
        let (children, longest) = longest_answer(parent, fork(parent, 1)).await?;
        self.beside_work.push(begin.elapsed().as_secs_f64() * 1e3);
        self.still.push(longest * 1e3);
        stop(children).await?;
        let begin = Instant::now();
        let children = fork(parent, 4).await?;
        self.four.push(begin.elapsed().as_secs_f64() * 1e3);
        stop(children).await
    }
}

/// Saves a machine with its memory and starts another from that.
async fn save(
    sandbox: &Sandbox,
    folder: &Path,
    saved: &mut Vec<f64>,
    resumed: &mut Vec<f64>,
) -> Result<()> {
    let save =
        SaveOptions { workspace: Some(folder.into()), memory: true, ..SaveOptions::default() };
    let begin = Instant::now();
    sandbox.save("going", &save).await?;
    saved.push(begin.elapsed().as_secs_f64() * 1e3);
    let (place, accelerator) = (folder.join("going"), crate::host::accelerator());
    let options = json!({ "image": place, "accel": accelerator, "memory": "512M" });
    let begin = Instant::now();
    let again = Sandbox::new(SandboxConfig::from_value(options)?);
    again.start().await?;
    run(&again, "true").await?;
    resumed.push(begin.elapsed().as_secs_f64() * 1e3);
    let timing = again.boot_timing().context("there is no timing")?;
    anyhow::ensure!(timing.warm, "{:?}", timing.cold_reason);
    again.stop().await?;
    Ok(())
}

/// Children that have answered.
async fn fork(parent: &Sandbox, n: usize) -> Result<Vec<Sandbox>> {
    let children = parent.fork(NonZeroUsize::new(n).context("no children")?).await?;
    for child in &children {
        run(child, "true").await?;
    }
    Ok(children)
}

async fn stop(sandboxes: Vec<Sandbox>) -> Result<()> {
    for sandbox in sandboxes {
        sandbox.stop().await?;
    }
    Ok(())
}

/// Has the guest answer one command after another while work is done; gives the longest that one took, in
/// seconds.
async fn longest_answer<T>(
    sandbox: &Sandbox,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, f64)> {
    let (is_done, longest) = (Cell::new(false), Cell::new(0f64));
    let asking = async {
        while !is_done.get() {
            let begin = Instant::now();
            run(sandbox, "true").await?;
            longest.set(longest.get().max(begin.elapsed().as_secs_f64()));
        }
        Ok::<_, anyhow::Error>(())
    };
    let work = async {
        let done = work.await;
        is_done.set(true);
        done
    };
    let (done, asked) = tokio::join!(work, asking);
    asked?;
    Ok((done?, longest.get()))
}
