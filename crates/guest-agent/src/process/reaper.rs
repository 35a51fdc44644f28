//! The one place that waits for children.
//!
//! The agent adopts orphans (as PID 1, or as child subreaper), so that it must wait for any child;
//! and it must not take the status of its own commands away from those who wait for it. Both hold
//! because everything runs on one thread: a command is entered here before the loop can see its end.
//! While a command is being started in another thread ([`Reaper::starting`]) only known children are
//! waited for; the others stay until its number is known.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::io::unix::AsyncFd;

use crate::watch::watch;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exit(i32),
    Signal(i32),
}

/// Where the ending of one command arrives.
#[derive(Default)]
pub struct Ended {
    ending: Cell<Option<Ending>>,
    waker: RefCell<Option<Waker>>,
}

impl Ended {
    /// The ending, if it is known.
    pub fn get(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// Wakes who waits, to look at something else that has changed.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the ending. Only the last waiting task is woken.
    pub fn poll(&self, cx: &mut std::task::Context<'_>) -> Poll<Ending> {
        if let Some(ending) = self.ending.get() {
            return Poll::Ready(ending);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Waits for all children of this process.
pub struct Reaper {
    signals: AsyncFd<OwnedFd>,
    waiting: RefCell<HashMap<i32, Rc<Ended>>>,
    /// How many commands are being started in other threads.
    n_starting: Cell<usize>,
}

/// A command that is being started in another thread.
pub struct Starting<'a>(&'a Reaper);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.n_starting.set(self.0.n_starting.get() - 1);
        // The news of what has ended meanwhile was taken already.
        self.0.reap();
    }
}

/// Signals that PID 1 gets from `poweroff`, `halt`, `reboot` and Ctrl-Alt-Del of busybox.
const POWER_SIGNALS: [i32; 4] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM, libc::SIGINT];

impl Reaper {
    /// Takes over SIGCHLD of this process, and as PID 1 the signals that ask it to power off.
    ///
    /// # Errors
    /// When the kernel has no signalfd to give. Must be called inside a runtime.
    pub fn new() -> io::Result<Rc<Self>> {
        // SAFETY: a signal set is initialised by sigemptyset, and only numbers of signals are added.
        let set = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGCHLD);
            if std::process::id() == 1 {
                for signal in POWER_SIGNALS {
                    libc::sigaddset(&mut set, signal);
                }
            }
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            set
        };
        // SAFETY: the set lives for the call; a result of 0 or more is a new descriptor.
        let signals = unsafe {
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Rc::new(Self {
            signals: watch(signals, tokio::io::Interest::READABLE)?,
            waiting: RefCell::default(),
            n_starting: Cell::new(0),
        }))
    }

    /// Announces that a child is being started in another thread; its number is to be given to
    /// [`Reaper::expect`] before the result is dropped.
    pub fn starting(&self) -> Starting<'_> {
        self.n_starting.set(self.n_starting.get() + 1);
        Starting(self)
    }

    /// Announces a child of ours, before anything else can run.
    pub fn expect(&self, pid: i32) -> Rc<Ended> {
        let ended = Rc::new(Ended::default());
        self.waiting.borrow_mut().insert(pid, Rc::clone(&ended));
        ended
    }

    /// Runs for ever; calls `on_power` when PID 1 is asked to end the machine.
    pub async fn run(&self, on_power: impl Fn(i32)) {
        loop {
            let Ok(mut guard) = self.signals.readable().await else { return };
            while let Some(signal) = self.next_signal() {
                if signal != libc::SIGCHLD {
                    on_power(signal);
                }
            }
            guard.clear_ready();
            self.reap();
        }
    }

    fn next_signal(&self) -> Option<i32> {
        // SAFETY: the structure is plain numbers; the kernel writes whole structures or nothing.
        unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of_val(&info);
            let fd = self.signals.get_ref().as_raw_fd();
            let n_read = libc::read(fd, (&raw mut info).cast(), size);
            (n_read == size as isize).then_some(info.ssi_signo as i32)
        }
    }

    fn reap(&self) {
        if self.n_starting.get() == 0 {
            while self.wait_for(-1) {}
            return;
        }
        let known: Vec<i32> = self.waiting.borrow().keys().copied().collect();
        for pid in known {
            self.wait_for(pid);
        }
    }

    /// Takes the ending of one child, when it has ended.
    fn wait_for(&self, which: i32) -> bool {
        let mut status = 0;
        // SAFETY: the status is written by the kernel.
        let pid = unsafe { libc::waitpid(which, &mut status, libc::WNOHANG) };
        if pid <= 0 {
            return false;
        }
        let ending = if libc::WIFSIGNALED(status) {
            Ending::Signal(libc::WTERMSIG(status))
        } else {
            Ending::Exit(libc::WEXITSTATUS(status))
        };
        // A child that is not ours was an orphan: there is nobody to tell.
        if let Some(ended) = self.waiting.borrow_mut().remove(&pid) {
            ended.ending.set(Some(ending));
            ended.wake();
        }
        true
    }
}
