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
mod search;
mod watch;

use std::{path::PathBuf, time::Duration};

/// How long a target runs when nobody says: all targets of the test command take a minute.
const USUAL_TIME: Duration = Duration::from_millis(1500);
/// The seed of every run that names none, so that the test command gives the same result twice.
const USUAL_SEED: u64 = 1;
/// Processor time that one input may take.
const MAX_TIME: Duration = Duration::from_secs(4);

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
