//! How long a call waits for a guest: a command once its own time is over, and a transfer of files.
//!
//! The guest keeps a command's time and tells its end; this is for a guest that cannot, or that has no
//! wish to. Invariant: neither silence, nor output that never ends, nor bytes that come one a minute
//! keep a call for ever. The time that a slow receiver or source of the host takes is not the guest's.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// What the guest may take of the host's time after a command's own.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 10_000 });
/// What may come after that time, for a receiver that is slow to take it.
const MAX_LATE: usize = 256 << 20;
/// What a chunk of output counts at least.
const LEAST: usize = 4096;

/// How long a call may take whose command has this limit.
pub(crate) fn with_grace(timeout: Option<Duration>) -> Option<Duration> {
    timeout.map(|timeout| timeout.saturating_add(GRACE))
}

/// Waits for the guest so long; without a limit until it answers.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    wait: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(limit) = limit else { return wait.await };
    let silent = Err(Error::GuestSilent { timeout: limit });
    tokio::time::timeout(limit, wait).await.unwrap_or(silent)
}

/// The end of one command's time, and what the guest has taken since.
pub(crate) struct Deadline {
    /// `None` is never.
    at: Option<Instant>,
    timeout: Duration,
    waited: Duration,
    late: usize,
}

impl Deadline {
    /// For a command that may run so long from now on.
    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        let timeout = timeout.unwrap_or(Duration::MAX);
        let at = Instant::now().checked_add(timeout);
        Self { at, timeout, waited: Duration::ZERO, late: 0 }
    }

    /// Waits for the guest.
    pub(crate) async fn wait<T>(&mut self, wait: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(at) = self.at else { return wait.await };
        let timeout = self.timeout.saturating_add(GRACE);
        let begin = at.max(Instant::now());
        let rest = GRACE.saturating_sub(self.waited);
        let result = tokio::time::timeout_at((begin + rest).into(), wait).await;
        self.waited += Instant::now().saturating_duration_since(begin);
        match result {
            // What is always there at once is never too late by the clock of a single wait.
            Ok(result) if !rest.is_zero() => result,
            _ => Err(Error::GuestSilent { timeout }),
        }
    }

    /// Takes note of output.
    pub(crate) fn note(&mut self, data: &Bytes) -> Result<()> {
        if self.at.is_some_and(|at| at <= Instant::now()) {
            self.late = self.late.saturating_add(data.len().max(LEAST));
        }
        if self.late > MAX_LATE {
            let reason = "the command's time is over, and its output does not end".into();
            return Err(Error::AgentBroken { reason });
        }
        Ok(())
    }
}

/// How long the guest may let a transfer rest.
pub(crate) const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 400 } else { 60_000 });
/// How long a transfer may wait for the guest in all, besides the time for what it moves.
const SLACK: Duration = Duration::from_millis(if cfg!(test) { 2_000 } else { 300_000 });
/// What a transfer must move a second beyond that, on average: far less than the slowest guest does.
const BYTES_PER_SECOND: u64 = 256 << 10;
/// What each file, folder, link, hole and piece counts at least.
pub(crate) const PIECE: u64 = 4096;

/// What one transfer has waited for the guest, and what it has moved.
#[derive(Default)]
pub(crate) struct Pace {
    waited: Duration,
    n_bytes: u64,
}

impl Pace {
    /// Waits for the guest to give or take something.
    pub(crate) async fn wait<T>(&mut self, wait: impl Future<Output = T>) -> Result<T> {
        let rest = self.rest();
        let limit = rest.min(PATIENCE);
        let begin = tokio::time::Instant::now();
        let result = tokio::time::timeout(limit, wait).await;
        // A host that stood still meanwhile is no fault of the guest's.
        self.waited += begin.elapsed().min(limit);
        match result {
            Ok(result) if !rest.is_zero() => Ok(result),
            Err(_) if limit == PATIENCE => Err(Error::GuestSilent { timeout: PATIENCE }),
            _ => Err(Error::AgentBroken {
                reason: format!(
                    "the transfer went on at less than {} KiB a second for more than {} s",
                    BYTES_PER_SECOND >> 10,
                    SLACK.as_secs()
                ),
            }),
        }
    }

