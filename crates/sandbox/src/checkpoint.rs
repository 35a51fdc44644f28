//! The checkpoints of one machine: what is known of them, and where each is. How they are made and gone
//! back to is `checkpointing`'s.

use crate::error::{Error, Result};
#[cfg(target_os = "linux")]
use crate::fork_source::Still;
#[cfg(target_os = "linux")]
use crate::mount::MountHandle;
use crate::share_port::Moments;
use std::sync::Arc;
use std::time::SystemTime;

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
    pub(crate) known: Vec<(Checkpoint, Kept)>,
    pub(crate) n_made: u64,
}

/// Where a checkpoint is.
pub(crate) enum Kept {
    /// In the overlay.
    OnDisk {
        /// QEMU's name of it. It is never the user's: whatever characters that has, QEMU only sees a
        /// number.
        name: String,
        /// What the guest knew of its shares.
        shares: Arc<Moments>,
    },
    #[cfg(target_os = "linux")]
    InMemory(Arc<Copy>),
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
    pub(crate) fn in_memory(&self, tag: &str) -> Result<Option<Arc<Copy>>> {
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

    pub(crate) fn position(&self, tag: &str) -> Result<usize> {
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

/// Refuses a name that could not be shown or distinguished from others.
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

/// A copy of a machine that stands still.
#[cfg(target_os = "linux")]
pub(crate) struct Copy {
    pub still: Arc<Still>,
    /// What was shared with it.
    pub shares: Vec<MountHandle>,
}

#[cfg(target_os = "linux")]
impl Copy {
    pub(crate) async fn end(&self) {
        self.still.end().await;
    }
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
    fn an_unknown_name_is_reported_with_those_that_there_are() {
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
