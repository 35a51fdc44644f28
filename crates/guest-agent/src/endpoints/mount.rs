//! `POST /mount` and `POST /unmount`: shares of the host.
//!
//! The calls wait for a server on the other side of the network, so that they are made in a thread
//! of their own: whoever serves the host's other requests must not wait with them.

use std::ffi::CString;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::{MountRequest, OkResponse, UnmountRequest};
use hyper::Response;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount as mount_at, unmount as unmount_at};

use super::in_thread;
use crate::agent::Agent;
use crate::answer::answer;
use crate::body::Body;
use crate::token::Tokens;
use crate::{Error, Result, shares};

/// How long a folder may be in use by what has ended a moment ago: the kernel closes files of a
/// server in the background.
const BUSY_TIME: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Mounts a share; the mount point is made when it is missing.
///
/// # Errors
/// What the kernel refuses; [`Error::NoFileSystem`] when it does not know the type.
pub async fn mount(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let request = MountRequest::from_json(body)?;
    let tokens = agent.tokens.clone();
    if request.kind == "fuse" {
        let turn = Arc::clone(&agent.mounting).lock_owned().await;
        in_thread("mount", move || {
            let _turn = turn;
            mount_share(&request, &tokens)
        })
        .await?;
    } else {
        in_thread("mount", move || mount_here(&request)).await?;
    }
    Ok(answer(&OkResponse { ok: true }))
}

/// Unmounts a share.
///
/// # Errors
/// What the kernel refuses, such as a folder that is in use.
pub async fn unmount(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let request = UnmountRequest::from_json(body)?;
    let turn = Arc::clone(&agent.mounting).lock_owned().await;
    in_thread("unmount", move || {
        let _turn = turn;
        if request.force {
            shares::end(Path::new(&request.target));
        }
        let flags = if request.force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        let deadline = Instant::now() + BUSY_TIME;
        let result = loop {
            match unmount_at(&request.target, flags | UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
                result => break result,
            }
        };
        if result.is_ok() {
            shares::end(Path::new(&request.target));
        }
        result.map_err(|source| Error::Path {
            action: "unmount",
            path: request.target.into(),
            source: source.into(),
        })
    })
    .await?;
    Ok(answer(&OkResponse { ok: true }))
}

/// Mounts a share by FUSE, on a folder or on a file.
fn mount_share(request: &MountRequest, tokens: &Tokens) -> Result<()> {
    let target = Path::new(&request.target);
    let failed =
        |source: std::io::Error| Error::Path { action: "mount", path: target.into(), source };
    // What a share that has ended left behind is in the way of everything.
    if let Err(Errno::NOTCONN) = rustix::fs::stat(target) {
        let _ = unmount_at(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    if request.file {
        if let Some(folder) = target.parent() {
            fs_err::create_dir_all(folder).map_err(failed)?;
        }
        let made = fs_err::OpenOptions::new().write(true).create_new(true).open(target);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
    } else {
        fs_err::create_dir_all(target).map_err(failed)?;
    }
    // The number was checked with the request.
    let share = request.source.parse().unwrap_or_default();
    let (is_file, readonly) = (request.file, request.readonly);
    shares::mount(&shares::Request { share, target, is_file, readonly }, tokens)
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
