//! Starts from a template beside starts from the image, in one run: to the first answer, what QEMU uses
//! until then, and how quick the machine is later. Also what a template costs.

use crate::figure::{Figure, GoalKind};
use crate::start::cpu_seconds;
use anyhow::{Context as _, Result};

use sandbox::{ExecuteRequest, Sandbox, SandboxConfig, Search, templates};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Later commands of each machine; their median counts.
const N_LATER: usize = 10;

/// One machine, from the call to the end.
#[derive(Clone, Copy)]
struct Round {
    /// Until the first command has answered.
    answered: f64,
    start: f64,
    cpu: f64,
    later: f64,
}

/// Both images by turns, copied and booted.
pub async fn measure(n_samples: u32) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    for image in ["minimal", "debian"] {
        let cache = tempfile::tempdir()?;
        let begin = Instant::now();
        round(image, "auto", cache.path()).await?;
        let first = begin.elapsed().as_secs_f64();
        let (mut copies, mut boots) = (vec![], vec![]);
        for _ in 0..n_samples {
            copies.push(round(image, "auto", cache.path()).await?);
            boots.push(round(image, "off", cache.path()).await?);
        }
        let of = |rounds: &[Round], part: fn(&Round) -> f64| rounds.iter().map(part).collect();
        let figure = |what: &str, unit, part: fn(&Round) -> f64| {
            Figure::new(format!("copy of {image}, {what}"), unit, of(&copies, part))
                .beside("from the image", of(&boots, part))
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
    }
    Ok(figures)
}

fn search(cache: &Path) -> Search {
    Search { cache_dir: Some(cache.to_owned()), ..Search::of_process(Vec::new()) }
}

async fn round(image: &str, warm: &str, cache: &Path) -> Result<Round> {
    let options = json!({ "image": image, "accel": "tcg", "warm": warm });
    let sandbox = Sandbox::new(SandboxConfig::from_value(options)?).with_locator(search(cache));
    let command = || async {
        let begin = Instant::now();
        let answer = sandbox.execute(ExecuteRequest::new("true")).await?;
        anyhow::ensure!(answer.exit_code == 0, "`true` failed in the guest");
        Ok(begin.elapsed().as_secs_f64())
    };
    let begin = Instant::now();
    sandbox.start().await?;
    let start = begin.elapsed().as_secs_f64();
    command().await?;
    let answered = begin.elapsed().as_secs_f64();
    let cpu = cpu_seconds(sandbox.pid().context("QEMU has no process id")?)?;
    let timing = sandbox.boot_timing().context("there is no timing")?;
    anyhow::ensure!(timing.warm == (warm == "auto"), "{:?}", timing.cold_reason);
    let mut later = vec![];
    for _ in 0..N_LATER {
        later.push(command().await? * 1e3);
    }
    later.sort_by(f64::total_cmp);
    sandbox.stop().await?;
    Ok(Round { answered, start, cpu, later: later[N_LATER / 2] })
}
