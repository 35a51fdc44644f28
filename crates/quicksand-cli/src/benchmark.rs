//! `quicksand benchmark`: how long a machine takes on this host, measured.
//!
//! Owns the measurement and its table; each round is a machine of its own. Nothing is remembered
//! between rounds, so that the first shows what a cold page cache costs.

use crate::{args::BenchmarkArgs, places, report::Failure, threads};
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use serde_json::json;
use std::time::Instant;

/// Later commands of a round; their median is reported.
const N_LATER: usize = 10;

/// One round, in milliseconds.
struct Round {
    start: f64,
    first: f64,
    later: f64,
    stop: f64,
    accelerator: String,
}

/// Measures and prints.
pub fn run(args: &BenchmarkArgs) -> Result<(), Failure> {
    let options = args.machine.to_options(&args.image);
    let config = SandboxConfig::from_value(options).map_err(|error| Failure::sandbox(&error))?;
    let runtime = threads::runtime()?;
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        let round =
            runtime.block_on(measure(config.clone())).map_err(|error| Failure::sandbox(&error))?;
        if !args.json {
            eprintln!("round {number} of {}: started in {:.0} ms", args.rounds, round.start);
        }
        rounds.push(round);
    }
    if args.json {
        println!("{}", to_json(&args.image, &rounds));
    } else {
        print!("{}", table(&rounds));
    }
    Ok(())
}

async fn measure(config: SandboxConfig) -> sandbox::Result<Round> {
    let sandbox = Sandbox::new(config).with_locator(places::search());
    let start = timed(sandbox.start()).await?;
    let first = timed(sandbox.execute(ExecuteRequest::new("true"))).await?;
    let mut later = Vec::new();
    for _ in 0..N_LATER {
        later.push(timed(sandbox.execute(ExecuteRequest::new("true"))).await?);
    }
    let accelerator = sandbox.accelerator().map_or("", |accelerator| accelerator.name());
    let stop = timed(sandbox.stop()).await?;
    Ok(Round { start, first, later: median(later), stop, accelerator: accelerator.to_owned() })
}

/// Milliseconds that something takes.
async fn timed<T>(work: impl Future<Output = sandbox::Result<T>>) -> sandbox::Result<f64> {
    let begin = Instant::now();
    work.await?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// What is measured, each with its figures over the rounds.
fn figures(rounds: &[Round]) -> [(&'static str, Vec<f64>); 4] {
    let column = |of: fn(&Round) -> f64| rounds.iter().map(of).collect();
    [
        ("start", column(|round| round.start)),
        ("first_execute", column(|round| round.first)),
        ("later_execute", column(|round| round.later)),
        ("stop", column(|round| round.stop)),
    ]
}

fn to_json(image: &str, rounds: &[Round]) -> serde_json::Value {
    let mut report = json!({
        "image": image,
        "accelerator": rounds.first().map(|round| round.accelerator.clone()),
        "rounds": rounds.len(),
        "unit": "ms",
    });
    for (name, values) in figures(rounds) {
        report[name] = json!({"median": median(values.clone()), "each": values});
    }
    report
}

fn table(rounds: &[Round]) -> String {
    let mut text = format!("{:<16}{:>10}{:>10}{:>10}\n", "ms", "median", "min", "max");
    for (name, values) in figures(rounds) {
        let (least, most) = values
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(least, most), &x| (least.min(x), most.max(x)));
        let name = name.replace('_', " ");
        text.push_str(&format!("{name:<16}{:>10.1}{least:>10.1}{most:>10.1}\n", median(values)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        for (values, expect) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 2.0], 3.0)]
        {
            assert_eq!(median(values), expect);
        }
    }

    #[test]
    fn each_figure_is_reported_with_its_rounds() {
        let round =
            |start| Round { start, first: 5.0, later: 2.0, stop: 10.0, accelerator: "tcg".into() };
        let rounds = [round(300.0), round(100.0), round(200.0)];
        let report = to_json("minimal", &rounds);
        assert_eq!(report["start"]["median"], 200.0);
        assert_eq!(report["start"]["each"], json!([300.0, 100.0, 200.0]));
        assert_eq!(report["accelerator"], "tcg");
        let text = table(&rounds);
        assert!(text.contains("start                200.0     100.0     300.0"), "{text}");
    }
}
