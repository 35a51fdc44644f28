//! `execute("true")` beside the guest's own fork and exec of the same command.

use crate::figure::{Figure, GoalKind};
use anyhow::Result;
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::json;
use std::time::Instant;

const N_CALLS: usize = 200;

/// A loop of the guest's shell around the very command that `execute` runs, timed by the guest.
const GUEST_LOOP: &str = "read begin rest < /proc/uptime; i=0; \
    while [ $i -lt 200 ]; do /bin/sh -c true; i=$((i + 1)); done; \
    read end rest < /proc/uptime; echo $begin $end";

/// 200 calls; five loops of 200 in the guest, half before and half after them.
pub async fn measure() -> Result<Vec<Figure>> {
    let options = json!({ "image": "minimal", "accel": crate::host::accelerator(), "warm": "off" });
    let sandbox = Sandbox::new(SandboxConfig::from_value(options)?);
    sandbox.start().await?;
    for _ in 0..20 {
        sandbox.execute(ExecuteRequest::new("true")).await?;
    }
    let mut guest = vec![];
    for _ in 0..3 {
        guest.push(guest_loop(&sandbox).await?);
    }
    let mut ours = vec![];
    for _ in 0..N_CALLS {
        let begin = Instant::now();
        sandbox.execute(ExecuteRequest::new("true")).await?;
        ours.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    for _ in 0..2 {
        guest.push(guest_loop(&sandbox).await?);
    }
    sandbox.stop().await?;
    Ok(vec![
        Figure::new("execute(\"true\")", "ms", ours)
            .beside("fork and exec in the guest", guest)
            .goal(GoalKind::RatioAtMost, 1.5),
    ])
}

/// Milliseconds for one fork and exec in the guest.
async fn guest_loop(sandbox: &Sandbox) -> Result<f64> {
    let answer = sandbox.execute(ExecuteRequest::new(GUEST_LOOP)).await?;
    let text = String::from_utf8(answer.stdout)?;
    let times: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    anyhow::ensure!(times.len() == 2, "The guest's loop printed `{text}`");
    Ok((times[1] - times[0]) * 1e3 / N_CALLS as f64)
}
