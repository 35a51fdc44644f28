//! How a machine comes about that others are forked from.

use super::make::REHEARSAL;
use super::rest;
use crate::agent_client::execution::{Discard, run_to_end};
use crate::boot::{Source, Start, attempt};
use crate::error::Result;
use crate::execute::ExecuteRequest;
use crate::fork_source::{Bound, Parent, Zygote};
use crate::launch::is_first_of_namespace;
use crate::located::Located;
use crate::machine::Machine;
use crate::overlay::DISK_SET;
use crate::templates::Template;
use crate::timing::{BootTiming, Stopwatch};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How often a zygote does what its forks do first and what its template did: QEMU translates the guest's code
/// when it runs, and what the zygote has translated its forks need not.
const N_REHEARSALS: usize = 2;
/// How long its guest may take to come to rest before it stops: a copy hears that it is one, and programs
/// of the guest have to do with that.
const REST: Duration = Duration::from_secs(5);

/// Copies a template and lets the copy come to rest. Must be called in the runtime that the machine
/// belongs to.
pub(super) async fn make_zygote(
    start: &Start<'_>,
    located: &Located,
    template: Template,
) -> Result<Zygote> {
    let (mut watch, mut timing) = (Stopwatch::start(), BootTiming::default());
    let source = Source::Zygote(template.clone());
    let machine = attempt(start, located, &source, &mut watch, &mut timing)
        .await
        .map_err(|failure| failure.error)?;
    for _ in 0..N_REHEARSALS {
        machine.agent.rehearse_copy(&machine.qemu.token).await?;
        let request = ExecuteRequest::new(REHEARSAL).timeout(Duration::from_secs(20)).cwd("/");
        run_to_end(&machine.agent, &request, &mut Discard).await?;
    }
    rest::come_to_rest(&machine, REST).await?;
    machine.qmp.execute("stop", json!({})).await?;
    let qmp = Arc::clone(&machine.qmp);
    let parent = Parent::new(&machine.qemu, qmp, DISK_SET, Bound::Parent).await?;
    let (parent, disk) = (Arc::new(parent), machine.origin.overlay());
    tracing::debug!(took_s = watch.total().as_secs_f64(), "a machine waits to be forked");
    let is_first = is_first_of_namespace(machine.qemu.process.pid());
    let Machine { qemu, agent, .. } = machine;
    Ok(Zygote { qemu, _agent: agent, template, parent, disk, is_first })
}
