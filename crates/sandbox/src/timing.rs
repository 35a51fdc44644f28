//! How long each part of a start took.
//!
//! Plain data, filled by `boot`. All times are the host's but for the marks, which are the guest
//! kernel's own.

use std::time::{Duration, Instant};

/// The stages of a start, in their order, as progress callbacks name them.
pub const STAGES: [&str; 4] = ["locate", "prepare", "launch", "boot"];
/// What progress callbacks get when all stages are done.
pub const DONE: &str = "ready";

/// Where the time of a start went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BootTiming {
    /// Finding QEMU and the image, and the accelerator's probe.
    pub locate: Duration,
    /// Checking the image, making the overlay and the command line.
    pub prepare: Duration,
    /// From QEMU's exec to its greeting.
    pub launch: Duration,
    /// From QEMU's greeting to the agent's first answer (and the end of the guest's boot, when
    /// that was to be waited for).
    pub boot: Duration,
    /// Mounting the shares that the configuration names.
    pub mount: Duration,
    /// Whether the guest had booted already: the machine is a copy of a template, or goes on from another
    /// one or from a save with memory.
    pub warm: bool,
    /// Why it has booted, when it need not have.
    pub cold_reason: Option<String>,
    /// Whether its process was made by a fork: of a machine that waits in memory, or of the one whose
    /// child it is.
    pub forked: bool,
    /// Why it was not, when the machine is a copy or goes on from another one.
    pub unforked_reason: Option<String>,
    /// The whole start.
    pub total: Duration,
    /// The guest's own marks (`init`, `root`, `ready`): seconds since its kernel began.
    pub guest_marks: Vec<(String, f64)>,
}

/// Measures stages one after another.
pub(crate) struct Stopwatch {
    start: Instant,
    last: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { start: now, last: now }
    }

    /// The time since the last call.
    pub(crate) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.last, now)
    }

    /// The time since the start.
    pub(crate) fn total(&self) -> Duration {
        self.start.elapsed()
    }
}
