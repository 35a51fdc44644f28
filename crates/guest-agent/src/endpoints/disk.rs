//! `POST /freeze`, `POST /thaw` and `POST /grow`: the root file system stands still for a save, goes
//! on, and fills a disk that was made larger.
//!
//! A frozen file system is whole on the disk, so that a copy of the disk needs no repair. The agent
//! thaws it by itself after a time: a host that died must not leave a guest that hangs.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt as _;
use std::rc::Rc;
use std::time::Duration;

use agent_protocol::{FreezeRequest, FreezeResponse, GrowResponse, OkResponse};
use hyper::Response;

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

/// Writes everything to the disk and keeps it still, for a time at most.
///
/// # Errors
/// A kernel that refuses although the file system can be frozen.
pub async fn freeze(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let seconds = FreezeRequest::from_json(body)?.seconds;
    let frozen = match command(FIFREEZE, 0) {
        Ok(()) => true,
        // Frozen already, by another save: it is thawed when the last one ends.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => true,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            rustix::fs::sync();
            false
        }
        Err(source) => return Err(failed("freeze", source)),
    };
    let ticket = agent.freezes.get() + 1;
    agent.freezes.set(ticket);
    if frozen {
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_secs(seconds.into())).await;
            if agent.freezes.get() == ticket {
                // Thawed by hand meanwhile: then there is nothing to do.
                let _ = command(FITHAW, 0);
            }
        });
    }
    Ok(answer(&FreezeResponse { frozen }))
}

/// Lets the file system go on.
///
/// # Errors
/// A kernel that refuses. One that is not frozen is fine.
pub async fn thaw(agent: Rc<Agent>) -> Result<Response<Body>> {
    agent.freezes.set(agent.freezes.get() + 1);
    match command(FITHAW, 0) {
        Err(error)
            if ![Some(libc::EINVAL), Some(libc::EOPNOTSUPP)].contains(&error.raw_os_error()) =>
        {
            Err(failed("thaw", error))
        }
        _ => Ok(answer(&OkResponse { ok: true })),
    }
}

/// Makes the root file system as large as its disk.
///
/// # Errors
/// A file system that is not ext4, or a kernel that refuses.
pub async fn grow() -> Result<Response<Body>> {
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
    Ok(answer(&GrowResponse { bytes: after.f_blocks * after.f_frsize }))
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
