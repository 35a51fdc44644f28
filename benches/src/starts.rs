//! Many machines started at once on one host: how long until the last answers, and what they cost.

use crate::{figure::Figure, start::cpu_seconds};
use anyhow::{Context as _, Result};
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::json;
use std::time::Instant;

const N_MACHINES: usize = 16;

/// One round: its machines stand for its samples.
pub async fn measure() -> Result<Vec<Figure>> {
    let options = json!({ "image": "minimal", "accel": crate::host::accelerator(), "warm": "off", "memory": "128M" });
    let config = SandboxConfig::from_value(options)?;
    let begin = Instant::now();
    let starts: Vec<_> = (0..N_MACHINES)
        .map(|number| {
            let config = config.clone();
            tokio::spawn(async move {
                let sandbox = Sandbox::new(config);
                sandbox.start().await?;
                let command = format!("echo {number}");
                let answer = sandbox.execute(ExecuteRequest::new(command)).await?;
                anyhow::ensure!(answer.stdout_lossy().trim() == number.to_string());
                Ok((sandbox, begin.elapsed().as_secs_f64()))
            })
        })
        .collect();
    let (mut machines, mut answered, mut cpu, mut pss) = (vec![], vec![], vec![], vec![]);
    for start in starts {
        let (machine, seconds) = start.await??;
        answered.push(seconds);
        machines.push(machine);
    }
    for machine in &machines {
        let pid = machine.pid().context("QEMU has no process id")?;
        cpu.push(cpu_seconds(pid)?);
        pss.push(crate::save::memory(pid, "Pss:")?);
    }
    let last = answered.iter().copied().fold(0.0, f64::max);
    let begin = Instant::now();
    for machine in machines {
        machine.stop().await?;
    }
    let stopped = begin.elapsed().as_secs_f64();
    let name = |what: &str| format!("{N_MACHINES} starts at once, {what}");
    Ok(vec![
        Figure::new(name("to each answer"), "s", answered),
        Figure::new(name("to the last answer"), "s", vec![last]),
        Figure::new(name("CPU of each QEMU"), "s", cpu),
        Figure::new(name("PSS of each QEMU"), "MiB", pss),
        Figure::new(name("stop of all"), "s", vec![stopped]),
    ])
}
