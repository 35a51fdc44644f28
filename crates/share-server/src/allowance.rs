//! What a share may hold for its guest: who is asked, and what the memory of many small things costs.

use std::any::Any;
use std::sync::Arc;

/// Held as long as what it was given for, and given back when it is dropped.
pub type Permit = Box<dyn Any + Send + Sync>;

/// Says how much one guest may still make this process hold.
pub trait Allowance: Send + Sync {
    /// One more open descriptor; `None` when there are too many.
    fn descriptor(&self) -> Option<Permit>;
    /// So many more bytes of memory; `None` when it is too much.
    fn memory(&self, bytes: usize) -> Option<Permit>;
}

/// Bytes that are asked for at a time: single names are too small to be counted one by one.
const PORTION: usize = 64 << 10;

/// Counts the bytes of many small things.
pub(crate) struct Meter {
    allowance: Arc<dyn Allowance>,
    permits: Vec<Permit>,
    used: usize,
}

impl Meter {
    pub(crate) fn new(allowance: Arc<dyn Allowance>) -> Self {
        Self { allowance, permits: Vec::new(), used: 0 }
    }

    /// Takes bytes, and says no when there are none left.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let used = self.used + bytes;
        while self.permits.len() * PORTION < used {
            let Some(permit) = self.allowance.memory(PORTION) else { return false };
            self.permits.push(permit);
        }
        self.used = used;
        true
    }

    /// Gives bytes back.
    pub(crate) fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
        // One portion stays, so that the border is not asked for again and again.
        self.permits.truncate(self.used.div_ceil(PORTION) + 1);
    }
    /// Gives everything back.
    pub(crate) fn reset(&mut self) {
        self.used = 0;
        self.permits.clear();
    }
}