    /// Takes note of what was moved.
    pub(crate) fn moved(&mut self, n_bytes: u64) {
        self.n_bytes = self.n_bytes.saturating_add(n_bytes);
    }

    /// How long the transfer may still wait.
    fn rest(&self) -> Duration {
        let earned = Duration::from_secs_f64(self.n_bytes as f64 / BYTES_PER_SECOND as f64);
        SLACK.saturating_add(earned).saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_command_and_endless_output_end_in_time() {
        let never = || std::future::pending::<Result<()>>();
        let mut silent = Deadline::after(Some(Duration::ZERO));
        let begin = tokio::time::Instant::now();
        let error = silent.wait(never()).await.unwrap_err();
        assert!(matches!(error, Error::GuestSilent { timeout } if timeout == GRACE), "{error}");
        assert!(begin.elapsed() <= GRACE + Duration::from_millis(1));
        // The next one does not get the grace again.
        silent.waited = GRACE;
        assert!(silent.wait(async { Ok(()) }).await.is_err(), "what is there at once");
        // In time, anything is right.
        let mut early = Deadline::after(Some(Duration::from_secs(1000)));
        early.waited = GRACE / 2;
        assert!(early.wait(async { Ok(()) }).await.is_ok());
        for _ in 0..3 {
            early.note(&Bytes::from(vec![0; MAX_LATE])).unwrap();
        }
        assert_eq!(early.late, 0);
        // Afterwards even chunks of nothing add up.
        let mut late = Deadline::after(Some(Duration::ZERO));
        let n_chunks = (0..).find(|_| late.note(&Bytes::new()).is_err()).unwrap();
        assert_eq!(n_chunks, MAX_LATE / LEAST);
        assert!(Deadline::after(Some(Duration::MAX)).at.is_none());
        assert!(Deadline::after(None).at.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_limit_waits_as_long_as_its_command() {
        let years = || async {
            tokio::time::sleep(Duration::from_secs(300_000_000)).await;
            Ok(())
        };
        let limit = with_grace(Some(Duration::from_secs(1)));
        assert_eq!(limit, Some(Duration::from_secs(1) + GRACE));
        let error = within(limit, years()).await.unwrap_err();
        assert!(matches!(error, Error::GuestSilent { .. }), "{error}");
        assert_eq!(with_grace(Some(Duration::MAX)), Some(Duration::MAX));
        assert_eq!(with_grace(None), None);
        within(None, years()).await.unwrap();
    }

    /// Bytes that come one by one end a transfer; those that come at a fair pace, or late for the host's
    /// own sake, never do.
    #[tokio::test(start_paused = true)]
    async fn a_transfer_keeps_a_pace() {
        let tick = PATIENCE / 2;
        let mut dripping = Pace::default();
        let begin = tokio::time::Instant::now();
        let error = loop {
            match dripping.wait(tokio::time::sleep(tick)).await {
                Ok(()) => dripping.moved(PIECE),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("256 KiB a second"), "{error}");
        assert!((SLACK..SLACK * 2).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        // Once it is too late, what is there at once is too late as well.
        assert!(dripping.wait(async {}).await.is_err());
        let mut fair = Pace::default();
        for _ in 0..1000 {
            fair.wait(tokio::time::sleep(tick)).await.unwrap();
            fair.moved(BYTES_PER_SECOND);
            tokio::time::sleep(SLACK).await;
        }
        let error = fair.wait(tokio::time::sleep(PATIENCE * 2)).await.unwrap_err();
        assert!(matches!(error, Error::GuestSilent { timeout: PATIENCE }), "{error}");
    }
}
