//! Spawning on Linux and macOS: inherited descriptors and death with the parent.

use super::{Launch, Output, describe};
use crate::fork::PerProcess;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
#[cfg(not(target_os = "linux"))]
use std::os::unix::process::CommandExt;
#[cfg(not(target_os = "linux"))]
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use tokio::net::unix::pipe;

#[cfg(target_os = "linux")]
pub(super) use jail::Child;
#[cfg(not(target_os = "linux"))]
pub(super) use std::process::Child;

/// A descriptor that the child gets under the number that it has here.
pub(crate) struct Inherited(OwnedFd);

impl From<Inherited> for OwnedFd {
    fn from(inherited: Inherited) -> Self {
        inherited.0
    }
}

impl Inherited {
    /// Takes a descriptor over, out of the range of the standard streams, which the child replaces.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(rustix::io::fcntl_dupfd_cloexec(&fd, 10)?))
    }

    /// The number, here and in the child.
    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

type Job = (Launch, mpsc::Sender<io::Result<Child>>);

/// The thread that forks.
static LAUNCHER: PerProcess<Option<mpsc::Sender<Job>>> = PerProcess::new();

pub(super) fn spawn(launch: Launch) -> io::Result<Child> {
    let (reply, answer) = mpsc::channel();
    launcher()?
        .send((launch, reply))
        .map_err(|_| io::Error::other("the thread that launches machines has ended"))?;
    answer.recv().map_err(|_| io::Error::other("the thread that launches machines has ended"))?
}

fn launcher() -> io::Result<mpsc::Sender<Job>> {
    let mut launcher = LAUNCHER.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*launcher {
        return Ok(sender.clone());
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    std::thread::Builder::new().name("quicksand-launch".into()).spawn(move || {
        // The thread must never end: its end would kill every machine. The static variable keeps
        // a sender, so that `recv` does not fail.
        while let Ok((launch, reply)) = jobs.recv() {
            // A start that was given up drops the child's handle here; it must not go on alone.
            if let Err(mpsc::SendError(Ok(mut child))) = reply.send(spawn_here(launch)) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    })?;
    *launcher = Some(sender.clone());
    Ok(sender)
}

/// Behind the walls of `jail`, which also has the child die with this thread's process.
#[cfg(target_os = "linux")]
fn spawn_here(launch: Launch) -> io::Result<Child> {
    let inherit: Vec<RawFd> = launch.inherit.iter().map(Inherited::number).collect();
    let program = jail::Program { path: &launch.program, args: &launch.args, inherit: &inherit };
    let child = jail::spawn(&program, &launch.needs)?;
    tracing::debug!(missing = ?child.plan.missing, "walls that QEMU is not behind");
    Ok(child)
}

#[cfg(not(target_os = "linux"))]
fn spawn_here(launch: Launch) -> io::Result<Child> {
    let numbers: Vec<RawFd> = launch.inherit.iter().map(Inherited::number).collect();
    let parent = rustix::process::getpid();
    // This is the one wrapper of processes in this crate.
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal is for the host program, which decides what becomes of the machine.
        .process_group(0);
    // SAFETY: between fork and exec only async-signal-safe calls are made; nothing is allocated
    // and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            die_with(parent)?;
            for number in &numbers {
                keep_across_exec(*number)?;
            }
            Ok(())
        });
    }
    command.spawn()
}

#[cfg(not(target_os = "linux"))]
fn keep_across_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: the parent keeps the descriptor open until `spawn` has returned.
    let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    Ok(())
}

/// Forks a watcher that kills this process, which becomes QEMU, when the host process ends.
#[cfg(not(target_os = "linux"))]
fn die_with(parent: Pid) -> io::Result<()> {
    let (host, qemu) = (parent.as_raw_nonzero().get(), std::process::id() as i32);
    // SAFETY: the child makes only async-signal-safe system calls and leaves with `_exit`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => watch_forever(host, qemu),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn watch_forever(host: i32, qemu: i32) -> ! {
    // SAFETY: plain system calls on memory of this frame; the process has one thread.
    unsafe {
        // The watcher must not hold QEMU's sockets and pipes open.
        for number in 0..1024 {
            libc::close(number);
        }
        libc::setsid();
        let queue = libc::kqueue();
        let ended = |pid: i32| {
            let mut change: libc::kevent = std::mem::zeroed();
            change.ident = pid as libc::uintptr_t;
            change.filter = libc::EVFILT_PROC;
            change.flags = libc::EV_ADD | libc::EV_ONESHOT;
            change.fflags = libc::NOTE_EXIT;
            change
        };
        let changes = [ended(host), ended(qemu)];
        let mut event: libc::kevent = std::mem::zeroed();
        let n_events = libc::kevent(queue, changes.as_ptr(), 2, &mut event, 1, std::ptr::null());
        // Any answer but QEMU's own end, errors included, means that the host is gone.
        if n_events != 1 || event.ident != qemu as libc::uintptr_t {
            libc::kill(qemu, libc::SIGKILL);
        }
        libc::_exit(0)
    }
}

/// Waits without reaping, then reaps under the lock that `kill` takes too.
pub(super) fn wait(pid: u32, child: &Mutex<Child>) -> String {
    let waited = Pid::from_raw(pid as i32);
    if let Some(waited) = waited {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) =
            rustix::process::waitid(WaitId::Pid(waited), options)
        {}
    }
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    child.wait().map(describe).unwrap_or_else(|_| "reaped by another".into())
}

pub(super) fn output(child: &mut Child) -> io::Result<Output> {
    let missing = || io::Error::other("QEMU has no output pipe");
    Ok(Output {
        stdout: Box::new(receiver(child.stdout.take().ok_or_else(missing)?)?),
        stderr: Box::new(receiver(child.stderr.take().ok_or_else(missing)?)?),
    })
}

fn receiver(end: impl Into<OwnedFd>) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(end.into())
}
