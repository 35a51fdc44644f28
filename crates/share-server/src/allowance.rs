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
    /// Bytes that nobody is asked for.
    own: usize,
}

impl Meter {
    pub(crate) fn new(allowance: Arc<dyn Allowance>) -> Self {
        Self::with_own(0, allowance)
    }

    /// One whose first bytes are its own, whatever others hold already.
    pub(crate) fn with_own(own: usize, allowance: Arc<dyn Allowance>) -> Self {
        Self { allowance, permits: Vec::new(), used: 0, own }
    }

    fn portions(&self, used: usize) -> usize {
        used.saturating_sub(self.own).div_ceil(PORTION)
    }

    /// Takes bytes, and says no when there are none left.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let used = self.used + bytes;
        while self.permits.len() < self.portions(used) {
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
        self.permits.truncate(self.portions(self.used) + 1);
    }

    /// Gives everything back.
    pub(crate) fn reset(&mut self) {
        self.used = 0;
        self.permits.clear();
    }
}
