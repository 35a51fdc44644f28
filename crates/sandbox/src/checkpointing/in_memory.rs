//! Checkpoints in memory: a copy of the machine's process stands still, and shares memory and translated
//! code with it until one of them writes. For machines that can be forked while they run (`boot/live.rs`).
//!
//! A revert forks the copy. The fork is the same machine as the copy's: the same machine id, boot id and
//! address, with the ports that the machine has now. Its token, clock and random numbers are new, since two
//! machines must never draw the same ones. It takes the place of the machine's process, which ends.
//!
//! What was open in a share of a copy ends with errors, as in any fork. So the first checkpoint of a machine
//! that has had shares goes to the disk, from where they go on.

use crate::boot;
use crate::checkpoint::{Checkpoints, Copy, Kept};
use crate::config::SandboxConfig;
use crate::error::{Error, Result};
use crate::frozen;
use crate::machine::Machine;
use std::sync::Arc;

/// Makes one, and says how much it holds; `None` for a machine whose checkpoints are on its disk.
/// `config` is the machine's.
pub(super) async fn make(
    machine: &Arc<Machine>,
    all: &Checkpoints,
    config: SandboxConfig,
    tag: &str,
) -> Result<Option<(Kept, u64)>> {
    let is_first = all.known.is_empty();
    let shares = machine.shares.active();
    if all.are_on_disk() || is_first && (machine.qemu.has_used_shares() || !shares.is_empty()) {
        return Ok(None);
    }
    let Some(located) = machine.located.as_deref() else { return Ok(None) };
    if frozen::check(&config, located).is_err() {
        return Ok(None);
    }
    let config = config.for_child(shares.iter().map(|handle| handle.mount.clone()).collect());
    match boot::stand_held(machine, config, located.clone()).await {
        Ok(still) => {
            let bytes = still.memory_bytes();
            let copy = Copy { still: Arc::new(still), shares };
            Ok(Some((Kept::InMemory(Arc::new(copy)), bytes)))
        }
        Err(error) if is_first => {
            tracing::debug!(%error, "the checkpoint goes to the disk");
            Ok(None)
        }
        Err(error) => Err(Error::CheckpointFailed {
            action: "make",
            tag: tag.to_owned(),
            reason: error.to_string(),
        }),
    }
}
