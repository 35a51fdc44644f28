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
use std::time::Duration;

use agent_protocol::ExecuteRequest;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::process::plan::Plan;
use crate::process::running::Stdin;
use crate::process::{Event, Running};
use crate::{Error, Result, accounts};

/// How long the guest's own tools may take.
const TOOL_TIME: Duration = Duration::from_secs(30);
/// How much is kept of what a tool prints, in bytes.
const MAX_TOOL_OUTPUT: usize = 4096;

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

/// Runs a tool of the guest to its end, for a time at most.
///
/// # Errors
/// [`Error::Tool`] with the beginning of what it printed when it fails or takes too long.
async fn run_tool(agent: &Agent, arguments: &[&str], limit: Duration) -> Result<()> {
    let plan = Plan::tool(arguments, limit)?;
    let mut running = agent.launcher.start(&plan, Stdin::Null, Instant::now()).await?;
    let mut output = Vec::new();
    loop {
        match running.next().await {
            Some(Event::Output(_, chunk)) => {
                let room = MAX_TOOL_OUTPUT.saturating_sub(output.len());
                output.extend(chunk.bytes().iter().take(room));
            }
            Some(Event::Exit(report)) if report.exit_code == 0 => return Ok(()),
            _ => {
                return Err(Error::Tool {
                    tool: arguments[0].to_owned(),
                    output: String::from_utf8_lossy(&output).trim().to_owned(),
                });
            }
        }
    }
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
