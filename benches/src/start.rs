//! Cold start to the first answer: ours, and the same kernel and root file system booted the usual
//! way (compressed kernel, the distribution's own initramfs, agent as a service).

use crate::figure::{Figure, GoalKind};
use anyhow::{Context as _, Result};
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::{Value, json};
use std::time::Instant;

/// Wall seconds and QEMU's CPU-seconds.
struct Cost {
    wall: f64,
    cpu: f64,
}

/// Both images by turns, each beside its usual way.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    for image in ["minimal", "debian"] {
        let (mut ours, mut usual) = (vec![], vec![]);
        for _ in 0..n_samples {
            ours.push(
                start(
                    json!({ "image": image, "accel": crate::host::accelerator(), "warm": "off" }),
                )
                .await?,
            );
            // The usual way finds its agent as a service over TCP, as images made elsewhere do.
            let name = format!("{image}-usual");
            usual.push(start(json!({ "image": name, "accel": crate::host::accelerator(), "warm": "off", "transport": "tcp", "boot_timeout": 120 })).await?);
        }
        let wall = |costs: &[Cost]| costs.iter().map(|cost| cost.wall).collect::<Vec<_>>();
        let cpu = |costs: &[Cost]| costs.iter().map(|cost| cost.cpu).collect::<Vec<_>>();
        figures.push(
            Figure::new(format!("start {image}, wall"), "s", wall(&ours))
                .beside("usual way", wall(&usual))
                .goal(GoalKind::RatioAtMost, 1.0 / 3.0),
        );
        figures.push(
            Figure::new(format!("start {image}, CPU of QEMU"), "s", cpu(&ours))
                .beside("usual way", cpu(&usual))
                .goal(GoalKind::RatioAtMost, 1.0 / 3.0),
        );
        if image == "minimal" {
            let figure = Figure::new("start minimal, CPU of QEMU", "s", cpu(&ours));
            figures.push(figure.goal(GoalKind::AtMost, 2.5));
        }
    }
    Ok(figures)
}

async fn start(options: Value) -> Result<Cost> {
    let sandbox = Sandbox::new(SandboxConfig::from_value(options)?);
    let begin = Instant::now();
    sandbox.start().await?;
    let answer = sandbox.execute(ExecuteRequest::new("true")).await?;
    let wall = begin.elapsed().as_secs_f64();
    anyhow::ensure!(answer.exit_code == 0, "`true` failed in the guest");
    let cpu = cpu_seconds(sandbox.pid().context("QEMU has no process id")?)?;
    sandbox.stop().await?;
    Ok(Cost { wall, cpu })
}

/// User and system time of a process (proc_pid_stat(5), fields 14 and 15).
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold blanks; the fields after it do not.
    let after_name = text.rsplit_once(')').context("/proc/PID/stat has no name")?.1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
