//! Shares of the host by FUSE: the guest's kernel asks, the host answers, and this carries both.
//!
//! Each mounted share has a thread that takes the kernel's requests from `/dev/fuse` to the host: into
//! the window that both see, where the answer mostly comes at once, else to the port. One thread for
//! all takes the host's answers from the port to the kernel. They know next to nothing of what they
//! carry, and nothing of the agent waits with them.
//!
//! See `Documentation/filesystems/fuse.rst` of the kernel, and [`agent_protocol::share_frame`].

mod line;
mod mounted;
mod own_answers;
mod window;

use std::ffi::CString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount as mount_at};

use crate::token::Tokens;
use crate::{Error, Result};
use line::Line;
use mounted::Mounted;

/// The type of the file system, with what the mount table shows behind it.
const TYPE: &str = "fuse.quicksand";
/// The most bytes of one read.
const MAX_READ: usize = 1 << 20;

/// The port of all shares, once one has been mounted.
static LINE: Mutex<Option<Arc<Line>>> = Mutex::new(None);

/// What is to be mounted where.
pub struct Request<'a> {
    /// The share's number.
    pub share: u32,
    /// An existing folder, or an existing file for a share of one.
    pub target: &'a Path,
    /// Whether it is a share of one file.
    pub is_file: bool,
    /// Whether the kernel refuses writes by itself.
    pub readonly: bool,
}

/// Mounts a share.
///
/// # Errors
/// [`Error::NoFileSystem`] when this kernel has no FUSE or the host no port for it; what the kernel
/// refuses.
pub fn mount(request: &Request<'_>, tokens: &Tokens) -> Result<()> {
    let failed = |source: std::io::Error| Error::Path {
        action: "mount",
        path: request.target.into(),
        source,
    };
    let missing = || Error::NoFileSystem { kind: "fuse".into() };
    let device = mounted::open_device().map_err(|errno| match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => missing(),
        errno => failed(errno.into()),
    })?;
    let line = {
        let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
        match &*line {
            Some(line) => Arc::clone(line),
            None => {
                let found = Line::open(tokens.clone()).map_err(failed)?.ok_or_else(missing)?;
                Arc::clone(line.insert(found))
            }
        }
    };
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if request.readonly {
        flags |= MountFlags::RDONLY;
    }
    let kind = if request.is_file { libc::S_IFREG } else { libc::S_IFDIR };
    let options = format!(
        "fd={},rootmode={kind:o},user_id=0,group_id=0,default_permissions,allow_other,max_read={MAX_READ}",
        std::os::fd::AsRawFd::as_raw_fd(&device)
    );
    let options = CString::new(options).map_err(|error| failed(error.into()))?;
    let mounted = Mounted::new(device, request.target);
    // The kernel's first request may come before mount(2) has returned.
    line.add(request.share, &mounted);
    let result = match mount_at("quicksand", request.target, TYPE, flags, Some(options.as_c_str()))
    {
        Err(Errno::NODEV) => Err(missing()),
        result => result.map_err(|errno| failed(errno.into())),
    };
    let result = result.and_then(|()| mounted.serve(request.share, &line).map_err(failed));
    if result.is_ok() {
        let target = request.target.to_owned();
        let thread = std::thread::Builder::new().name("share-ahead".into());
        let _ = thread.spawn(move || read_ahead(&target));
    }
    if result.is_err() {
        line.remove(request.share);
        let _ = rustix::mount::unmount(request.target, rustix::mount::UnmountFlags::DETACH);
    }
    result
}

/// Has the kernel read as much of a file ahead as one request may ask for: its own measure is for disks
/// that answer faster.
fn read_ahead(target: &Path) {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let flags = AtFlags::from_bits_retain(libc::AT_STATX_DONT_SYNC as u32);
    let Ok(found) = statx(CWD, target, flags, StatxFlags::empty()) else { return };
    // The first answer of all, which says how much the host allows, has come before this one.
    let _ = rustix::fs::statfs(target);
    let (major, minor) = (found.stx_dev_major, found.stx_dev_minor);
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    let _ = fs_err::write(file, (MAX_READ >> 10).to_string());
}

/// Ends what is mounted at a place, whoever uses it still: they get errors.
pub fn end(target: &Path) {
    if let Some(line) = line() {
        line.end_at(target);
    }
}

/// Ends and unmounts all shares: they are another machine's.
pub fn end_all() {
    for target in line().map(|line| line.end_all()).unwrap_or_default() {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        // Somebody may have unmounted it already.
        let _ = rustix::mount::unmount(&target, flags);
    }
}

fn line() -> Option<Arc<Line>> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
