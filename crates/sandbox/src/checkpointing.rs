//! Checkpoints: memory and disk of a running machine, kept while it runs.
//!
//! Those of a machine that can be forked are kept in memory, as a copy of its process that stands still
//! (`in_memory`). QEMU keeps all others inside the overlay, so that they end with the machine and need no
//! room of their own until the guest writes. The machine stands still while its memory is written or read.
//! See <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html> (`snapshot-save`). The checkpoints of a
//! machine are all of one kind: those in an overlay would be lost with the process that has it open.
//!
//! What a revert means for the host: calls that were under way end with [`Error::Reverted`], because
//! the command that they wait for never ran in the guest's new present. A command that was running
//! when the checkpoint was made is ended by the agent for the same reason: the call that would read
//! its output is gone. What commands left running in the background comes back and goes on.

#[cfg(target_os = "linux")]
mod in_memory;

use crate::checkpoint::{Checkpoint, Checkpoints, Kept};
use crate::config::SandboxConfig;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::plan::DRIVE;
use crate::qmp::Qmp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The name of the one job at a time.
const JOB: &str = "checkpoint";

/// Keeps memory and disk. One of the same name is replaced once the new one is whole.
pub(crate) async fn make(
    machine: Arc<Machine>,
    config: SandboxConfig,
    tag: String,
) -> Result<Checkpoint> {
    on_task(async move {
        let mut all = machine.lock_state("make a checkpoint").await?;
        machine.check_quota()?;
        let most = usize::from(machine.qemu.limits.checkpoints());
        let old = all.position(&tag).ok();
        if all.known.len() >= most && old.is_none() {
            let reason = format!("there are {most} already, which is the machine's limit");
            return Err(Error::CheckpointFailed { action: "make", tag, reason });
        }
        #[cfg(target_os = "linux")]
        let in_memory = in_memory::make(&machine, &all, config, &tag).await?;
        #[cfg(not(target_os = "linux"))]
        let (in_memory, _) = (None, config);
        let (kept, state_bytes) = match in_memory {
            Some(made) => made,
            None => make_on_disk(&machine, &mut all, &tag).await?,
        };
        let made = Checkpoint { tag: tag.clone(), created: SystemTime::now(), state_bytes };
        let old = old.map(|index| all.known.remove(index).1);
        all.known.push((made.clone(), kept));
        machine.list(&all);
        if let Some(old) = old {
            remove(&machine, &old, &tag).await?;
        }
        if machine.is_stopping() {
            // Whoever ended it did not wait for this one.
            all.end().await;
        }
        Ok(made)
    })
    .await
}

async fn make_on_disk(machine: &Machine, all: &mut Checkpoints, tag: &str) -> Result<(Kept, u64)> {
    let node = node(&machine.qmp).await?;
    all.n_made += 1;
    let name = format!("quicksand-{}", all.n_made);
    let job = json!({ "job-id": JOB, "tag": &name, "vmstate": node, "devices": [node] });
    let before = machine.qemu.moments();
    let saved = run(machine, "snapshot-save", job, "make", tag).await;
    // The machine stood still for a moment between the two.
    let mut moments = machine.qemu.moments();
    moments.join(before);
    machine.tell_time().await;
    // A failed job has removed what it wrote.
    saved?;
    let state_bytes = state_bytes(&machine.qmp, &name).await?;
    Ok((Kept::OnDisk { name, shares: Arc::new(moments) }, state_bytes))
}

