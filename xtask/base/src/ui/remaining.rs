//! What remains of a task, from what its steps took before: the same host's last run where there was
//! one, else the figures that the plan names. Pure but for the file of durations; it draws nothing.

use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io::Write as _, path::Path, time::Duration};

/// Steps that follow each other, by title, with the processor time in seconds that each takes on a
/// host that never ran it.
pub type Lane = &'static [(&'static str, f64)];

/// What steps took, by title.
pub type Durations = BTreeMap<String, Took>;

/// What a step took the last time that it had something to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Took {
    /// From its beginning to its end, in seconds, with what ran beside it.
    pub seconds: f64,
    /// The processor time of its thread and its commands, in seconds.
    pub processor_seconds: f64,
}

/// Reads what earlier runs wrote; nothing where there is no such file, or none that can be read.
pub fn read(file: &Path) -> Durations {
    fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Adds to what earlier runs wrote.
pub fn write(file: &Path, new: &Durations) -> Result<()> {
    let mut all = read(file);
    all.extend(new.iter().map(|(title, took)| (title.clone(), *took)));
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(beside, "{}", serde_json::to_string_pretty(&all)?)?;
    beside.persist(file)?;
    Ok(())
}

/// The steps of a task that are still to come or at work.
pub struct Remaining {
    steps: Vec<Planned>,
    n_processors: f64,
}

struct Planned {
    title: &'static str,
    /// The lane that it belongs to.
    lane: usize,
    /// The processor time that it is thought to take, in seconds.
    weight: f64,
    /// How much of it is done, from 0 to 1.
    done: f64,
}

impl Remaining {
    pub fn new(plan: &[Lane], before: &Durations, n_processors: usize) -> Self {
        let steps = plan.iter().enumerate().flat_map(|(lane, steps)| {
            steps.iter().map(move |&(title, usual)| {
                let weight = before.get(title).map_or(usual, |took| took.processor_seconds);
                Planned { title, lane, weight: weight.max(0.1), done: 0.0 }
            })
        });
        Self { steps: steps.collect(), n_processors: n_processors as f64 }
    }

    /// A step has come this far, from 0 to 1. One that was not planned is nothing to us.
    pub fn reach(&mut self, title: &str, done: f64) {
        for step in self.steps.iter_mut().filter(|step| step.title == title) {
            step.done = step.done.max(done.clamp(0.0, 1.0));
        }
    }

    /// The share of a step that was at work for so long, where nothing else tells: never all of it.
    pub fn share(&self, title: &str, elapsed: Duration) -> f64 {
        let step = self.steps.iter().find(|step| step.title == title);
        step.map_or(0.0, |step| (elapsed.as_secs_f64() / step.weight).min(0.9))
    }

    /// The lane has come to its end: what it did not do was in the cache.
    pub fn end(&mut self, lane: usize) {
        self.steps.iter_mut().filter(|step| step.lane == lane).for_each(|step| step.done = 1.0);
    }

    /// How much of all is done, from 0 to 1.
    pub fn done(&self) -> f64 {
        let sum = |part: fn(&Planned) -> f64| self.steps.iter().map(part).sum::<f64>();
        sum(|step| step.weight * step.done) / sum(|step| step.weight).max(0.1)
    }

    /// How long the rest takes, when the task has been at work for so long: a host that was slower
    /// than the plan until now is thought to stay so.
    pub fn left(&self, elapsed: Duration) -> Duration {
        let whole = self.steps.iter().map(|step| step.weight).sum::<f64>() / self.n_processors;
        let done = self.done();
        let slowness = match done {
            // What the first tenth says is mostly noise.
            done if done < 0.1 => 1.0,
            done => (elapsed.as_secs_f64() / (whole * done)).clamp(0.5, 5.0),
        };
        Duration::from_secs_f64(whole * (1.0 - done) * slowness)
    }
}

/// The time in words, as rough as it is known.
pub fn words(left: Duration) -> String {
    match left.as_secs() {
        0..=9 => "some seconds left".to_owned(),
        10..=89 => format!("about {} s left", left.as_secs().div_ceil(10) * 10),
        seconds => format!("about {} min left", (seconds + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &[Lane] = &[&[("a", 100.0), ("b", 40.0)], &[("c", 60.0)]];

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_rest_follows_from_what_is_done_and_how_long_it_took() {
        for (done, elapsed, left) in [
            // Two processors do 200 seconds of work in 100.
            (&[][..], 0, 100),
            (&[("a", 1.0)], 50, 50),
            // Twice as slow as the plan until now.
            (&[("a", 1.0)], 100, 100),
            (&[("a", 0.5), ("c", 0.5)], 40, 60),
            (&[("a", 1.0), ("b", 1.0), ("c", 1.0)], 99, 0),
            (&[("unknown", 1.0)], 7, 100),
        ] {
            let mut remaining = Remaining::new(PLAN, &Durations::new(), 2);
            done.iter().for_each(|(title, done)| remaining.reach(title, *done));
            assert_eq!(remaining.left(seconds(elapsed)), seconds(left), "{done:?}");
        }
        let mut remaining = Remaining::new(PLAN, &Durations::new(), 2);
        remaining.end(0);
        assert_eq!(remaining.done(), 0.7);
        assert_eq!(remaining.share("c", seconds(6)), 0.1);
        assert_eq!(remaining.share("c", seconds(600)), 0.9);
    }

    #[test]
    fn what_the_host_took_before_counts_more_than_the_plan_and_outlives_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("durations.json");
        assert_eq!(read(&file), Durations::new());
        let took = |processor_seconds| Took { seconds: 1.0, processor_seconds };
        write(&file, &Durations::from([("a".to_owned(), took(20.0))])).unwrap();
        write(&file, &Durations::from([("b".to_owned(), took(20.0))])).unwrap();
        let remaining = Remaining::new(PLAN, &read(&file), 1);
        assert_eq!(remaining.left(Duration::ZERO), seconds(100));
        fs::write(&file, "{").unwrap();
        assert_eq!(read(&file), Durations::new());
    }

    #[test]
    fn the_time_is_said_no_finer_than_it_is_known() {
        let all = [3, 14, 61, 100, 170].map(|n| words(seconds(n)));
        let expect = ["some seconds", "about 20 s", "about 70 s", "about 2 min", "about 3 min"];
        assert_eq!(all, expect.map(|words| format!("{words} left")));
    }
}
