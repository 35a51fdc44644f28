//! A copy of a machine that stands still: others are forked from it, and it never runs itself.

use super::{Parent, Zygote};
use crate::agent_client::Identity;
use crate::qemu_process::QemuProcess;
use crate::usernet::Connection;
use std::fs::File;
use std::sync::Arc;
use tokio::net::UnixStream;

/// A copy of a machine that stands still.
pub(crate) struct Still {
    /// The copy as its forks need it.
    pub(crate) parent: Arc<Parent>,
    pub(crate) zygote: Arc<Zygote>,
    /// Its disk, and what lies between that and the image's own.
    pub(crate) disk: Arc<File>,
    pub(crate) layers: Vec<Arc<File>>,
    /// How many of those it has written itself, and QEMU's descriptor set of the disk.
    pub(crate) place: (usize, u32),
    /// The token that its agent was given, and whether it had shares by FUSE.
    pub(crate) token: String,
    pub(crate) had_shares: bool,
    /// The connections that its guest believes to have.
    pub(crate) connections: Vec<Connection>,
    /// What the machine is known by.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Its process. Its guest would see the end of our ends of its connections.
    pub(crate) qemu: QemuProcess,
    pub(crate) _agent: UnixStream,
}

impl Still {
    /// Bytes of the host's memory that it holds, most of them together with the machine.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let used = crate::host_process::used_by(self.qemu.process.pid());
        used.map(|(_, memory)| memory).unwrap_or_default()
    }

    /// Ends its process, and waits until it is gone.
    pub(crate) async fn end(&self) {
        self.qemu.process.kill_and_wait().await;
    }
}
