//! What the agent does for each path.

pub mod clock;
pub mod disk;
pub mod execute;
pub mod files;
mod frames;
pub mod identity;
pub mod mount;
pub mod session;
pub mod shutdown;
pub mod users;

use std::path::Path;
use std::rc::Rc;

use agent_protocol::ExecuteRequest;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::process::Running;
use crate::process::plan::Plan;
use crate::process::running::Stdin;
use crate::{Error, Result, accounts};

/// Starts the command of a request that is checked already, when it may run.
///
/// # Errors
/// Unknown user, directory or shell; resources that are used up; [`Error::WaitTimeout`] when the
/// time is over before the command may begin, which each endpoint words in its own way.
async fn start(agent: &Rc<Agent>, request: &ExecuteRequest, stdin: Stdin) -> Result<Running> {
    let since = Instant::now();
    let root = Path::new("/");
    let account = match &request.user {
        Some(name) => accounts::find(root, name)?,
        None => accounts::Account::root(),
    };
    let plan = Plan::new(request, account, |path| {
        rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
    })?;
    let begin = async {
        let permit = agent.permit(request.exclusive, request.pty.is_some()).await;
        let mut running = agent.launcher.start(&plan, stdin, since).await?;
        running.hold(permit);
        Ok(running)
    };
    match plan.timeout {
        Some(timeout) => tokio::time::timeout_at(since + timeout, begin)
            .await
            .unwrap_or(Err(Error::WaitTimeout { seconds: timeout.as_secs_f64() })),
        None => begin.await,
    }
}

/// Runs what may wait for a disk, a server or a frozen file system where that holds up nobody else:
/// the agent's own thread answers all requests.
async fn in_thread<T: Send + 'static>(
    stage: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::Spawn { stage, source: std::io::Error::other(error.to_string()) })
    })
}

/// Refuses a terminal outside of a session.
fn no_terminal(request: &ExecuteRequest) -> Result<()> {
    if request.pty.is_none() {
        return Ok(());
    }
    Err(Error::Protocol(agent_protocol::Error::value(
        "`pty` is only for sessions",
        Some("Use POST /session for a terminal".into()),
    )))
}
