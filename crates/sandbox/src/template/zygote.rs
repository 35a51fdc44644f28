//! A machine that waits in memory, stopped, to be forked: each fork is a machine of its own that goes on
//! from there. Forks are children of the zygote: its end is theirs.

use super::parent::{Bound, Parent};
use super::rest;
use super::store::Template;
use crate::agent_client::execution::{Discard, run_to_end};
use crate::boot::{Source, Start, attempt};
use crate::config::SandboxConfig;
use crate::error::Result;
use crate::execute::ExecuteRequest;
use crate::located::Located;
use crate::overlay::DISK_SET;
use crate::running::Machine;
use crate::timing::{BootTiming, Stopwatch};
use serde_json::json;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// How often a zygote does what its template did: its code was translated in another process, and what
/// it has translated its forks need not.
const N_REHEARSALS: usize = 2;
/// How long its guest may take to come to rest before it stops: a copy hears that it is one, and programs
/// of the guest have to do with that.
const REST: Duration = Duration::from_secs(5);

/// A machine that waits.
pub(crate) struct Zygote {
    machine: Machine,
    /// The template that it was copied from.
    pub template: Template,
    /// The same machine as its forks need it.
    pub parent: Arc<Parent>,
    disk: Arc<File>,
    is_first: bool,
}

impl Zygote {
    /// Copies a template and lets the copy come to rest. Must be called in the runtime that the machine
    /// belongs to.
    pub(super) async fn make(
        start: &Start<'_>,
        located: &Located,
        template: Template,
    ) -> Result<Self> {
        let (mut watch, mut timing) = (Stopwatch::start(), BootTiming::default());
        let source = Source::Zygote(template.clone());
        let machine = attempt(start, located, &source, &mut watch, &mut timing)
            .await
            .map_err(|failure| failure.error)?;
        for _ in 0..N_REHEARSALS {
            let request = ExecuteRequest::new(super::make::REHEARSAL)
                .timeout(Duration::from_secs(20))
                .cwd("/");
            run_to_end(&machine.agent, &request, &mut Discard).await?;
        }
        rest::come_to_rest(&machine, REST).await?;
        machine.qmp.execute("stop", json!({})).await?;
        let qmp = Arc::clone(&machine.qmp);
        let parent = Parent::of(&machine.qemu, qmp, DISK_SET, Bound::Parent).await?;
        let (parent, disk) = (Arc::new(parent), machine.origin.overlay());
        let is_first = crate::launch::is_first_of_namespace(machine.qemu.process.pid());
        tracing::debug!(took_s = watch.total().as_secs_f64(), "a machine waits to be forked");
        Ok(Self { machine, template, parent, disk, is_first })
    }

    /// What its agent was told.
    pub(crate) fn token(&self) -> &str {
        &self.machine.qemu.token
    }

    /// Whether it can be forked still.
    pub(super) fn is_alive(&self) -> bool {
        self.machine.is_alive()
    }

    /// What it has written to its disk, which does not change while it stands still.
    pub(crate) fn disk(&self) -> &File {
        &self.disk
    }

    /// Whether its end is that of every process below it, however those were forked.
    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }
}

/// The configuration of a zygote: that of its template.
pub(super) fn config(config: &SandboxConfig) -> SandboxConfig {
    super::make::plain_config(config)
}
