//! Processes that a machine of ours has forked: they are its children and not ours, so that they are known
//! by descriptors. See pidfd_open(2).

use super::{Handle, Process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Takes over a process that is a child of `parent` and that has the number `inner` in the namespace of
/// its own. Must be called in a runtime.
pub(crate) fn adopt(pid: Pid, parent: u32, inner: u64) -> io::Result<Process> {
    let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
    let pid = pid.as_raw_nonzero().get().unsigned_abs();
    // The number may have been another's before the descriptor was opened. Now it cannot change.
    let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
    if !is_child(&status, parent, inner) {
        return Err(io::Error::other(format!("process {pid} is no copy of process {parent}")));
    }
    let (watched, interest) = (descriptor.try_clone()?, tokio::io::Interest::READABLE);
    // SAFETY: an owned descriptor stays open, and the same, until it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(watched, interest)? };
    let (sender, exited) = watch::channel(None);
    tokio::spawn(async move {
        // The descriptor may be readable too early; what the kernel says of the process is final.
        while let Ok(mut readiness) = watched.readable().await {
            if has_ended(watched.get_ref()) {
                sender.send_replace(Some("an end that its parent process has seen".into()));
                return;
            }
            readiness.clear_ready();
        }
    });
    let handle = Handle::Forked(descriptor);
    Ok(Process { handle, pid, owner: std::process::id(), exited })
}

/// The namespace of a process that runs, as its numbers are of. See pid_namespaces(7).
pub(crate) fn namespace_of(pid: u32) -> io::Result<PathBuf> {
    fs_err::read_link(format!("/proc/{pid}/ns/pid"))
}

/// Ends a process, where it is of this namespace.
pub(crate) fn end_in(pid: Pid, namespace: &Path) -> io::Result<()> {
    let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
    // Read after the number was held on to, as above.
    if namespace_of(pid.as_raw_nonzero().get().unsigned_abs())? == namespace {
        kill(&descriptor);
    }
    Ok(())
}

/// Whether the process has ended: its descriptor is readable from then on.
fn has_ended(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready == 1)
}

/// Whether `/proc/PID/status` (proc(5)) is that of such a child.
fn is_child(status: &str, parent: u32, inner: u64) -> bool {
    last_number(status, "PPid:") == Some(u64::from(parent))
        && last_number(status, "NSpid:") == Some(inner)
}

fn last_number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// Whether a process is the first of a namespace that is not this process' own: the kernel ends all
/// others there with it. See pid_namespaces(7).
pub(crate) fn is_first_of_namespace(pid: u32) -> bool {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status"));
    pid != 1 && status.is_ok_and(|status| last_number(&status, "NSpid:") == Some(1))
}

/// Ends it; one that has ended already is as good.
pub(super) fn kill(process: &impl AsFd) {
    let _ = pidfd_send_signal(process, Signal::KILL);
}

/// A pipe for a process' output: our end, and its.
pub(crate) fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (ours, theirs) = rustix::pipe::pipe_with(flags)?;
    Ok((pipe::Receiver::from_owned_fd(ours)?, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_known_by_its_parent_and_its_number() {
        let status = "Name:\tqemu\nPid:\t71\nPPid:\t70\nTracerPid:\t0\nNSpid:\t71\t5\n";
        assert!(is_child(status, 70, 5));
        assert!(!is_child(status, 71, 5) && !is_child(status, 70, 71));
        // Without a namespace of its own the number is the same.
        assert!(is_child("PPid:\t1\nNSpid:\t9\n", 1, 9));
        assert!(!is_child("PPid:\t1\n", 1, 9) && !is_child("", 0, 0));
    }

    #[test]
    fn this_process_is_not_the_first_of_another_namespace() {
        assert!(!is_first_of_namespace(std::process::id()) && !is_first_of_namespace(1));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process that is nobody's machine")]
    fn only_a_process_of_the_namespace_is_ended() {
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&other);
        end_in(pid, Path::new("pid:[1]")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(other.try_wait().unwrap().is_none());
        end_in(pid, &namespace_of(other.id()).unwrap()).unwrap();
        assert!(!other.wait().unwrap().success());
    }

    #[tokio::test]
    async fn a_child_of_another_process_is_refused() {
        // This process is not its own child.
        let own = rustix::process::getpid();
        let inner = u64::from(std::process::id());
        assert!(adopt(own, std::process::id(), inner).is_err());
    }
}
