//! `POST /mount` and `POST /unmount`: shares of the host.
//!
//! The calls wait for a server on the other side of the network, so that they are made in a thread
//! of their own: whoever serves the host's other requests must not wait with them.

use std::ffi::CString;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_protocol::{MountRequest, OkResponse, UnmountRequest};
use hyper::Response;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount as mount_at, unmount as unmount_at};

use super::in_thread;
use crate::body::Body;
use crate::router::answer;
use crate::{Error, Result};

/// How long a folder may be in use by what has ended a moment ago: the kernel closes files of a
/// server in the background.
const BUSY_TIME: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Mounts a share; the folder is made when it is missing.
///
/// # Errors
/// What the kernel refuses; [`Error::NoFileSystem`] when it does not know the type.
pub async fn mount(body: &[u8]) -> Result<Response<Body>> {
    let request = MountRequest::from_json(body)?;
    in_thread("mount", move || mount_here(&request)).await?;
    Ok(answer(&OkResponse { ok: true }))
}

/// Unmounts a share.
///
/// # Errors
/// What the kernel refuses, such as a folder that is in use.
pub async fn unmount(body: &[u8]) -> Result<Response<Body>> {
    let request = UnmountRequest::from_json(body)?;
    in_thread("unmount", move || {
        let flags = if request.force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        let deadline = Instant::now() + BUSY_TIME;
        let result = loop {
            match unmount_at(&request.target, flags | UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
                result => break result,
            }
        };
        result.map_err(|source| Error::Path {
            action: "unmount",
            path: request.target.into(),
            source: source.into(),
        })
    })
    .await?;
    Ok(answer(&OkResponse { ok: true }))
}

fn mount_here(request: &MountRequest) -> Result<()> {
    let target = Path::new(&request.target);
    let failed =
        |source: std::io::Error| Error::Path { action: "mount", path: target.into(), source };
    fs_err::create_dir_all(target).map_err(failed)?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if request.readonly {
        flags |= MountFlags::RDONLY;
    }
    let options = CString::new(&*request.options).map_err(|error| failed(error.into()))?;
    let options = (!request.options.is_empty()).then_some(options.as_c_str());
    match mount_at(&*request.source, target, &*request.kind, flags, options) {
        Err(Errno::NODEV) => Err(Error::NoFileSystem { kind: request.kind.clone() }),
        result => result.map_err(|error| failed(error.into())),
    }
}
