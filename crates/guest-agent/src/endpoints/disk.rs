//! `POST /freeze`, `POST /thaw` and `POST /grow`: the root file system stands still for a save, goes
//! on, and fills a disk that was made larger.
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
use std::os::unix::fs::MetadataExt as _;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use agent_protocol::{FreezeRequest, FreezeResponse, GrowResponse, OkResponse};
use hyper::Response;
use tokio::sync::oneshot;

use crate::agent::Agent;
use crate::body::Body;
use crate::router::answer;
use crate::{Error, Result};

const ROOT: &str = "/";
/// `FIFREEZE`, `FITHAW` (linux/fs.h) and `EXT4_IOC_RESIZE_FS` (linux/ext4.h), whose numbers the libc
/// crate does not have.
const FIFREEZE: u32 = 0xc004_5877;
const FITHAW: u32 = 0xc004_5878;
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;

/// Freezes and thaws the root file system, in a thread that begins with the first freeze.
#[derive(Default)]
pub struct Freezer {
    wishes: RefCell<Option<mpsc::Sender<Wish>>>,
}

struct Wish {
    /// For how long at most; none to thaw.
    freeze: Option<Duration>,
    /// Whether the file system stands still now.
    reply: oneshot::Sender<io::Result<bool>>,
}

impl Freezer {
    async fn ask(&self, freeze: Option<Duration>) -> io::Result<bool> {
        let (reply, answer) = oneshot::channel();
        self.thread()?.send(Wish { freeze, reply }).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    fn thread(&self) -> io::Result<mpsc::Sender<Wish>> {
        let mut place = self.wishes.borrow_mut();
        if let Some(wishes) = &*place {
            return Ok(wishes.clone());
        }
        let (sender, wishes) = mpsc::channel();
        std::thread::Builder::new().name("freezer".into()).spawn(move || {
            // What it needs later must not have to be read from a disk that is busy.
            // SAFETY: changes no memory, only whether it may be paged out.
            unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) };
            serve(&wishes, &command);
        })?;
        Ok(place.insert(sender).clone())
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that freezes has ended")
}

/// Does what is asked for, and thaws in time what nobody has thawed.
fn serve(wishes: &mpsc::Receiver<Wish>, command: &dyn Fn(u32, u64) -> io::Result<()>) {
    let mut until: Option<Instant> = None;
    loop {
        let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
        let wish = match rest {
            Some(rest) => wishes.recv_timeout(rest),
            None => wishes.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        match wish {
            Ok(Wish { freeze: Some(time), reply }) => {
                let result = freeze_here(command);
                if matches!(result, Ok(true)) {
                    until = Some(Instant::now() + time);
                }
                // A host that has given up meanwhile: the thaw by time is for it.
                let _ = reply.send(result);
            }
            Ok(Wish { freeze: None, reply }) => {
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

/// Writes everything to the disk and keeps it still, for a time at most.
///
/// # Errors
/// A kernel that refuses although the file system can be frozen.
pub async fn freeze(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let seconds = FreezeRequest::from_json(body)?.seconds;
    let time = Duration::from_secs(seconds.into());
    let frozen = agent.freezer.ask(Some(time)).await.map_err(|source| failed("freeze", source))?;
    Ok(answer(&FreezeResponse { frozen }))
}

/// Lets the file system go on.
///
/// # Errors
/// A kernel that refuses. One that is not frozen is fine.
pub async fn thaw(agent: Rc<Agent>) -> Result<Response<Body>> {
    agent.freezer.ask(None).await.map_err(|source| failed("thaw", source))?;
    Ok(answer(&OkResponse { ok: true }))
}

/// Makes the root file system as large as its disk.
///
/// # Errors
/// A file system that is not ext4, or a kernel that refuses.
pub async fn grow() -> Result<Response<Body>> {
    Ok(answer(&super::in_thread("grow the disk", grow_here).await?))
}

fn grow_here() -> Result<GrowResponse> {
    let device = fs_err::metadata(ROOT).map_err(|source| failed("measure", source))?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let path = format!("/sys/dev/block/{major}:{minor}/size");
    let sectors: u64 = fs_err::read_to_string(path)
        .map_err(|source| failed("measure", source))?
        .trim()
        .parse()
        .map_err(|error| failed("measure", std::io::Error::other(error)))?;
    let measure = || rustix::fs::statvfs(ROOT).map_err(|error| failed("measure", error.into()));
    let block = measure()?.f_bsize;
    command(EXT4_IOC_RESIZE_FS, sectors * 512 / block.max(512))
        .map_err(|source| failed("grow", source))?;
    let after = measure()?;
    Ok(GrowResponse { bytes: after.f_blocks * after.f_frsize })
}

fn failed(action: &'static str, source: std::io::Error) -> Error {
    Error::File { action, path: ROOT.into(), source }
}

/// One of the three commands on the root file system.
fn command(number: u32, argument: u64) -> std::io::Result<()> {
    let root = File::from(rustix::fs::open(
        ROOT,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?);
    // SAFETY: the descriptor is open, and the argument is a number of eight bytes that lives as long
    // as the call; the commands that take four or none read no more.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), number as _, &raw const argument) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn what_nobody_thaws_is_thawed_in_time_although_nobody_asks() {
        static THAWS: AtomicU32 = AtomicU32::new(0);
        let (wishes, waiting) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            serve(&waiting, &|number, _| {
                THAWS.fetch_add(u32::from(number == FITHAW), Ordering::SeqCst);
                Ok(())
            });
        });
        let ask = |freeze| {
            let (reply, answer) = oneshot::channel();
            wishes.send(Wish { freeze, reply }).unwrap();
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
        drop(wishes);
        thread.join().unwrap();
    }
}
