//! The limit of a machine's overlay: looks at the file's size while the machine runs, and has it stand
//! still when the file is over its limit.
//!
//! Looking at the file needs nothing from the guest or from QEMU. What a second brings beyond the
//! limit is the price of looking once a second.

use crate::overlay::Origin;
use crate::qmp::Qmp;
use serde_json::json;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
pub(crate) struct Quota {
    limit: u64,
    origin: Arc<Origin>,
    is_over: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The limit when none is named: the guest can fill its disk, and several checkpoints find room.
pub(crate) fn default_limit(disk: u64, memory: u64) -> u64 {
    disk.saturating_mul(2).saturating_add(memory.saturating_mul(8))
}

impl Quota {
    pub(crate) fn watch(qmp: Arc<Qmp>, origin: Arc<Origin>, limit: u64) -> Self {
        let (sender, is_over) = watch::channel(false);
        let file = Arc::clone(&origin);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let is_over = is_over_limit(&file, limit);
                if is_over {
                    // Again each time: whoever lets the machine go on must have made room.
                    let stopped = qmp.execute("stop", json!({})).await;
                    if let Err(error) = stopped {
                        tracing::debug!(%error, "the machine could not be stopped at its limit");
                    }
                }
                sender.send_if_modified(|was| std::mem::replace(was, is_over) != is_over);
            }
        });
        Self { limit, origin, is_over, task }
    }

    /// The limit in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether the overlay is over its limit now.
    pub(crate) fn is_over(&self) -> bool {
        is_over_limit(&self.origin, self.limit)
    }

    /// Whether it was when it was last looked at, so that the machine stands still.
    pub(crate) fn was_over(&self) -> bool {
        *self.is_over.borrow()
    }

    /// Waits until the file was looked at after room was made. A guest that fills it again at once
    /// does not hold anybody up.
    pub(crate) async fn look(&self) {
        let mut is_over = self.is_over.clone();
        let looked = is_over.wait_for(|is_over| !is_over);
        let _ = tokio::time::timeout(2 * LOOK_EVERY, looked).await;
    }

    /// Waits until the overlay is over its limit; for ever when it never is.
    pub(crate) async fn exceeded(&self) {
        let mut is_over = self.is_over.clone();
        if is_over.wait_for(|is_over| *is_over).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn is_over_limit(origin: &Origin, limit: u64) -> bool {
    written(origin).is_ok_and(|used| used > limit)
}

/// The bytes that what a machine has written takes on the disk, with the layers that its forks share.
pub(crate) fn written(origin: &Origin) -> io::Result<u64> {
    origin.written().iter().map(|file| used(file)).sum()
}

/// The bytes that a file takes on the disk; holes take none.
#[cfg(unix)]
pub(crate) fn used(file: &File) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(file.metadata()?.blocks().saturating_mul(512))
}

#[cfg(not(unix))]
pub(crate) fn used(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn holes_take_no_room() {
        use std::os::unix::fs::FileExt as _;
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        assert!(used(&file).unwrap() < 1 << 20);
        file.write_all_at(&[1; 4 << 20], 1 << 20).unwrap();
        file.sync_all().unwrap();
        assert!(used(&file).unwrap() >= 4 << 20);
    }

    #[test]
    fn a_disk_can_be_filled_by_default() {
        assert_eq!(default_limit(10, 1), 28);
        assert_eq!(default_limit(u64::MAX, 1), u64::MAX);
    }
}
