//! A running machine as it was at one moment: memory, devices and disk. Others can begin there, and the
//! machine itself goes on.
//!
//! Owns the moment: what is written while the machine stands still, and that it stands still no longer.
//! What another machine does with it is `boot`'s; that it becomes another machine by it is the agent's
//! (`agent_client/identity.rs`).

use crate::blocking::blocking;
use crate::config::{SandboxConfig, Transport};
use crate::error::{Error, Result};
use crate::hardware::MachineType;
use crate::located::Located;
use crate::machine::Machine;
use crate::overlay::{temporary_folder, unnamed_file};
use crate::usernet::{Connection, UserNet};
use crate::vmstate;
use disk_formats::qcow2::{self, Fault};
use serde_json::json;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a machine begins with that goes on from another.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    /// Memory and devices.
    pub state: Arc<File>,
    /// What lies on the image's own disks, from bottom to top.
    pub disks: Vec<Arc<File>>,
    /// The token that the other machine's agent was given.
    pub token: String,
    /// Whether that machine had shares by FUSE.
    pub had_shares: bool,
    /// The connections that its guest believes to have.
    pub connections: Vec<Connection>,
}

/// Says why a machine of this kind cannot be frozen.
pub(crate) fn check(config: &SandboxConfig, located: &Located) -> std::result::Result<(), String> {
    let is_q35 = MachineType::for_arch(located.image.arch) == MachineType::Q35;
    let is_socket = located.transport(config).is_ok_and(|it| it == Transport::Socket);
    let refused = [
        (!located.has_identity_agent, "the image's agent takes no new identity"),
        (!is_q35, "the guest is not for x86_64"),
        (!is_socket, "the transport is not `socket`"),
        (!config.extra_qemu_args().is_empty(), "extra_qemu_args"),
        (config.enable_display(), "enable_display"),
        (config.has_plan9(), "a share by 9p"),
    ];
    match refused.iter().find(|(is_refused, _)| *is_refused) {
        Some((_, reason)) => Err((*reason).to_owned()),
        None => Ok(()),
    }
}

/// Freezes a machine for other machines of this process.
pub(crate) async fn freeze(machine: Arc<Machine>) -> Result<Frozen> {
    let failed = |source| Error::System { action: "keep the machine's memory", source };
    let (file, state) = unnamed_file(&temporary_folder()).map_err(failed)?;
    let writer = crate::new_file::reopened_for_writing(&file).map_err(failed)?;
    let (disk, layer) = unnamed_file(&temporary_folder()).map_err(failed)?;
    let mut disks = machine.own_layers();
    disks.push(Arc::new(layer.into()));
    let (token, had_shares) = (machine.qemu.token.clone(), machine.qemu.has_used_shares());
    // A task of its own: half of it would leave the machine standing still.
    let work = tokio::spawn(async move {
        let _state = machine.lock_state("fork").await?;
        machine.check_quota()?;
        let connections = machine.qemu.net().map(UserNet::connections).unwrap_or_default();
        stand_still(&machine, writer, disk, Path::new("disk"), "").await.map(|()| connections)
    });
    let connections = work.await.map_err(|error| failed(io::Error::other(error.to_string())))??;
    Ok(Frozen { state: Arc::new(state.into()), disks, token, had_shares, connections })
}

/// Writes memory, devices and disk while the machine stands still. Whoever calls it holds the
/// machine's state.
pub(crate) async fn stand_still(
    machine: &Machine,
    state: File,
    disk: File,
    path: &Path,
    below: &str,
) -> Result<()> {
    let writing = async {
        machine.qmp.execute("stop", json!({})).await?;
        let written = async {
            vmstate::write_all(&machine.qmp, state, busy(machine)).await?;
            copy_disk(machine, disk, path, below).await
        };
        let written = written.await;
        let gone_on = machine.qmp.execute("cont", json!({})).await;
        if gone_on.is_ok() {
            machine.tell_time().await;
        }
        written.and(gone_on.map(drop))
    };
    tokio::select! {
        written = writing => written,
        error = machine.qemu.death() => Err(error),
    }
}

/// A minute, and what a disk that writes 32 MiB a second needs for the memory.
fn busy(machine: &Machine) -> Duration {
    Duration::from_secs(60 + (machine.origin.memory.bytes() >> 25))
}

/// Copies what the guest has written. QEMU has put the disk in order with the state.
async fn copy_disk(machine: &Machine, mut copy: File, path: &Path, below: &str) -> Result<()> {
    let file = |source| Error::File { action: "copy the disk to", path: path.into(), source };
    let mut overlay = machine.origin.overlay().try_clone().map_err(file)?;
    let (name, below) = (path.to_owned(), below.to_owned());
    let copying = blocking(move || {
        qcow2::copy_active(&mut overlay, &mut copy, &below).map_err(|fault| match fault {
            Fault::Bad(reason) => Error::BadImage { path: name, reason },
            Fault::Io(source) => Error::File { action: "copy the disk to", path: name, source },
        })
    });
    copying.await
}
