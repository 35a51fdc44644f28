//! Saves and checkpoints: how long a running machine is copied, started again, kept and taken back.

use crate::figure::{Figure, GoalKind};
use anyhow::{Context as _, Result};
use sandbox::save::{self, SaveOptions};
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig, Search};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// MiB that the guest writes before it is saved: noise, which nothing makes smaller.
const N_MIB: usize = 64;

async fn start(options: Value) -> Result<Sandbox> {
    let sandbox = Sandbox::new(SandboxConfig::from_value(options)?);
    sandbox.start().await?;
    Ok(sandbox)
}

async fn run(sandbox: &Sandbox, command: &str) -> Result<()> {
    let answer = sandbox.execute(ExecuteRequest::new(command)).await?;
    anyhow::ensure!(answer.exit_code == 0, "`{command}` failed: {}", answer.stderr_lossy());
    Ok(())
}

/// A save of what was written since the start, beside a plain copy of the same bytes that waits for
/// the disk too; and a start from it, beside one from the image.
pub async fn measure_saves(n_samples: u32) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let options = SaveOptions { workspace: Some(folder.path().into()), ..SaveOptions::default() };
    let compress = SaveOptions { compress: true, ..options.clone() };
    let (mut plain, mut packed, mut copied) = (vec![], vec![], vec![]);
    let sandbox =
        start(json!({ "image": "minimal", "accel": crate::host::accelerator(), "warm": "off" }))
            .await?;
    run(&sandbox, &format!("dd if=/dev/urandom of=/noise bs=1M count={N_MIB} && sync")).await?;
    for _ in 0..n_samples {
        let begin = Instant::now();
        sandbox.save("plain", &options).await?;
        plain.push(begin.elapsed().as_secs_f64());
        copied.push(copy(&folder.path().join("plain/overlays/0.qcow2"))?);
        let begin = Instant::now();
        sandbox.save("packed", &compress).await?;
        packed.push(begin.elapsed().as_secs_f64());
    }
    sandbox.stop().await?;
    let (mut resumed, mut fresh) = (vec![], vec![]);
    let image =
        save::validate(&folder.path().join("plain")).map(|_| folder.path().join("plain"))?;
    let image = image.to_str().context("the temporary folder's name is no text")?.to_owned();
    for _ in 0..n_samples {
        for (image, times) in [(image.as_str(), &mut resumed), ("minimal", &mut fresh)] {
            let begin = Instant::now();
            let sandbox = start(
                json!({ "image": image, "accel": crate::host::accelerator(), "warm": "off" }),
            )
            .await?;
            run(&sandbox, "true").await?;
            times.push(begin.elapsed().as_secs_f64());
            sandbox.stop().await?;
        }
    }
    Ok(vec![
        Figure::new(format!("save {N_MIB} MiB"), "s", plain)
            .beside("copy and fsync", copied.clone())
            .goal(GoalKind::RatioAtMost, 3.0),
        Figure::new(format!("save {N_MIB} MiB, compressed"), "s", packed)
            .beside("copy and fsync", copied),
        Figure::new("resume from a save", "s", resumed)
            .beside("start from the image", fresh)
            .goal(GoalKind::RatioAtMost, 1.1),
    ])
}

/// Seconds for a copy of a file that is on the disk at its end.
fn copy(file: &Path) -> Result<f64> {
    let beside = file.with_extension("copy");
    let begin = Instant::now();
    fs_err::copy(file, &beside)?;
    fs_err::File::open(&beside)?.file().sync_all()?;
    let seconds = begin.elapsed().as_secs_f64();
    fs_err::remove_file(beside)?;
    Ok(seconds)
}

/// Checkpoints of machines of two sizes, to the first answer after each: on the disk, and in memory of
/// machines that are forks.
pub async fn measure_checkpoints(n_samples: u32) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let search =
        Search { cache_dir: Some(folder.path().to_owned()), ..Search::from_process(Vec::new()) };
    let mut figures = vec![];
    let in_memory = if crate::host::has_forks() { ["512M", "2G"].as_slice() } else { &[] };
    let on_disk = ["512M", "2G"].iter().map(|memory| (*memory, "off"));
    for (memory, warm) in on_disk.chain(in_memory.iter().map(|memory| (*memory, "fork"))) {
        let options = json!({
            "image": "minimal", "accel": crate::host::accelerator(), "warm": warm, "memory": memory,
        });
        let sandbox = Sandbox::new(SandboxConfig::from_value(options)?);
        let sandbox = sandbox.with_locator(search.clone()).one_of_many();
        sandbox.start().await?;
        run(&sandbox, "dd if=/dev/urandom of=/dev/shm/noise bs=1M count=32").await?;
        let (mut kept, mut back) = (vec![], vec![]);
        for _ in 0..n_samples {
            let begin = Instant::now();
            sandbox.checkpoint("bench").await?;
            run(&sandbox, "true").await?;
            kept.push(begin.elapsed().as_secs_f64());
            let begin = Instant::now();
            sandbox.revert("bench").await?;
            run(&sandbox, "true").await?;
            back.push(begin.elapsed().as_secs_f64());
        }
        sandbox.stop().await?;
        let (place, goal) = if warm == "fork" { (" in memory", 0.05) } else { ("", 5.0) };
        let name = |what: &str| format!("{what}{place}, {memory}");
        figures.push(Figure::new(name("checkpoint"), "s", kept).goal(GoalKind::AtMost, goal));
        figures.push(Figure::new(name("revert"), "s", back).goal(GoalKind::AtMost, goal));
    }
    Ok(figures)
}

/// A machine that does nothing: its share of a processor, and the memory that is its own.
pub async fn measure_idle(n_samples: u32) -> Result<Vec<Figure>> {
    let (mut cpu, mut rss, mut pss) = (vec![], vec![], vec![]);
    let sandbox =
        start(json!({ "image": "minimal", "accel": crate::host::accelerator(), "warm": "off" }))
            .await?;
    run(&sandbox, "true").await?;
    let pid = sandbox.pid().context("QEMU has no process id")?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    for _ in 0..n_samples {
        let (begin, before) = (Instant::now(), crate::start::cpu_seconds(pid)?);
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        let used = crate::start::cpu_seconds(pid)? - before;
        cpu.push(100.0 * used / begin.elapsed().as_secs_f64());
        rss.push(memory(pid, "Rss:")?);
        pss.push(memory(pid, "Pss:")?);
    }
    sandbox.stop().await?;
    Ok(vec![
        Figure::new("idle minimal, CPU of QEMU", "% of a core", cpu).goal(GoalKind::AtMost, 1.0),
        Figure::new("idle minimal, RSS of QEMU", "MiB", rss),
        Figure::new("idle minimal, PSS of QEMU", "MiB", pss),
    ])
}

/// A line of /proc/PID/smaps_rollup, in MiB.
pub fn memory(pid: u32, name: &str) -> Result<f64> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
