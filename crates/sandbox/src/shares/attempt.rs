//! A mount under way, which is taken back unless it comes to its end; and the last word to the guest.

use super::{Backing, Serving};
use crate::agent_client::AgentClient;
use agent_protocol::UnmountRequest;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// How long the guest may take to forget a share that the host has withdrawn already.
const FAREWELL: Duration = Duration::from_secs(10);

/// A share that is being mounted. Dropping it withdraws the share at once, and then tells the guest,
/// which may have mounted it; nobody mounts or unmounts anything until it was told.
pub(super) struct Attempt {
    pub(super) turn: Option<OwnedMutexGuard<Serving>>,
    pub(super) backing: Backing,
    pub(super) agent: AgentClient,
    pub(super) target: String,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else { return };
        self.backing.revoke();
        // Without a runtime the whole process is about to end.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (agent, target) = (self.agent.clone(), std::mem::take(&mut self.target));
        runtime.spawn(async move {
            turn.sweep().await;
            farewell(&agent, target).await;
        });
    }
}

/// Tells the guest that a share is gone. It keeps a dead mount point when it does not listen.
pub(super) async fn farewell(agent: &AgentClient, target: String) {
    let request = UnmountRequest { target, force: true };
    match tokio::time::timeout(FAREWELL, agent.unmount(&request)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the guest keeps a mount point without a share"),
        Err(_) => tracing::debug!("the guest did not answer an unmount"),
    }
}
