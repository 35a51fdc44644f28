//! The search: tries the corpus and then changed inputs, and judges what the parser does with each.

use crate::{Target, coverage, findings::Finding, memory, mutate, watch};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// Inputs that reached new code and are kept in memory.
const MAX_KEPT: usize = 4096;

impl Target<'_> {
    pub(crate) fn search(
        &self,
        parse: &mut impl FnMut(&[u8]),
        time: Duration,
        seed: u64,
        corpus: &[Vec<u8>],
    ) -> Result<Report, Finding> {
        let end = Instant::now() + time;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut coverage = coverage::Coverage::new();
        let mut queue: Vec<Vec<u8>> = Vec::new();
        let mut report = Report { n_seeds: corpus.len(), ..Report::default() };
        watch::begin();
        // Without seeds, chance begins with nothing.
        for input in corpus.iter().cloned().chain([Vec::new()]) {
            self.judge(parse, &input)?;
            coverage.take();
            report.n_executions += 1;
            queue.push(input);
        }
        while Instant::now() < end {
            // A look at the clock costs more than most parsers do.
            for _ in 0..16 {
                let input = mutate::mutated(&mut random, &queue, self.words, self.max_input);
                self.judge(parse, &input)?;
                report.n_executions += 1;
                if coverage.take() && queue.len() < MAX_KEPT {
                    queue.push(input);
                    report.n_new += 1;
                }
            }
        }
        report.has_coverage = coverage.is_there();
        Ok(report)
    }

    /// Tries one input.
    pub(crate) fn judge(&self, parse: &mut impl FnMut(&[u8]), input: &[u8]) -> Result<(), Finding> {
        watch::at(self.name, input);
        let before = watch::thread_time();
        let meter = memory::Meter::begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| parse(input)));
        let peak = meter.end();
        let taken = watch::thread_time().saturating_sub(before);
        watch::done(self.name);
        let what = if let Err(panic) = outcome {
            format!("panicked: {}", message(panic.as_ref()))
        } else if taken > self.max_time {
            format!("took {:.1} s", taken.as_secs_f64())
        } else if peak > self.max_memory {
            format!("took {} MiB of memory", peak >> 20)
        } else {
            return Ok(());
        };
        Err(Finding { what, input: input.to_vec() })
    }
}

/// What a search did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    n_executions: u64,
    n_seeds: usize,
    n_new: usize,
    has_coverage: bool,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { n_executions, n_seeds, n_new, has_coverage } = self;
        write!(f, "{n_executions} executions, {n_seeds} seeds")?;
        if *has_coverage {
            write!(f, ", {n_new} inputs reached new code")?;
        }
        write!(f, ", no finding")
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(
        parse: impl FnMut(&[u8]),
        words: &[&[u8]],
        seeds: &[&[u8]],
    ) -> Result<Report, Finding> {
        let mut parse = parse;
        let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
        let target = Target::new("driver").words(words).max_memory(1 << 20);
        target.search(&mut parse, Duration::from_secs(20), 7, &seeds)
    }

    /// A parser as parsers are: a length that is believed.
    fn believes_its_length(input: &[u8]) {
        if input.starts_with(b"LEN:") && input.len() > 6 {
            let length = usize::from(input[4]);
            let _ = &input[5..5 + length];
        }
    }

    #[test]
    fn a_panic_is_found_and_made_small() {
        let finding = search(believes_its_length, &[b"LEN:"], &[b"LEN:\x01abcdefgh"]).unwrap_err();
        assert!(finding.what.contains("panicked"), "{}", finding.what);
        let target = Target::new("driver");
        let mut parse = believes_its_length;
        let small = finding.minimized(|input| target.judge(&mut parse, input).err());
        assert!(small.input.len() == 7 && small.input.starts_with(b"LEN:"), "{:?}", small.input);
    }

    #[test]
    fn memory_beyond_the_limit_is_found() {
        let greedy = |input: &[u8]| {
            if input.first() == Some(&b'!') {
                std::hint::black_box(vec![1u8; 4 << 20]);
            }
        };
        let finding = search(greedy, &[b"!"], &[b"?"]).unwrap_err();
        assert!(finding.what.contains("4 MiB"), "{}", finding.what);
    }

    #[test]
    fn time_beyond_the_limit_is_found() {
        let slow = |input: &[u8]| {
            let end = watch::thread_time() + Duration::from_millis(300);
            while input.len() == 3 && watch::thread_time() < end {
                std::hint::black_box(input);
            }
        };
        let mut target = Target::new("driver");
        target.max_time = Duration::from_millis(200);
        let mut slow = slow;
        let seeds = [b"abc".to_vec()];
        let finding = target.search(&mut slow, Duration::from_secs(20), 7, &seeds).unwrap_err();
        assert!(finding.what.contains("took 0."), "{}", finding.what);
    }

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let inputs = |seed| {
            let mut seen: Vec<Vec<u8>> = Vec::new();
            let target = Target::new("driver");
            let mut parse = |input: &[u8]| {
                if seen.len() < 200 {
                    seen.push(input.to_vec());
                }
            };
            target
                .search(&mut parse, Duration::from_millis(50), seed, &[b"seed".to_vec()])
                .unwrap();
            seen
        };
        let (one, again, other) = (inputs(1), inputs(1), inputs(2));
        let n = one.len().min(again.len());
        assert!(n > 20 && one[..n] == again[..n]);
        assert_ne!(one[..20], other[..20]);
    }
}
