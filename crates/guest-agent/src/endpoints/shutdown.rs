//! `POST /shutdown`, and the signals that ask PID 1 to end the machine.

use std::rc::Rc;
use std::time::Duration;

use agent_protocol::{OkResponse, ShutdownRequest};
use hyper::Response;
use rustix::system::RebootCommand;
use tokio::time::Instant;

use super::TOOL_TIME;
use crate::Result;
use crate::agent::Agent;
use crate::answer::answer;
use crate::body::Body;
use crate::process::group;
use crate::process::plan::Plan;
use crate::process::running::Stdin;

/// How long the answer has to leave before the machine goes down.
const LEAVE: Duration = Duration::from_millis(100);
/// How long processes have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// systemd's signal for `systemctl start poweroff.target`, above SIGRTMIN.
///
/// See <https://www.freedesktop.org/software/systemd/man/latest/systemd.html#Signals>.
const SYSTEMD_POWEROFF: i32 = 4;

/// Answers, then powers off.
///
/// # Errors
/// A body that is not the request's.
pub async fn request(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let request = match body {
        [] => ShutdownRequest::default(),
        body => ShutdownRequest::from_json(body)?,
    };
    if !agent.ending.replace(true) {
        tokio::task::spawn_local(async move {
            tokio::time::sleep(LEAVE).await;
            if request.force || std::process::id() == 1 {
                end(RebootCommand::PowerOff).await;
            } else {
                ask_init(&agent).await;
            }
        });
    }
    Ok(answer(&OkResponse { ok: true }))
}

/// What busybox's `poweroff`, `halt` and `reboot` and Ctrl-Alt-Del ask PID 1 for.
pub async fn power(agent: Rc<Agent>, signal: i32) {
    if agent.ending.replace(true) {
        return;
    }
    match signal {
        libc::SIGUSR1 => end(RebootCommand::Halt).await,
        libc::SIGUSR2 => end(RebootCommand::PowerOff).await,
        _ => end(RebootCommand::Restart).await,
    }
}

async fn ask_init(agent: &Agent) {
    if rustix::fs::access("/run/systemd/system", rustix::fs::Access::EXISTS).is_ok() {
        group::signal(1, libc::SIGRTMIN() + SYSTEMD_POWEROFF);
        return;
    }
    let plan = ["/sbin/poweroff", "/usr/sbin/poweroff", "/bin/busybox"]
        .into_iter()
        .find(|tool| rustix::fs::access(*tool, rustix::fs::Access::EXEC_OK).is_ok())
        .and_then(|tool| {
            let arguments =
                if tool.ends_with("busybox") { vec![tool, "poweroff"] } else { vec![tool] };
            Plan::tool(&arguments, TOOL_TIME).ok()
        });
    let started = match plan {
        Some(plan) => Some(agent.launcher.start(&plan, Stdin::Null, Instant::now()).await),
        None => None,
    };
    match started {
        Some(Ok(running)) => {
            tokio::task::spawn_local(async move {
                let mut running = running;
                while running.next().await.is_some() {}
            });
        }
        _ => group::signal(1, libc::SIGUSR2),
    }
}

async fn end(how: RebootCommand) {
    let own = std::process::id() as i32;
    for (signal, wait) in [(libc::SIGTERM, GRACE), (libc::SIGKILL, GRACE / 4)] {
        let deadline = Instant::now() + wait;
        for pid in others(own) {
            group::signal(pid, signal);
        }
        while Instant::now() < deadline && !others(own).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    rustix::fs::sync();
    let _ = rustix::mount::mount_remount("/", rustix::mount::MountFlags::RDONLY, c"");
    rustix::fs::sync();
    let _ = rustix::system::reboot(how);
}

/// Processes of user space but for PID 1 and the agent. Kernel threads have no command line.
fn others(own: i32) -> Vec<i32> {
    fs_err::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != 1 && *pid != own)
        .filter(|pid| fs_err::read(format!("/proc/{pid}/cmdline")).is_ok_and(|l| !l.is_empty()))
        .collect()
}
