//! Shares of a running machine: mounted at its start or later, and taken back.

use crate::error::Result;
use crate::machine::Machine;
use crate::mount::{Mount, MountHandle};
use crate::shares::Guest;
use std::sync::Arc;

/// Mounts one; 9p's device with the tag of this index is there already.
pub(crate) async fn mount(machine: &Machine, mount: &Mount, index: usize) -> Result<MountHandle> {
    machine.shares.mount(guest(machine), mount, index).await
}

/// Mounts what the configuration names, in its order.
pub(crate) async fn mount_all(machine: &Machine, mounts: &[Mount]) -> Result<()> {
    for (index, named) in mounts.iter().enumerate() {
        mount(machine, named, index).await?;
    }
    Ok(())
}

/// Takes a share back. The host does not ask the guest: what it is sent afterwards is for its own good.
pub(crate) async fn unmount(
    machine: &Arc<Machine>,
    handle: &MountHandle,
    force: bool,
) -> Result<()> {
    if machine.shares.revoke(guest(machine), handle, force).await? {
        // Whoever does not wait for the rest leaves no mount point and no server behind either.
        let (machine, target) = (Arc::clone(machine), handle.mount.guest.clone());
        let clearing = async move { machine.shares.clear(guest(&machine), target).await };
        let _ = tokio::spawn(clearing).await;
    }
    Ok(())
}

fn guest(machine: &Machine) -> Guest<'_> {
    Guest { qemu: &machine.qemu, agent: &machine.agent }
}
