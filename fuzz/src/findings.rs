//! What broke a parser: the smallest input that still does, and where it is kept.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long an input is made smaller.
const PATIENCE: Duration = Duration::from_secs(5);

/// An input and what it did.
#[derive(Debug)]
pub struct Finding {
    /// What happened, for a message.
    pub what: String,
    /// The bytes.
    pub input: Vec<u8>,
}

impl Finding {
    /// The same finding with parts left out and bytes made zero, as long as something still breaks.
    pub fn minimized(mut self, mut judge: impl FnMut(&[u8]) -> Option<Self>) -> Self {
        let end = Instant::now() + PATIENCE;
        let mut length = self.input.len().next_power_of_two();
        while length > 0 && Instant::now() < end {
            let mut at = 0;
            while at < self.input.len() && Instant::now() < end {
                let mut shorter = self.input.clone();
                shorter.drain(at..(at + length).min(self.input.len()));
                match judge(&shorter) {
                    Some(smaller) => self = smaller,
                    None => at += length,
                }
            }
            length /= 2;
        }
        for at in 0..self.input.len() {
            if self.input[at] != 0 && Instant::now() < end {
                let mut plainer = self.input.clone();
                plainer[at] = 0;
                if let Some(smaller) = judge(&plainer) {
                    self = smaller;
                }
            }
        }
        self
    }
}

/// Where inputs of a target are written: `target/fuzz/NAME`.
pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz")).join(name)
}

/// Writes an input to its place and gives the path.
pub fn write(name: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = folder(name).join(format!("{:016x}", hasher.finish()));
    let written = fs_err::create_dir_all(folder(name)).and_then(|()| fs_err::write(&path, input));
    if let Err(error) = written {
        println!("fuzz {name}: {error}; the input is {:?}", String::from_utf8_lossy(input));
    }
    path
}
