//! What the agent does with the guest's disk: it stands still for a save, and fills more room.
//!
//! Agents made elsewhere do not know these requests; they run the usual commands instead.

use super::{AgentClient, MAX_ERROR, RequestBody, accept, broken, read_bounded};
use crate::agent_client::execution::{Discard, run_to_end};
use crate::error::{Error, Result};
use crate::execute::ExecuteRequest;
use agent_protocol::{FreezeRequest, FreezeResponse, paths};
use hyper::{Method, StatusCode};
use std::time::Duration;

/// How long the guest may take to write everything to its disk.
const WRITE_OUT: Duration = Duration::from_secs(120);
/// How long the guest stands still when the host says nothing more.
const STANDSTILL_SECONDS: u32 = 20;

impl AgentClient {
    /// Has the guest write everything to its disk and keep it still until [`Self::thaw`]. Gives
    /// whether it stands still; one that cannot has written.
    pub(crate) async fn freeze(&self) -> Result<bool> {
        let request = FreezeRequest { seconds: STANDSTILL_SECONDS };
        let body = serde_json::to_vec(&request).unwrap_or_default();
        match self.ask(paths::FREEZE, body).await {
            Ok(answer) => {
                let answer: FreezeResponse = serde_json::from_slice(&answer).map_err(broken)?;
                Ok(answer.frozen)
            }
            Err(error) if is_unknown(&error) => {
                self.command("sync").await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the guest's disk go on.
    pub(crate) async fn thaw(&self) -> Result<()> {
        self.ask(paths::THAW, Vec::new()).await?;
        Ok(())
    }

    /// Makes the guest's root file system as large as its disk.
    pub(crate) async fn grow(&self) -> Result<()> {
        match self.ask(paths::GROW, Vec::new()).await {
            Ok(_) => Ok(()),
            Err(error) if is_unknown(&error) => {
                self.command("resize2fs \"$(readlink -f /dev/root 2>/dev/null || echo /dev/vda)\" || resize2fs /dev/vda").await
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for something and gives the answer, which is bounded.
    pub(crate) async fn ask(&self, path: &'static str, body: Vec<u8>) -> Result<Vec<u8>> {
        let call = async {
            let response = self.send(Method::POST, path, RequestBody::json(body)).await?;
            let response = accept(response).await?;
            Ok(read_bounded(response.into_body(), MAX_ERROR).await?.to_vec())
        };
        tokio::time::timeout(WRITE_OUT, call)
            .await
            .unwrap_or(Err(Error::GuestSilent { timeout: WRITE_OUT }))
    }

    /// Runs a command that must succeed.
    pub(super) async fn command(&self, command: &str) -> Result<()> {
        let request = ExecuteRequest::new(command).timeout(WRITE_OUT).cwd("/");
        let result = run_to_end(self, &request, &mut Discard).await?;
        if result.exit_code == 0 {
            return Ok(());
        }
        let words: String =
            result.stderr_lossy().chars().filter(|c| !c.is_control()).take(500).collect();
        Err(Error::AgentRefused {
            status: 500,
            message: format!("`{command}` failed with {}: {words}", result.exit_code),
            hint: None,
        })
    }
}

pub(super) fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::AgentRefused { status, .. } if *status == StatusCode::NOT_FOUND.as_u16())
}
