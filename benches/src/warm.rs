//! Starts from a template, by a fork of a machine that waits and from the image, in one run: to the first
//! answer, what QEMU uses until then, and how quick the machine is later. Also what a template costs, and
//! many forks alive at once.

use crate::figure::{Figure, GoalKind};
use crate::host::has_forks;
use crate::start::cpu_seconds;
use anyhow::{Context as _, Result};
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig, Search, templates};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Later commands of each machine; their median counts.
const N_LATER: usize = 10;
/// Forks that are alive at once.
const N_ALIVE: usize = 100;

/// How a machine begins.
#[derive(Clone, Copy, PartialEq)]
enum StartKind {
    Boot,
    Copy,
    Fork,
}

/// One machine, from the call to the end.
#[derive(Clone, Copy)]
struct Round {
    /// Until the first command has answered.
    answered: f64,
    start: f64,
    cpu: f64,
    later: f64,
}

/// Both images by turns, forked, copied and booted.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    for image in ["minimal", "debian"] {
        let cache = tempfile::tempdir()?;
        let begin = Instant::now();
        round(image, StartKind::Copy, cache.path()).await?;
        let first = begin.elapsed().as_secs_f64();
        let first_fork = if has_forks() {
            let begin = Instant::now();
            round(image, StartKind::Fork, cache.path()).await?;
            Some(begin.elapsed().as_secs_f64())
        } else {
            None
        };
        let (mut forks, mut copies, mut boots) = (vec![], vec![], vec![]);
        for _ in 0..n_samples {
            if has_forks() {
                forks.push(round(image, StartKind::Fork, cache.path()).await?);
            }
            copies.push(round(image, StartKind::Copy, cache.path()).await?);
            boots.push(round(image, StartKind::Boot, cache.path()).await?);
        }
        let figure = |what: &str, unit, part: fn(&Round) -> f64| {
            Figure::new(format!("copy of {image}, {what}"), unit, parts(&copies, part))
                .beside("from the image", parts(&boots, part))
        };
        figures.push(
            figure("to the first answer", "s", |round| round.answered).goal(GoalKind::AtMost, 0.30),
        );
        figures.push(figure("start", "s", |round| round.start));
        let cpu = figure("CPU of QEMU", "s", |round| round.cpu);
        figures.push(match image {
            "debian" => cpu.goal(GoalKind::RatioAtMost, 0.1),
            _ => cpu,
        });
        figures.push(figure("later commands", "ms", |round| round.later));
        let bytes =
            templates::list(&search(cache.path()))?.iter().map(|entry| entry.bytes).sum::<u64>();
        figures.push(Figure::new(format!("template of {image}, first start"), "s", vec![first]));
        figures.push(Figure::new(
            format!("template of {image}, on the disk"),
            "MB",
            vec![bytes as f64 / 1e6],
        ));
        if let Some(first) = first_fork {
            figures.extend(fork_figures(image, &forks, &copies, first));
        }
        if image == "minimal" && has_forks() {
            figures.extend(alive(image, cache.path()).await?);
        }
    }
    Ok(figures)
}

fn parts(rounds: &[Round], part: fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(part).collect()
}

/// Forks beside copies.
fn fork_figures(image: &str, forks: &[Round], copies: &[Round], first: f64) -> [Figure; 5] {
    let figure = |what: &str, unit, part: fn(&Round) -> f64| {
        Figure::new(format!("fork of {image}, {what}"), unit, parts(forks, part))
            .beside("copy", parts(copies, part))
    };
    let limit = if image == "debian" { 60.0 } else { 30.0 };
    [
        figure("to the first answer", "ms", |round| round.answered * 1e3)
            .goal(GoalKind::AtMost, limit),
        figure("start", "ms", |round| round.start * 1e3),
        figure("CPU of QEMU", "s", |round| round.cpu),
        figure("later commands", "ms", |round| round.later),
        Figure::new(format!("fork of {image}, the first"), "s", vec![first]),
    ]
}

/// Many forks at once, all of them alive until the last has answered.
async fn alive(image: &str, cache: &Path) -> Result<Vec<Figure>> {
    let begin = Instant::now();
    let starts: Vec<_> = (0..N_ALIVE)
        .map(|_| {
            let sandbox = sandbox(image, StartKind::Fork, cache);
            tokio::spawn(async move {
                let sandbox = sandbox?;
                sandbox.start().await?;
                command(&sandbox).await?;
                anyhow::ensure!(sandbox.boot_timing().is_some_and(|timing| timing.forked));
                Ok((sandbox, begin.elapsed().as_secs_f64()))
            })
        })
        .collect();
    let (mut machines, mut answered, mut pss) = (vec![], vec![], vec![]);
    for start in starts {
        let (machine, seconds) = start.await??;
        answered.push(seconds);
        machines.push(machine);
    }
    for machine in &machines {
        let pid = machine.pid().context("QEMU has no process id")?;
        pss.push(crate::save::memory(pid, "Pss:")?);
    }
    let last = answered.iter().copied().fold(0.0, f64::max);
    for machine in machines {
        machine.stop().await?;
    }
    let name = |what: &str| format!("{N_ALIVE} forks of {image} alive at once, {what}");
    Ok(vec![
        Figure::new(name("to the last answer"), "s", vec![last]).goal(GoalKind::AtMost, 4.0),
        Figure::new(name("to each answer"), "s", answered),
        Figure::new(name("PSS of each"), "MiB", pss).goal(GoalKind::AtMost, 15.0),
    ])
}

fn search(cache: &Path) -> Search {
    Search { cache_dir: Some(cache.to_owned()), ..Search::from_process(Vec::new()) }
}

fn sandbox(image: &str, kind: StartKind, cache: &Path) -> Result<Sandbox> {
    let warm = if kind == StartKind::Boot { "off" } else { "fork" };
    let options = json!({ "image": image, "accel": crate::host::accelerator(), "warm": warm });
    let sandbox = Sandbox::new(SandboxConfig::from_value(options)?).with_locator(search(cache));
    Ok(if kind == StartKind::Fork { sandbox.one_of_many() } else { sandbox.not_forked() })
}

async fn command(sandbox: &Sandbox) -> Result<f64> {
    let begin = Instant::now();
    let answer = sandbox.execute(ExecuteRequest::new("true")).await?;
    anyhow::ensure!(answer.exit_code == 0, "`true` failed in the guest");
    Ok(begin.elapsed().as_secs_f64())
}

async fn round(image: &str, kind: StartKind, cache: &Path) -> Result<Round> {
    let sandbox = sandbox(image, kind, cache)?;
    let begin = Instant::now();
    sandbox.start().await?;
    let start = begin.elapsed().as_secs_f64();
    command(&sandbox).await?;
    let answered = begin.elapsed().as_secs_f64();
    let cpu = cpu_seconds(sandbox.pid().context("QEMU has no process id")?)?;
    let timing = sandbox.boot_timing().context("there is no timing")?;
    anyhow::ensure!(timing.warm == (kind != StartKind::Boot), "{:?}", timing.cold_reason);
    anyhow::ensure!(timing.forked == (kind == StartKind::Fork), "{:?}", timing.unforked_reason);
    let mut later = vec![];
    for _ in 0..N_LATER {
        later.push(command(&sandbox).await? * 1e3);
    }
    later.sort_by(f64::total_cmp);
    sandbox.stop().await?;
    Ok(Round { answered, start, cpu, later: later[N_LATER / 2] })
}
