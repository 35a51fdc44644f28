//! Freezes and thaws the root file system.
//!
//! A frozen file system is whole on the disk, so that a copy of the disk needs no repair. Whoever
//! writes to it meanwhile waits in the kernel. So freezing and thawing have a thread of their own
//! ([`Freezer`]), which touches no file: the request to thaw is heard, and the thaw by time happens,
//! whatever waits elsewhere. It thaws by itself after a time: a host that died must not leave a guest
//! that hangs.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// The root file system.
pub(crate) const ROOT: &str = "/";
/// `FIFREEZE` and `FITHAW` (linux/fs.h), whose numbers the libc crate does not have.
const FIFREEZE: u32 = 0xc004_5877;
const FITHAW: u32 = 0xc004_5878;

/// Freezes and thaws the root file system, in a thread that begins with the first freeze.
#[derive(Default)]
pub struct Freezer {
    requests: RefCell<Option<mpsc::Sender<Request>>>,
}

struct Request {
    /// For how long at most; none to thaw.
    freeze: Option<Duration>,
    /// Whether the file system stands still now.
    reply: oneshot::Sender<io::Result<bool>>,
}

impl Freezer {
    /// Freezes for a time at most, or thaws, and says whether the file system stands still now.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn ask(&self, freeze: Option<Duration>) -> io::Result<bool> {
        let (reply, answer) = oneshot::channel();
        self.thread()?.send(Request { freeze, reply }).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    fn thread(&self) -> io::Result<mpsc::Sender<Request>> {
        let mut place = self.requests.borrow_mut();
        if let Some(requests) = &*place {
            return Ok(requests.clone());
        }
        let (sender, requests) = mpsc::channel();
        std::thread::Builder::new().name("freezer".into()).spawn(move || {
            // What it needs later must not have to be read from a disk that is busy.
            // SAFETY: changes no memory, only whether it may be paged out.
            unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) };
            serve(&requests, &command);
        })?;
        Ok(place.insert(sender).clone())
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that freezes has ended")
}

/// Does what is asked for, and thaws in time what nobody has thawed.
fn serve(requests: &mpsc::Receiver<Request>, command: &dyn Fn(u32, u64) -> io::Result<()>) {
    let mut until: Option<Instant> = None;
    loop {
        let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
        let request = match rest {
            Some(rest) => requests.recv_timeout(rest),
            None => requests.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        match request {
            Ok(Request { freeze: Some(time), reply }) => {
                let result = freeze_here(command);
                if matches!(result, Ok(true)) {
                    until = Some(Instant::now() + time);
                }
                // A host that has given up meanwhile: the thaw by time is for it.
                let _ = reply.send(result);
            }
            Ok(Request { freeze: None, reply }) => {
                let result = thaw_here(command);
                if result.is_ok() {
                    until = None;
                }
                let _ = reply.send(result);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Thawed by hand meanwhile: then there is nothing to do.
                let _ = thaw_here(command);
                until = None;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn freeze_here(command: &dyn Fn(u32, u64) -> io::Result<()>) -> io::Result<bool> {
    match command(FIFREEZE, 0) {
        Ok(()) => Ok(true),
        // Frozen already, by another save: it is thawed when the last one ends.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            rustix::fs::sync();
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn thaw_here(command: &dyn Fn(u32, u64) -> io::Result<()>) -> io::Result<bool> {
    match command(FITHAW, 0) {
        Err(error)
            if ![Some(libc::EINVAL), Some(libc::EOPNOTSUPP)].contains(&error.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(false),
    }
}

/// A command on the root file system, which takes a number or none.
pub(crate) fn command(number: u32, argument: u64) -> io::Result<()> {
    let root = File::from(rustix::fs::open(
        ROOT,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?);
    // SAFETY: the descriptor is open, and the argument is a number of eight bytes that lives as long
    // as the call; the commands that take four or none read no more.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), number as _, &raw const argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn what_nobody_thaws_is_thawed_in_time_although_nobody_asks() {
        static THAWS: AtomicU32 = AtomicU32::new(0);
        let (requests, waiting) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            serve(&waiting, &|number, _| {
                THAWS.fetch_add(u32::from(number == FITHAW), Ordering::SeqCst);
                Ok(())
            });
        });
        let ask = |freeze| {
            let (reply, answer) = oneshot::channel();
            requests.send(Request { freeze, reply }).unwrap();
            answer.blocking_recv().unwrap().unwrap()
        };
        assert!(ask(Some(Duration::from_millis(50))));
        let start = Instant::now();
        while THAWS.load(Ordering::SeqCst) == 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "nothing was thawed");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(start.elapsed() >= Duration::from_millis(40));
        // Thawed by hand, it is not thawed again by time.
        assert!(ask(Some(Duration::from_millis(50))));
        assert!(!ask(None));
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(THAWS.load(Ordering::SeqCst), 2);
        drop(requests);
        thread.join().unwrap();
    }
}
