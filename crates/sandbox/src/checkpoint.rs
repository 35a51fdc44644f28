//! Checkpoints: memory and disk of a running machine, kept while it runs.
//!
//! QEMU keeps them inside the overlay, so that they end with the machine and need no room of their
//! own until the guest writes. The machine stands still while its memory is written or read.
//! See <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html> (`snapshot-save`).
//!
//! What a revert means for the host: calls that were under way end with [`Error::Reverted`], because
//! the command that they wait for never ran in the guest's new present. A command that was running
//! when the checkpoint was made is ended by the agent for the same reason: the call that would read
//! its output is gone. What commands left running in the background comes back and goes on.

use crate::error::{Error, Result};
use crate::plan::DRIVE;
use crate::qmp::Qmp;
use crate::running::Machine;
use crate::shares::Moments;
use serde_json::{Value, json};
use std::collections::HashMap;
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
    /// The bytes of the guest's memory and devices in it.
    pub state_bytes: u64,
}

/// The checkpoints of one machine, in the order in which they were made.
#[derive(Default)]
pub(crate) struct Checkpoints {
    known: Vec<(Checkpoint, String)>,
    /// What the guest knew of its shares, by QEMU's name of the checkpoint.
    shares: HashMap<String, Moments>,
    n_made: u64,
}

impl Checkpoints {
    pub(crate) fn list(&self) -> Vec<Checkpoint> {
        self.known.iter().map(|(checkpoint, _)| checkpoint.clone()).collect()
    }

    /// QEMU's name of a checkpoint. It is never the user's: whatever characters that has, QEMU only
    /// sees its number.
    fn internal(&self, tag: &str) -> Result<String> {
        let found = self.known.iter().find(|(checkpoint, _)| checkpoint.tag == tag);
        found.map(|(_, internal)| internal.clone()).ok_or_else(|| Error::UnknownCheckpoint {
            tag: tag.to_owned(),
            known: self.known.iter().map(|(checkpoint, _)| checkpoint.tag.clone()).collect(),
        })
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
pub(crate) async fn make(machine: Arc<Machine>, tag: String) -> Result<Checkpoint> {
    on_task(async move {
        let mut all = machine.state.lock().await;
        machine.check_quota()?;
        let most = usize::from(machine.qemu.limits.checkpoints());
        if all.known.len() >= most && all.internal(&tag).is_err() {
            let reason = format!("there are {most} already, which is the machine's limit");
            return Err(Error::CheckpointFailed { action: "make", tag, reason });
        }
        let node = node(&machine.qmp).await?;
        all.n_made += 1;
        let internal = format!("quicksand-{}", all.n_made);
        let job = json!({
            "job-id": JOB, "tag": &internal, "vmstate": node, "devices": [node],
        });
        let before = machine.qemu.moments();
        let saved = run(&machine, "snapshot-save", job, "make", &tag).await;
        // The machine stood still for a moment between the two.
        let mut moments = machine.qemu.moments();
        moments.join(before);
        machine.tell_time().await;
        // A failed job has removed what it wrote.
        saved?;
        all.shares.insert(internal.clone(), moments);
        let state_bytes = state_bytes(&machine.qmp, &internal).await?;
        let made = Checkpoint { tag: tag.clone(), created: SystemTime::now(), state_bytes };
        let old = all.known.iter().position(|(checkpoint, _)| checkpoint.tag == tag);
        let old = old.map(|index| all.known.remove(index).1);
        all.known.push((made.clone(), internal));
        machine.list(&all);
        if let Some(old) = old {
            all.shares.remove(&old);
            delete_internal(&machine, &old, &tag).await?;
        }
        Ok(made)
    })
    .await
}

/// Takes the machine back to a checkpoint, which stays.
pub(crate) async fn revert(machine: Arc<Machine>, tag: String) -> Result<()> {
    on_task(async move {
        let all = machine.state.lock().await;
        let internal = all.internal(&tag)?;
        let node = node(&machine.qmp).await?;
        let job = json!({
            "job-id": JOB, "tag": &internal, "vmstate": node, "devices": [node],
        });
        machine
            .back_in_time(async {
                machine.qmp.execute("stop", json!({})).await?;
                machine.qemu.forget_shares();
                let loaded = run(&machine, "snapshot-load", job, "restore", &tag).await;
                if let Some(net) = machine.qemu.net() {
                    net.forget();
                }
                machine.qmp.execute("cont", json!({})).await?;
                machine.qemu.resume_shares(all.shares.get(&internal));
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
        let mut all = machine.state.lock().await;
        let internal = all.internal(&tag)?;
        delete_internal(&machine, &internal, &tag).await?;
        all.shares.remove(&internal);
        all.known.retain(|(checkpoint, _)| checkpoint.tag != tag);
        machine.list(&all);
        Ok(())
    })
    .await
}

/// Removes all checkpoints.
pub(crate) async fn delete_all(machine: &Arc<Machine>) -> Result<()> {
    let tags: Vec<String> = {
        let all = machine.state.lock().await;
        all.known.iter().map(|(checkpoint, _)| checkpoint.tag.clone()).collect()
    };
    for tag in tags {
        delete(Arc::clone(machine), tag).await?;
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

async fn delete_internal(machine: &Machine, internal: &str, tag: &str) -> Result<()> {
    let node = node(&machine.qmp).await?;
    let job = json!({"job-id": JOB, "tag": internal, "devices": [node]});
    run(machine, "snapshot-delete", job, "delete", tag).await
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

async fn state_bytes(qmp: &Qmp, internal: &str) -> Result<u64> {
    let drive = drive(qmp).await?;
    let snapshots = drive["image"]["snapshots"].as_array().cloned().unwrap_or_default();
    let own = snapshots.iter().find(|snapshot| snapshot["name"] == internal);
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
        let error = all.internal("x").unwrap_err();
        assert!(error.hint().unwrap().contains("none yet"));
        let made = Checkpoint { tag: "a".into(), created: SystemTime::UNIX_EPOCH, state_bytes: 1 };
        all.known.push((made, "quicksand-1".into()));
        assert_eq!(all.internal("a").unwrap(), "quicksand-1");
        let error = all.internal("x").unwrap_err();
        assert!(error.to_string().contains("`x`") && error.hint().unwrap().contains("a"));
        assert_eq!(error.kind(), crate::ErrorKind::Value);
    }
}
