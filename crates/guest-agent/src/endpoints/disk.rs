//! `POST /freeze`, `POST /thaw` and `POST /grow`: the root file system stands still for a save, goes
//! on, and fills a disk that was made larger.

use std::os::unix::fs::MetadataExt as _;
use std::rc::Rc;
use std::time::Duration;

use agent_protocol::{FreezeRequest, FreezeResponse, GrowResponse, OkResponse};
use hyper::Response;

use crate::agent::Agent;
use crate::answer::answer;
use crate::body::Body;
use crate::freezer::{ROOT, command};
use crate::{Error, Result};

/// `EXT4_IOC_RESIZE_FS` (linux/ext4.h), whose number the libc crate does not have.
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;

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
