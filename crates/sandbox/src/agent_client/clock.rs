//! Tells the guest the time after its machine stood still: the guest's clock did not go meanwhile.

use super::AgentClient;
use super::disk::is_unknown;
use agent_protocol::{ClockRequest, ClockResponse, paths};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the guest may take to hear it. One that hangs keeps nobody waiting for longer.
const TIME: Duration = Duration::from_secs(5);
/// So far from the host's the guest's clock may be by an answer, which was under way as long as the request: about
/// half of it is what the clock is behind. A copy's first answer takes 40 ms on a quiet host, much more on a busy
/// one at times, and then the clock is set again.
const PRECISION: Duration = Duration::from_millis(80);
const N_TIMES: usize = 3;

impl AgentClient {
    /// Sets the guest's clock to the host's, and gives whether the agent knows how to. A clock that is
    /// behind is no reason to give a machine up: what goes wrong is only logged.
    pub(crate) async fn set_clock(&self) -> bool {
        if self.has_no_clock.load(Ordering::Relaxed) {
            return false;
        }
        for _ in 0..N_TIMES {
            let request = ClockRequest { unix_nanos: unix_nanos() };
            let body = serde_json::to_vec(&request).unwrap_or_default();
            match tokio::time::timeout(TIME, self.ask(paths::CLOCK, body)).await {
                Ok(Ok(answer)) if is_precise(&answer) => break,
                Ok(Ok(_)) => tracing::debug!("the guest heard the time late"),
                Ok(Err(error)) if is_unknown(&error) => {
                    if !self.has_no_clock.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            "the image's agent cannot set the clock, which is behind by as long as the \
                             machine stands still"
                        );
                    }
                    return false;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the guest's clock was not set");
                    break;
                }
                Err(_) => {
                    tracing::debug!("the guest did not hear the time");
                    break;
                }
            }
        }
        true
    }
}

/// Whether the guest's clock, as the answer that just came tells it, is the host's. An agent of an earlier
/// release does not tell.
pub(super) fn is_precise(answer: &[u8]) -> bool {
    let guest = serde_json::from_slice::<ClockResponse>(answer).ok().and_then(|it| it.unix_nanos);
    guest.is_none_or(|guest| guest.abs_diff(unix_nanos()) <= PRECISION.as_nanos() as u64)
}

/// The host's clock, as requests tell it: nanoseconds since 1970.
pub(super) fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_late_is_seen_by_the_answer() {
        let answer = |unix_nanos| {
            serde_json::to_vec(&ClockResponse { ok: true, unix_nanos: Some(unix_nanos) }).unwrap()
        };
        assert!(is_precise(&answer(unix_nanos())));
        for wrong in [unix_nanos() - 120_000_000, unix_nanos() + 120_000_000, 0, u64::MAX] {
            assert!(!is_precise(&answer(wrong)), "{wrong}");
        }
        // An agent that does not tell, and one that answers with something else.
        assert!(is_precise(b"{\"ok\":true}") && is_precise(b"x"));
    }
}
