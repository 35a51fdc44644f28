//! Runs QEMU as a child that cannot outlive this process: the only wrapper of processes here.
//!
//! Owns spawning, the exit status, killing, and the reading end of the child's output; knows
//! nothing of what QEMU's arguments mean.
//!
//! Invariant: whatever ends this process, SIGKILL included, ends QEMU.
//! - Linux: `PR_SET_PDEATHSIG`. The kernel ties it to the *thread* that forked, so that one thread,
//!   which lives as long as the process, forks all machines.
//! - macOS: a watcher process that sees both others end (not yet run on real hardware).
//! - Windows: a job object that is closed with this process (not yet run on real hardware).

#[cfg(target_os = "linux")]
mod forked;
#[cfg(unix)]
#[path = "launch/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "launch/windows.rs"]
mod platform;

use crate::error::{Error, Result};
use crate::fork::PerProcess;
use platform::Child;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::sync::watch;

pub(crate) use platform::Inherited;

/// What to run.
pub(crate) struct Launch {
    /// The emulator.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Descriptors that it keeps under their own numbers.
    pub inherit: Vec<Inherited>,
    /// What it needs of the host besides them.
    pub needs: jail::Needs,
}

/// A running or ended QEMU.
pub(crate) struct Process {
    handle: Handle,
    pid: u32,
    /// The process that started it: a forked copy of this one must not kill its parent's machine.
    owner: u32,
    exited: watch::Receiver<Option<String>>,
}

/// What a process is ended by.
enum Handle {
    /// A child of this process.
    Child(Arc<Mutex<Child>>),
    /// A child of a machine of ours, by its descriptor, which never means another process.
    #[cfg(target_os = "linux")]
    Forked(std::os::fd::OwnedFd),
}

#[cfg(target_os = "linux")]
pub(crate) use forked::{adopt, end_in, is_first_of_namespace, namespace_of, output_pipe};

/// How long the end of a process is waited for.
const GONE: Duration = Duration::from_secs(5);

/// The reading ends of a child's output.
pub(crate) struct Output {
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
}

/// Starts the child. The descriptors in `inherit` are closed here once it has them.
pub(crate) fn launch(launch: Launch) -> Result<(Process, Output)> {
    let program = launch.program.clone();
    let child = platform::spawn(launch).map_err(|source| Error::Spawn { program, source })?;
    // From here on whatever fails ends the child: nobody else would.
    let mut child = Unowned(Some(child));
    let output = platform::output(child.get())
        .map_err(|source| Error::System { action: "read the output of QEMU", source })?;
    let pid = child.get().id();
    let (hand_over, waited) = std::sync::mpsc::channel::<Arc<Mutex<Child>>>();
    let (sender, exited) = watch::channel(None);
    std::thread::Builder::new()
        .name("quicksand-wait".into())
        .spawn(move || {
            let Ok(child) = waited.recv() else { return };
            let status = platform::wait(pid, &child);
            // Nobody listens any more when the sandbox has been dropped.
            sender.send_replace(Some(status));
        })
        .map_err(|source| Error::System { action: "start a thread", source })?;
    let child = Arc::new(Mutex::new(child.keep()));
    // The thread waits for exactly this.
    let _ = hand_over.send(Arc::clone(&child));
    let handle = Handle::Child(child);
    Ok((Process { handle, pid, owner: std::process::id(), exited }, output))
}

/// A child that nobody watches yet.
struct Unowned(Option<Child>);

impl Unowned {
    fn get(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is kept last")
    }

    fn keep(mut self) -> Child {
        self.0.take().expect("it is kept once")
    }
}

impl Drop for Unowned {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Process {
    /// The process number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, in words, when it has.
    pub(crate) fn exit_status(&self) -> Option<String> {
        self.exited.borrow().clone()
    }

    /// Waits for the end and says how it came.
    pub(crate) async fn exited(&self) -> String {
        let mut exited = self.exited.clone();
        match exited.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_default(),
            Err(_) => "unknown".into(),
        }
    }

    /// Ends it at once. The machine's disk is thrown away, so that there is nothing to put in order.
    pub(crate) fn kill(&self) {
        if self.owner != std::process::id() {
            return;
        }
        match &self.handle {
            Handle::Child(child) => {
                let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
                // The only error is that it has ended already: the waiter reaps under the same
                // lock, so that the number cannot belong to another process by now.
                let _ = child.kill();
            }
            #[cfg(target_os = "linux")]
            Handle::Forked(process) => forked::kill(process),
        }
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn kill_and_wait(&self) {
        self.kill();
        // A process in an uninterruptible system call ends later; nothing more can be done here.
        let _ = tokio::time::timeout(GONE, self.exited()).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.owner == std::process::id() && self.exit_status().is_none() {
            let mut dropped = DROPPED.get().lock().unwrap_or_else(PoisonError::into_inner);
            dropped.retain(|exited| exited.borrow().is_none());
            dropped.push(self.exited.clone());
        }
    }
}

/// Processes that were ended by a drop, which waits for nobody, and may be there still.
static DROPPED: PerProcess<Vec<watch::Receiver<Option<String>>>> = PerProcess::new();

/// Waits until none of them is there any more.
pub(crate) async fn dropped_are_gone() {
    let dropped = {
        let mut dropped = DROPPED.get().lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *dropped)
    };
    for mut exited in dropped {
        // As in `kill_and_wait`.
        let _ = tokio::time::timeout(GONE, exited.wait_for(Option::is_some)).await;
    }
}

/// An exit status in words.
fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}
