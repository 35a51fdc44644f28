//! What a mount by FUSE needs of the host: the machine's port, and a server below the folder.

use super::Backing;
#[cfg(target_os = "linux")]
use super::failed;
use crate::error::{Error, Result};
use crate::mount::Mount;
#[cfg(target_os = "linux")]
use crate::mount::MountCache;
use crate::qemu_process::QemuProcess;
#[cfg(target_os = "linux")]
use crate::share_port::Channel;
#[cfg(target_os = "linux")]
use std::sync::Arc;

/// The port of the machine's shares, and the number of this one.
#[cfg(target_os = "linux")]
pub(super) fn backing(qemu: &QemuProcess, mount: &Mount, id: u64) -> Result<Backing> {
    let channel = qemu.shares.as_ref().ok_or_else(|| no_share_port(mount))?;
    let number = u32::try_from(id).map_err(|error| failed(&mount.guest, error))?;
    Ok(Backing::Fuse(Arc::clone(channel), number))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn backing(_: &QemuProcess, mount: &Mount, _: u64) -> Result<Backing> {
    Err(no_share_port(mount))
}

/// Opens what is shared and answers the guest's requests for it from here on.
#[cfg(target_os = "linux")]
pub(super) async fn serve(
    qemu: &QemuProcess,
    mount: &Mount,
    channel: &Channel,
    number: u32,
) -> Result<()> {
    let options = share_server::Options {
        readonly: mount.readonly,
        shown: (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)),
        permissions: mount.umask.map(|umask| 0o777 & !u32::from(umask)),
        writeback: mount.cache == MountCache::Writeback,
        ..Default::default()
    };
    let (path, budget) = (mount.host_path(), Arc::clone(&qemu.budget));
    // A file system that does not answer must not hold up the others.
    let opening =
        tokio::task::spawn_blocking(move || share_server::Share::open(&path, options, budget));
    let share = opening.await.map_err(|error| failed(mount.host.display(), error))?;
    let share = share.map_err(|error| failed(mount.host.display(), error))?;
    channel.add(number, Arc::new(share))
}

fn no_share_port(mount: &Mount) -> Error {
    Error::Mount {
        action: "mount",
        share: mount.host.display().to_string(),
        reason: "this machine has no port for shares by fuse".into(),
        hint: Some(
            "It needs a Linux host, an image of this release and transport=\"socket\"; leave the \
             type out to have what there is"
                .into(),
        ),
    }
}
