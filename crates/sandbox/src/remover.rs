//! A process that removes a file or folder when this process is killed before it did so itself.
//!
//! Some things need a name before they are whole: a folder, and any file where the file system has none
//! without names. A process that gets SIGKILL cannot remove them, so that another one waits for its
//! end. It shares the memory of this process, as after vfork(2), so that it costs nothing to have, and
//! has a stack, descriptors and signals of its own. It survives whatever ends this process, but for an
//! end of both at once (a cgroup that is killed, a host without memory): for these there is `sweep` in
//! `new_file.rs`.
//!
//! Invariant: the other process makes system calls alone, by `rustix` and not through the C library.
//! It runs beside the threads of this process with the thread-local memory of one of them, so that
//! it allocates nothing, takes no lock and does not touch `errno`.
//!
//! Knows nothing of what it removes. Elsewhere than on Linux there is none.

#[cfg(target_os = "linux")]
mod child;

#[cfg(target_os = "linux")]
pub(crate) use linux::Remover;

#[cfg(target_os = "linux")]
mod linux {
    use super::child::{Order, run};
    use cap_std::fs::Dir;
    use rustix::fd::{AsRawFd as _, OwnedFd};
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    use std::ffi::{CString, OsStr};
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt as _;

    /// Several times what the deepest call takes in a development build.
    const STACK: usize = 128 << 10;

    /// Has something removed should this process end first. When this value goes, so does the other
    /// process, and removes nothing.
    pub(crate) struct Remover {
        child: libc::pid_t,
        /// A forked copy of this process has no say.
        owner: u32,
        done: OwnedFd,
        /// Kept open, so that no write to an ended process is a signal.
        _wait: OwnedFd,
        // What the other process uses.
        _order: Box<Order>,
        _stack: Box<[MaybeUninit<u8>]>,
    }

    impl Remover {
        /// Before something gets that name in a folder. `None` where there can be no such process.
        pub(crate) fn for_folder(folder: &Dir, name: &OsStr) -> Option<Self> {
            let started = Self::start(folder, name);
            started
                .inspect_err(|error| tracing::debug!(%error, "nothing removes what a kill leaves"))
                .ok()
        }

        fn start(folder: &Dir, name: &OsStr) -> io::Result<Self> {
            let above = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 10);
            let parent = above(pidfd_open(getpid(), PidfdFlags::empty())?)?;
            let folder = rustix::io::fcntl_dupfd_cloexec(folder, 10)?;
            let (wait, done) = pipe_with(PipeFlags::CLOEXEC)?;
            let wait = above(wait)?;
            let order = Box::new(Order {
                parent: parent.as_raw_fd(),
                wait: wait.as_raw_fd(),
                folder: folder.as_raw_fd(),
                name: CString::new(name.as_bytes())?,
            });
            let mut stack = Box::new_uninit_slice(STACK);
            let child = clone(&order, &mut stack)?;
            let owner = std::process::id();
            Ok(Self { child, owner, done, _wait: wait, _order: order, _stack: stack })
        }
    }

    impl Drop for Remover {
        fn drop(&mut self) {
            if std::process::id() != self.owner {
                return;
            }
            // One byte always finds room.
            let _ = rustix::io::write(&self.done, &[0]);
            // SAFETY: the number is that of a child of ours, which nobody else can wait for: its end
            // sends no signal, so that it is left out by whoever waits for any child.
            unsafe {
                let waited = || libc::waitpid(self.child, std::ptr::null_mut(), libc::__WALL);
                while waited() < 0
                    && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
                {
                }
            }
        }
    }

    /// Starts the other process. No signal reaches it, as the handlers of this one would run in it.
    fn clone(order: &Order, stack: &mut [MaybeUninit<u8>]) -> io::Result<libc::pid_t> {
        let top = stack.as_mut_ptr_range().end;
        let top = top.wrapping_sub(top.addr() % 16);
        // SAFETY: the masks are of this frame; the child runs on the stack that it is given, and the
        // caller keeps stack and order until it has ended.
        unsafe {
            let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
                (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            let argument = std::ptr::from_ref(order).cast_mut();
            let child = libc::clone(run, top.cast(), libc::CLONE_VM, argument.cast());
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            if child < 0 { Err(error) } else { Ok(child) }
        }
    }
}

/// Nothing elsewhere: what a killed process leaves is swept by the next one.
#[cfg(not(target_os = "linux"))]
pub(crate) struct Remover;

#[cfg(not(target_os = "linux"))]
impl Remover {
    pub(crate) fn for_folder(_: &cap_std::fs::Dir, _: &std::ffi::OsStr) -> Option<Self> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
