//! Gives a parser of foreign bytes hostile input, judges what it does, and keeps what breaks it.
//!
//! A target is a test beside the parser that calls [`Target::run`]; its seeds are the files of
//! `fuzz/corpus/NAME`, which are all tried first. A panic, an input that takes too long, and one that
//! takes too much memory are findings: the input is made small, written to `target/fuzz/NAME`, and the
//! test fails with its path. Copied into the corpus, it is tried in every run from then on. With
//! coverage (`cargo xtask fuzz --coverage`) inputs that reach new code are mutated further.
//!
//! This crate knows no parser. It runs on stable Rust everywhere; the well-known engines need
//! nightly flags (cargo-fuzz) or programs beside Rust (AFL, honggfuzz).

mod coverage;
mod findings;
mod memory;
mod mutate;
mod watch;

use findings::Finding;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long a target runs when nobody says: all targets of the test command take a minute.
const USUAL_TIME: Duration = Duration::from_millis(1500);
/// The seed of every run that names none, so that the test command gives the same result twice.
const USUAL_SEED: u64 = 1;
/// Processor time that one input may take.
const MAX_TIME: Duration = Duration::from_secs(4);
/// Inputs that reached new code and are kept in memory.
const MAX_KEPT: usize = 4096;

/// A parser and its limits.
pub struct Target<'a> {
    name: &'a str,
    max_input: usize,
    max_memory: usize,
    max_time: Duration,
    words: &'a [&'a [u8]],
}

impl<'a> Target<'a> {
    /// A target of that name: a folder of `fuzz/corpus`.
    pub fn new(name: &'a str) -> Self {
        Self { name, max_input: 4096, max_memory: 64 << 20, max_time: MAX_TIME, words: &[] }
    }

    /// The longest input in bytes (4096 unless this says otherwise).
    pub fn max_input(mut self, bytes: usize) -> Self {
        self.max_input = bytes;
        self
    }

    /// The most memory in bytes that an input may make the parser hold at once (64 MiB).
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.max_memory = bytes;
        self
    }

    /// Words of the format, which chance would not spell.
    pub fn words(mut self, words: &'a [&'a [u8]]) -> Self {
        self.words = words;
        self
    }

    /// Tries the corpus, then changed inputs until the time is over.
    ///
    /// Variables: `QUICKSAND_FUZZ_SECONDS` (1.5), `QUICKSAND_FUZZ_SEED` (1), `QUICKSAND_FUZZ_TRACE`
    /// (write each input down before it is tried, for what ends the whole process).
    ///
    /// # Panics
    /// At the first finding, with the path of its input.
    pub fn run(&self, mut parse: impl FnMut(&[u8])) {
        let seconds = variable("QUICKSAND_FUZZ_SECONDS").and_then(|text| text.parse().ok());
        let time = seconds.map_or(USUAL_TIME, Duration::from_secs_f64);
        let seed = variable("QUICKSAND_FUZZ_SEED").and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(USUAL_SEED);
        let found = self.search(&mut parse, time, seed, &corpus(self.name));
        match found {
            Ok(report) => println!("fuzz {}: {report}, seed {seed}", self.name),
            Err(finding) => {
                let finding = finding.minimized(|input| self.judge(&mut parse, input).err());
                let path = findings::write(self.name, &finding.input);
                panic!(
                    "fuzz {}: {} with the {} bytes of {} (seed {seed}); copy the file to \
                     fuzz/corpus/{} to keep it as a test",
                    self.name,
                    finding.what,
                    finding.input.len(),
                    path.display(),
                    self.name,
                );
            }
        }
    }

    fn search(
        &self,
        parse: &mut impl FnMut(&[u8]),
        time: Duration,
        seed: u64,
        corpus: &[Vec<u8>],
    ) -> Result<Report, Finding> {
        let end = Instant::now() + time;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut coverage = coverage::Coverage::new();
        let mut pool: Vec<Vec<u8>> = Vec::new();
        let mut report = Report { n_seeds: corpus.len(), ..Report::default() };
        watch::begin();
        // Without seeds, chance begins with nothing.
        for input in corpus.iter().cloned().chain([Vec::new()]) {
            self.judge(parse, &input)?;
            coverage.take();
            report.n_executions += 1;
            pool.push(input);
        }
        while Instant::now() < end {
            // A look at the clock costs more than most parsers do.
            for _ in 0..16 {
                let input = mutate::mutated(&mut random, &pool, self.words, self.max_input);
                self.judge(parse, &input)?;
                report.n_executions += 1;
                if coverage.take() && pool.len() < MAX_KEPT {
                    pool.push(input);
                    report.n_new += 1;
                }
            }
        }
        report.has_coverage = coverage.is_there();
        Ok(report)
    }

    /// Tries one input.
    fn judge(&self, parse: &mut impl FnMut(&[u8]), input: &[u8]) -> Result<(), Finding> {
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
struct Report {
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

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The seeds of a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(name);
    let Ok(entries) = fs_err::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs_err::read(path).ok()).collect()
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
