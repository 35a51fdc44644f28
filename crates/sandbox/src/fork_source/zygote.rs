//! A machine that waits in memory, stopped, to be forked: each fork is a machine of its own that goes on
//! from there. Forks are children of the zygote: its end is theirs.

use super::Parent;
use crate::agent_client::AgentClient;
use crate::qemu_process::QemuProcess;
use crate::templates::Template;
use std::fs::File;
use std::sync::Arc;

/// A machine that waits.
pub(crate) struct Zygote {
    pub qemu: QemuProcess,
    /// Its guest would see the end of our end of the connection.
    pub _agent: AgentClient,
    /// The template that it was copied from.
    pub template: Template,
    /// The same machine as its forks need it.
    pub parent: Arc<Parent>,
    /// What it has written to its disk, which does not change while it stands still.
    pub disk: Arc<File>,
    /// Whether its end is that of every process below it, however those were forked.
    pub is_first: bool,
}

impl Zygote {
    /// The token that its agent was given.
    pub(crate) fn token(&self) -> &str {
        &self.qemu.token
    }

    /// Whether it can be forked still.
    pub(crate) fn is_alive(&self) -> bool {
        self.qemu.process.exit_status().is_none()
    }
}
