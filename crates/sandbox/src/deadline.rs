//! How long a call waits for a guest once a command's own time is over.
//!
//! The guest keeps a command's time and tells its end; this is for a guest that cannot, or that has no
//! wish to. Invariant: neither silence nor output that never ends keeps a call for ever. The time that
//! a slow receiver takes is not the guest's.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// What the guest may take of the host's time after a command's own.
pub(crate) const GRACE: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 10_000 });
/// What may come after that time, for a receiver that is slow to take it.
const MAX_LATE: usize = 256 << 20;
/// What a chunk of output counts at least.
const LEAST: usize = 4096;

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
    pub(crate) fn after(timeout: Duration) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_and_output_without_end_are_over_in_time() {
        let never = || std::future::pending::<Result<()>>();
        let mut silent = Deadline::after(Duration::ZERO);
        let begin = tokio::time::Instant::now();
        let error = silent.wait(never()).await.unwrap_err();
        assert!(matches!(error, Error::GuestSilent { timeout } if timeout == GRACE), "{error}");
        assert!(begin.elapsed() <= GRACE + Duration::from_millis(1));
        // The next one does not get the grace again.
        silent.waited = GRACE;
        assert!(silent.wait(async { Ok(()) }).await.is_err(), "what is there at once");
        // In time, anything is right.
        let mut early = Deadline::after(Duration::from_secs(1000));
        early.waited = GRACE / 2;
        assert!(early.wait(async { Ok(()) }).await.is_ok());
        for _ in 0..3 {
            early.note(&Bytes::from(vec![0; MAX_LATE])).unwrap();
        }
        assert_eq!(early.late, 0);
        // Afterwards even chunks of nothing add up.
        let mut late = Deadline::after(Duration::ZERO);
        let n_chunks = (0..).find(|_| late.note(&Bytes::new()).is_err()).unwrap();
        assert_eq!(n_chunks, MAX_LATE / LEAST);
        assert!(Deadline::after(Duration::MAX).at.is_none());
    }
}
