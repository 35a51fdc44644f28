//! What one guest can make this process hold: descriptors and bytes of memory, counted as long as
//! they are held.
//!
//! Owns the counters alone. Whoever opens a file, a connection or a buffer on a guest's behalf asks
//! here first and keeps the permit beside it; a guest that is over its budget is refused, and
//! nobody else notices. What the budget is, is said in `limits`.

use crate::limits::Limits;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is counted in units of this many bytes.
const UNIT: usize = 1024;
/// Names that one guest has looked up at a time. Each occupies a thread of the process.
const MAX_LOOKUPS: usize = 8;
/// Folders that one guest has listed at a time.
const MAX_LISTINGS: usize = 2;
/// The part of the memory that shares leave to connections: they forget names that do not fit, and a
/// connection has nothing to forget.
#[cfg(target_os = "linux")]
const NOT_FOR_SHARES: usize = 4;

/// Held as long as what it was given for. It is given back when it is dropped.
pub(crate) type Permit = OwnedSemaphorePermit;

/// The counters of one machine.
#[derive(Debug)]
pub(crate) struct Budget {
    max_descriptors: usize,
    descriptors: Arc<Semaphore>,
    /// Bytes of memory in all.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    max_memory: usize,
    memory: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    listings: Arc<Semaphore>,
}

impl Budget {
    /// Counters that nothing has been taken from.
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let memory = limits.memory() - u64::from(limits.wire());
        let units = usize::try_from(memory).unwrap_or(usize::MAX) / UNIT;
        let units = units.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            max_descriptors: usize::from(limits.descriptors()),
            descriptors: Arc::new(Semaphore::new(usize::from(limits.descriptors()))),
            max_memory: units * UNIT,
            memory: Arc::new(Semaphore::new(units)),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            listings: Arc::new(Semaphore::new(MAX_LISTINGS)),
        })
    }

    /// The most descriptors that the guest can have.
    pub(crate) fn max_descriptors(&self) -> usize {
        self.max_descriptors
    }

    /// Descriptors of this process; `None` when the guest has too many already.
    pub(crate) fn descriptors(&self, count: u32) -> Option<Permit> {
        Arc::clone(&self.descriptors).try_acquire_many_owned(count).ok()
    }

    /// Bytes of memory; `None` when the guest has too much already.
    pub(crate) fn memory(&self, bytes: usize) -> Option<Permit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        Arc::clone(&self.memory).try_acquire_many_owned(units).ok()
    }

    /// The bytes that are left.
    pub(crate) fn memory_left(&self) -> usize {
        self.memory.available_permits() * UNIT
    }

    /// Waits for the turn to look up a name.
    pub(crate) async fn lookup(&self) -> Option<Permit> {
        Arc::clone(&self.lookups).acquire_owned().await.ok()
    }

    /// Waits for the turn to list a folder.
    pub(crate) async fn listing(&self) -> Option<Permit> {
        Arc::clone(&self.listings).acquire_owned().await.ok()
    }
}

#[cfg(target_os = "linux")]
impl share_server::Allowance for Budget {
    fn descriptor(&self) -> Option<share_server::Permit> {
        self.descriptors(1).map(|permit| Box::new(permit) as _)
    }

    fn memory(&self, bytes: usize) -> Option<share_server::Permit> {
        if self.memory_left() < self.max_memory / NOT_FOR_SHARES + bytes {
            return None;
        }
        self.memory(bytes).map(|permit| Box::new(permit) as _)
    }
}

/// Raises this process's soft limit of descriptors to its hard one, once: each sandbox takes about
/// ten of the host process, and its guest may cause as many more as its budget says.
pub(crate) fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
            // macOS takes no more than this, whatever its hard limit says.
            let most = if cfg!(target_os = "macos") { Some(10_240) } else { None };
            let wanted = [maximum, most].into_iter().flatten().min();
            if current == wanted || (most.is_some() && current >= wanted) {
                return;
            }
            if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum }) {
                tracing::warn!(%error, "the limit of descriptors could not be raised");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_refused_and_what_is_dropped_comes_back() {
        let limits = Limits::default();
        let budget = Budget::new(&limits);
        let all = budget.descriptors(u32::from(limits.descriptors())).unwrap();
        assert!(budget.descriptors(1).is_none());
        drop(all);
        assert!(budget.descriptors(1).is_some());

        let half = budget.memory(budget.memory_left() / 2).unwrap();
        assert!(budget.memory(budget.memory_left() + 1).is_none());
        assert!(budget.memory(usize::MAX).is_none());
        let rest = budget.memory(budget.memory_left()).unwrap();
        assert!(budget.memory(1).is_none(), "less than a unit is a unit");
        drop((half, rest));
        assert_eq!(budget.memory_left() as u64 + u64::from(limits.wire()), limits.memory());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn shares_leave_something_to_connections() {
        let budget = Budget::new(&Limits::default());
        let all = budget.memory_left();
        let mut names = Vec::new();
        while let Some(permit) = share_server::Allowance::memory(&*budget, 64 << 10) {
            names.push(permit);
        }
        assert!(budget.memory_left() >= all / 4);
        assert!(budget.memory_left() < all / 4 + (64 << 10));
        assert!(budget.memory(all / 4).is_some());
    }
}
