//! Tells the guest the time after its machine stood still: the guest's clock did not go meanwhile.

use super::AgentClient;
use super::disk::is_unknown;
use agent_protocol::{ClockRequest, paths};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the guest may take to hear it. One that hangs keeps nobody waiting for longer.
const TIME: Duration = Duration::from_secs(5);

impl AgentClient {
    /// Sets the guest's clock to the host's, and gives whether the agent knows how to. A clock that is
    /// behind is no reason to give a machine up: what goes wrong is only logged.
    pub(crate) async fn set_clock(&self) -> bool {
        if self.has_no_clock.load(Ordering::Relaxed) {
            return false;
        }
        let request = ClockRequest { unix_nanos: unix_nanos() };
        let body = serde_json::to_vec(&request).unwrap_or_default();
        match tokio::time::timeout(TIME, self.ask(paths::CLOCK, body)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if is_unknown(&error) => {
                if !self.has_no_clock.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the image's agent cannot set the clock, which is behind by as long as the \
                         machine stands still"
                    );
                }
                return false;
            }
            Ok(Err(error)) => tracing::debug!(%error, "the guest's clock was not set"),
            Err(_) => tracing::debug!("the guest did not hear the time"),
        }
        true
    }
}

/// The host's clock, as requests tell it: nanoseconds since 1970.
pub(super) fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default()
}