/// Takes the machine back to a checkpoint in its overlay, which stays.
pub(crate) async fn revert(machine: Arc<Machine>, tag: String) -> Result<()> {
    on_task(async move {
        let all = machine.lock_state("revert").await?;
        let (name, shares) = match &all.known[all.position(&tag)?].1 {
            Kept::OnDisk { name, shares } => (name.clone(), Arc::clone(shares)),
            #[cfg(target_os = "linux")]
            Kept::InMemory(_) => {
                let reason = "it is in memory".into();
                return Err(Error::CheckpointFailed { action: "restore", tag, reason });
            }
        };
        let node = node(&machine.qmp).await?;
        let job = json!({ "job-id": JOB, "tag": &name, "vmstate": node, "devices": [node] });
        machine
            .back_in_time(async {
                machine.qmp.execute("stop", json!({})).await?;
                machine.qemu.forget_shares();
                let loaded = run(&machine, "snapshot-load", job, "restore", &tag).await;
                if let Some(net) = machine.qemu.net() {
                    net.forget();
                }
                machine.qmp.execute("cont", json!({})).await?;
                machine.qemu.resume_shares(Some(&shares));
                // The connection is the past's, whether the load has failed or not.
                let found = machine.agent.resync().await;
                loaded.and(found)
            })
            .await
    })
    .await
}

/// Removes a checkpoint.
pub(crate) async fn delete(machine: Arc<Machine>, tag: String) -> Result<()> {
    on_task(async move {
        let mut all = machine.lock_state("delete a checkpoint").await?;
        let index = all.position(&tag)?;
        remove(&machine, &all.known[index].1, &tag).await?;
        all.known.remove(index);
        machine.list(&all);
        Ok(())
    })
    .await
}

/// Removes all checkpoints.
pub(crate) async fn delete_all(machine: &Arc<Machine>) -> Result<()> {
    let all = machine.lock_state("delete checkpoints").await?.list();
    for checkpoint in all {
        delete(Arc::clone(machine), checkpoint.tag).await?;
    }
    Ok(())
}

/// Runs work to its end even when whoever waits for it gives up: half of it would leave the machine
/// standing still or out of reach.
async fn on_task<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        let source = std::io::Error::other(error.to_string());
        Err(Error::System { action: "run the task of a checkpoint", source })
    })
}

/// How long QEMU may be busy with the memory of a machine: a minute, and what a disk that writes
/// 32 MiB a second needs for it.
fn busy(memory_bytes: u64) -> Duration {
    Duration::from_secs(60 + (memory_bytes >> 25))
}

/// Removes what a checkpoint takes.
async fn remove(machine: &Machine, kept: &Kept, tag: &str) -> Result<()> {
    match kept {
        Kept::OnDisk { name, .. } => {
            let node = node(&machine.qmp).await?;
            let job = json!({"job-id": JOB, "tag": name, "devices": [node]});
            run(machine, "snapshot-delete", job, "delete", tag).await
        }
        #[cfg(target_os = "linux")]
        Kept::InMemory(copy) => {
            copy.end().await;
            Ok(())
        }
    }
}

/// Runs a job, or ends with the machine.
async fn run(
    machine: &Machine,
    command: &'static str,
    job: Value,
    action: &'static str,
    tag: &str,
) -> Result<()> {
    let ended = tokio::select! {
        ended = machine.qmp.job(command, job, busy(machine.origin.memory.bytes())) => ended,
        error = machine.qemu.death() => return Err(error),
    };
    ended.map_err(|error| match error {
        Error::Qmp { reason, .. } => {
            Error::CheckpointFailed { action, tag: tag.to_owned(), reason }
        }
        error => error,
    })
}

/// What QEMU says of the guest's disk.
pub(crate) async fn drive(qmp: &Qmp) -> Result<Value> {
    let drives = qmp.execute("query-block", json!({})).await?;
    let found = drives.as_array().into_iter().flatten().find(|drive| drive["device"] == DRIVE);
    found.map(|drive| drive["inserted"].clone()).ok_or_else(|| Error::Qmp {
        command: "query-block".into(),
        reason: "the guest's disk is not in its answer".into(),
    })
}

async fn node(qmp: &Qmp) -> Result<Value> {
    Ok(drive(qmp).await?["node-name"].clone())
}

async fn state_bytes(qmp: &Qmp, name: &str) -> Result<u64> {
    let drive = drive(qmp).await?;
    let snapshots = drive["image"]["snapshots"].as_array().cloned().unwrap_or_default();
    let own = snapshots.iter().find(|snapshot| snapshot["name"] == name);
    Ok(own.and_then(|snapshot| snapshot["vm-state-size"].as_u64()).unwrap_or_default())
}
