//! Sandboxes that go on from a running one, and from a save with memory: how long until they answer, and how
//! long the machine that they come from stands still.

use crate::figure::{Figure, GoalKind};
use anyhow::{Context as _, Result};
use sandbox::save::SaveOptions;
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::json;
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::time::Instant;

async fn run(sandbox: &Sandbox, command: &str) -> Result<()> {
    let answer = sandbox.execute(ExecuteRequest::new(command)).await?;
    anyhow::ensure!(answer.exit_code == 0, "`{command}` failed: {}", answer.stderr_lossy());
    Ok(())
}

/// A live machine of 512 MiB.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let options = json!({ "image": "minimal", "accel": crate::host::accelerator(), "memory": "512M", "warm": "off" });
    let parent = Sandbox::new(SandboxConfig::from_value(options.clone())?);
    parent.start().await?;
    let (mut answered, mut four, mut still, mut calm) = (vec![], vec![], vec![], vec![]);
    let (mut saved, mut resumed) = (vec![], vec![]);
    for _ in 0..n_samples {
        calm.push(longest_answer(&parent, run(&parent, "sleep 0.5")).await?.1 * 1e3);
        let begin = Instant::now();
        let (children, longest) = longest_answer(&parent, fork(&parent, 1)).await?;
        answered.push(begin.elapsed().as_secs_f64() * 1e3);
        still.push(longest * 1e3);
        stop(children).await?;
        let begin = Instant::now();
        let children = fork(&parent, 4).await?;
        four.push(begin.elapsed().as_secs_f64() * 1e3);
        stop(children).await?;
        let save = SaveOptions {
            workspace: Some(folder.path().into()),
            memory: true,
            ..SaveOptions::default()
        };
        let begin = Instant::now();
        parent.save("going", &save).await?;
        saved.push(begin.elapsed().as_secs_f64() * 1e3);
        let place = folder.path().join("going");
        let options =
            json!({ "image": place, "accel": crate::host::accelerator(), "memory": "512M" });
        let begin = Instant::now();
        let again = Sandbox::new(SandboxConfig::from_value(options)?);
        again.start().await?;
        run(&again, "true").await?;
        resumed.push(begin.elapsed().as_secs_f64() * 1e3);
        let timing = again.boot_timing().context("there is no timing")?;
        anyhow::ensure!(timing.warm, "{:?}", timing.cold_reason);
        again.stop().await?;
    }
    parent.stop().await?;
    Ok(vec![
        Figure::new("fork of a live machine, to the child's first answer", "ms", answered)
            .goal(GoalKind::AtMost, 40.0),
        Figure::new("fork of a live machine, longest answer of the original", "ms", still)
            .beside("without a fork", calm)
            .goal(GoalKind::AtMost, 20.0),
        Figure::new("fork of a live machine, four children to their answers", "ms", four),
        Figure::new("save with memory", "ms", saved),
        Figure::new("start from a save with memory, to the first answer", "ms", resumed),
    ])
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
