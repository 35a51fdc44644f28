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
pub(crate) mod in_memory;

use crate::config::SandboxConfig;
use crate::error::{Error, Result};
use crate::plan::DRIVE;
use crate::qmp::Qmp;
use crate::running::Machine;
use crate::shares::Moments;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The name of the one job at a time.
const JOB: &str = "checkpoint";
/// The longest name of a checkpoint, in bytes.
const MAX_TAG: usize = 128;

/// A checkpoint of a running sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its name.
    pub tag: String,
    /// When it was made.
    pub created: SystemTime,
    /// The bytes of the guest's memory and devices in it. One in memory holds most of them together with
    /// the machine, until that writes to them.
    pub state_bytes: u64,
}

/// The checkpoints of one machine, in the order in which they were made.
#[derive(Default)]
pub(crate) struct Checkpoints {
    known: Vec<(Checkpoint, Kept)>,
    n_made: u64,
}

/// Where a checkpoint is.
enum Kept {
    /// In the overlay.
    OnDisk {
        /// QEMU's name of it. It is never the user's: whatever characters that has, QEMU only sees a
        /// number.
        name: String,
        /// What the guest knew of its shares.
        shares: Arc<Moments>,
    },
    #[cfg(target_os = "linux")]
    InMemory(Arc<in_memory::Copy>),
}

impl Checkpoints {
    pub(crate) fn list(&self) -> Vec<Checkpoint> {
        self.known.iter().map(|(checkpoint, _)| checkpoint.clone()).collect()
    }

    /// Whether there are some, in the overlay.
    pub(crate) fn are_on_disk(&self) -> bool {
        self.known.iter().any(|(_, kept)| matches!(kept, Kept::OnDisk { .. }))
    }

    /// One that is in memory; `None` for one in the overlay.
    #[cfg(target_os = "linux")]
    pub(crate) fn in_memory(&self, tag: &str) -> Result<Option<Arc<in_memory::Copy>>> {
        match &self.known[self.position(tag)?].1 {
            Kept::InMemory(copy) => Ok(Some(Arc::clone(copy))),
            Kept::OnDisk { .. } => Ok(None),
        }
    }

    /// Ends those that are processes.
    pub(crate) async fn end(&mut self) {
        for (_, kept) in self.known.drain(..) {
            kept.end().await;
        }
    }

    fn position(&self, tag: &str) -> Result<usize> {
        let found = self.known.iter().position(|(checkpoint, _)| checkpoint.tag == tag);
        found.ok_or_else(|| Error::UnknownCheckpoint {
            tag: tag.to_owned(),
            known: self.known.iter().map(|(checkpoint, _)| checkpoint.tag.clone()).collect(),
        })
    }
}

impl Kept {
    async fn end(&self) {
        #[cfg(target_os = "linux")]
        if let Self::InMemory(copy) = self {
            copy.end().await;
        }
    }
}

/// Refuses a name that could not be shown or told from others.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    if !tag.trim().is_empty() && tag.len() <= MAX_TAG && !tag.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::InvalidValue {
        option: "tag",
        value: tag.chars().filter(|c| !c.is_control()).take(MAX_TAG).collect(),
        allowed: format!("1 to {MAX_TAG} bytes without control characters"),
        hint: Some("Name a checkpoint for example `before-upgrade`".into()),
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_shown_are_allowed() {
        for good in ["a", "before upgrade", "été", &"x".repeat(128), "a,b=c"] {
            check_tag(good).unwrap();
        }
        for bad in ["", " ", "a\nb", "\u{7}", &"x".repeat(129)] {
            assert!(check_tag(bad).unwrap_err().to_string().contains("`tag`"));
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_those_that_there_are() {
        let mut all = Checkpoints::default();
        let error = all.position("x").unwrap_err();
        assert!(error.hint().unwrap().contains("none yet"));
        let made = Checkpoint { tag: "a".into(), created: SystemTime::UNIX_EPOCH, state_bytes: 1 };
        all.known.push((made, Kept::OnDisk { name: "quicksand-1".into(), shares: Arc::default() }));
        assert_eq!(all.position("a").unwrap(), 0);
        let error = all.position("x").unwrap_err();
        assert!(error.to_string().contains("`x`") && error.hint().unwrap().contains("a"));
        assert_eq!(error.kind(), crate::ErrorKind::Value);
    }
}
