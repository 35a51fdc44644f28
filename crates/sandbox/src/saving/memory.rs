//! What a save has of the guest's memory, and whether a machine may go on with it.
//!
//! ```text
//!   NAME/memory.state     memory and devices, in QEMU's own form
//!   NAME/memory.json      what they depend on
//! ```
//! Both are sealed with the layers, so that QEMU reads no state but one that this user's own process has
//! written on this host. Everything else starts from the disk, and says why.

use crate::boot::preview;
use crate::config::SandboxConfig;
use crate::error::{Error, Result};
use crate::frozen::{self, Frozen};
use crate::located::Located;
use crate::machine::Machine;
use crate::templates::key;
use crate::usernet::{Connection, UserNet};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::sync::Arc;

/// The most bytes that are read of what the memory depends on.
const MAX_NEEDS: u64 = 1 << 20;

/// What a memory depends on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Needs {
    /// A digest of the machine, of QEMU and kernel, and of the host.
    key: String,
    /// The token that the guest's agent was given.
    token: String,
    /// Whether the guest had shares by FUSE.
    had_shares: bool,
    /// The connections that it believes to have.
    #[serde(default)]
    connections: Vec<Connection>,
    /// Whether it was a machine that can be forked, which lacks a device.
    may_fork: bool,
}

impl Needs {
    /// Those of a running machine.
    pub(crate) fn new(config: &SandboxConfig, machine: &Machine) -> Result<Self> {
        let cannot = |reason: String| Error::CannotFork { reason };
        let located = machine.located.as_deref();
        let located = located.ok_or_else(|| cannot("it is not known how it was started".into()))?;
        frozen::check(config, located).map_err(cannot)?;
        Ok(Self {
            key: key(config, located)?,
            token: machine.qemu.token.clone(),
            had_shares: machine.qemu.has_used_shares(),
            connections: machine.qemu.net().map(UserNet::connections).unwrap_or_default(),
            may_fork: located.may_fork,
        })
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a start from a save goes on with: nothing when it has no memory, or why it boots instead.
pub(crate) fn find(
    config: &SandboxConfig,
    located: &Located,
) -> Option<std::result::Result<(Frozen, Located), String>> {
    let (state, needs) = located.image.files.memory.as_ref()?;
    let found = read(needs).and_then(|needs| {
        // The machine is the one that was saved, as far as the user has no say in it.
        let mut located = located.clone();
        located.may_fork = needs.may_fork;
        check(config, &located, &needs)?;
        // The save's own layers are the image's.
        let Needs { token, had_shares, connections, .. } = needs;
        let (state, disks) = (Arc::clone(state), Vec::new());
        Ok((Frozen { state, disks, token, had_shares, connections }, located))
    });
    Some(found)
}

fn read(mut file: &File) -> std::result::Result<Needs, String> {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(MAX_NEEDS).read_to_string(&mut text));
    read.map_err(|error| format!("what its memory depends on cannot be read: {error}"))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("what its memory depends on is not known: {error}"))
}

fn check(
    config: &SandboxConfig,
    located: &Located,
    needs: &Needs,
) -> std::result::Result<(), String> {
    frozen::check(config, located)?;
    let own = key(config, located).map_err(|error| error.to_string())?;
    if needs.key != own {
        return Err("its memory is of another machine: other options, QEMU, kernel or host".into());
    }
    Ok(())
}

/// The key of a machine, whichever save it was started from.
fn key(config: &SandboxConfig, located: &Located) -> Result<String> {
    let mut located = located.clone();
    located.image.chain.truncate(located.image.n_base_disks);
    located.disk_size = None;
    let command = preview(&config.without_host(), &located)?;
    key::compute(&command, &located, &[])
        .map_err(|source| Error::System { action: "tell this host from others", source })
}
