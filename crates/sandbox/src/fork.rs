//! What a forked copy of this process must not share with it (`os.fork`, multiprocessing's `fork`).
//!
//! A fork copies memory and descriptors, but one thread alone. Locks that another thread held stay
//! locked in the copy for ever, and ports that the copy still holds open stay taken after the
//! original has closed them. So each process has state of its own here ([`PerProcess`]), and
//! listening sockets are closed in the child ([`KeptFromChildren`]).
//!
//! See <https://man7.org/linux/man-pages/man3/pthread_atfork.3.html>.

use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A static variable behind a lock, of which each process has its own: a forked copy begins with
/// the default value and an open lock, whatever the original was doing.
pub struct PerProcess<T: 'static> {
    current: AtomicPtr<Entry<T>>,
}

struct Entry<T> {
    process: u32,
    value: Mutex<T>,
}

impl<T: Default + Send + 'static> PerProcess<T> {
    /// A variable that no process has used yet.
    pub const fn new() -> Self {
        Self { current: AtomicPtr::new(ptr::null_mut()) }
    }

    /// This process's lock. What a parent process has stays in memory, untouched: its threads,
    /// which the value may be about, are not here.
    pub fn get(&self) -> &'static Mutex<T> {
        let process = std::process::id();
        loop {
            let known = self.current.load(Ordering::Acquire);
            // SAFETY: entries are never freed, and the pointer is only set to whole ones.
            if let Some(entry) = unsafe { known.as_ref() }
                && entry.process == process
            {
                return &entry.value;
            }
            let fresh = Box::into_raw(Box::new(Entry { process, value: Mutex::default() }));
            let order = (Ordering::AcqRel, Ordering::Acquire);
            if self.current.compare_exchange(known, fresh, order.0, order.1).is_err() {
                // Another thread was first.
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }
}

impl<T: Default + Send + 'static> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(unix)]
pub(crate) use descriptors::KeptFromChildren;

#[cfg(unix)]
mod descriptors {
    use std::os::fd::{AsRawFd, RawFd};
    use std::sync::Once;
    use std::sync::atomic::{AtomicI32, Ordering};

    /// Most descriptors that are kept from children. More than that many listening ports are rare,
    /// and the ones that find no place are inherited as before.
    const PLACES: usize = 1024;
    const FREE: RawFd = -1;

    /// The descriptors. Without a lock, because the handler runs in a process whose other threads
    /// have vanished.
    static KEPT: [AtomicI32; PLACES] = [const { AtomicI32::new(FREE) }; PLACES];

    /// Keeps a descriptor from children for as long as this lives, which must not be longer than
    /// the descriptor is open.
    pub(crate) struct KeptFromChildren(Option<&'static AtomicI32>);

    impl KeptFromChildren {
        pub(crate) fn new(descriptor: &impl AsRawFd) -> Self {
            static HANDLER: Once = Once::new();
            // SAFETY: the handler makes only async-signal-safe calls.
            HANDLER.call_once(|| unsafe {
                libc::pthread_atfork(None, None, Some(in_child));
            });
            let number = descriptor.as_raw_fd();
            let is_taken = |place: &&AtomicI32| {
                place.compare_exchange(FREE, number, Ordering::AcqRel, Ordering::Acquire).is_ok()
            };
            Self(KEPT.iter().find(is_taken))
        }
    }

    impl Drop for KeptFromChildren {
        fn drop(&mut self) {
            if let Some(place) = self.0 {
                place.store(FREE, Ordering::Release);
            }
        }
    }

    /// Puts `/dev/null` in the place of each descriptor: whoever in the child closes the number
    /// later closes that, and nothing else.
    unsafe extern "C" fn in_child() {
        // SAFETY: plain system calls; a number that is not open any more is refused or replaced by
        // something harmless.
        unsafe {
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            for place in &KEPT {
                let number = place.load(Ordering::Acquire);
                if number != FREE && null >= 0 {
                    libc::dup2(null, number);
                    libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
                } else if number != FREE {
                    libc::close(number);
                }
            }
            if null >= 0 {
                libc::close(null);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::net::TcpListener;

        #[test]
        fn a_child_does_not_keep_a_port_of_its_parent() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let kept = KeptFromChildren::new(&listener);
            // SAFETY: the child makes only async-signal-safe calls.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: as above; it is killed by its parent, or by the alarm.
                unsafe {
                    libc::alarm(30);
                    loop {
                        libc::pause();
                    }
                }
            }
            drop(kept);
            drop(listener);
            // The child lets go at its own pace, and a program that another test starts holds every
            // descriptor for a moment.
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
            let mut again = TcpListener::bind(address);
            while again.is_err() && std::time::Instant::now() < patience {
                std::thread::sleep(std::time::Duration::from_millis(10));
                again = TcpListener::bind(address);
            }
            // SAFETY: it is our own child, which nobody else waits for.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
            again.unwrap();
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_at_a_fork_is_open_in_the_child() {
        static VALUE: PerProcess<u32> = PerProcess::new();
        let mut held = VALUE.get().lock().unwrap();
        *held = 7;
        // SAFETY: the child takes a lock that nobody else can hold there, and leaves.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: plain system calls.
            unsafe { libc::alarm(20) };
            let is_fresh = VALUE.get().try_lock().is_ok_and(|value| *value == 0);
            // SAFETY: as above.
            unsafe { libc::_exit(if is_fresh { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: the status is written by the kernel.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status}");
        drop(held);
        assert_eq!(*VALUE.get().lock().unwrap(), 7);
    }
}
