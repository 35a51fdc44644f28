//! What the agent does for each path.

pub mod disk;
pub mod execute;
pub mod files;
mod frames;
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
    let permit = agent.permit(request.exclusive, request.pty.is_some());
    let permit = match plan.timeout {
        Some(timeout) => tokio::time::timeout_at(since + timeout, permit)
            .await
            .map_err(|_| Error::WaitTimeout { seconds: timeout.as_secs_f64() })?,
        None => permit.await,
    };
    let mut running = agent.launcher.start(&plan, stdin, since)?;
    running.hold(permit);
    Ok(running)
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
