//! What the guest has open, by number. Each takes a permit for as long as it is open.

use crate::allowance::Permit;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// An open file or folder.
pub(crate) struct Handle {
    pub file: Arc<OwnedFd>,
    pub node: u64,
    /// Of a folder: up to which entry it has been read.
    pub place: Arc<Mutex<u64>>,
    _permit: Permit,
}

/// Everything that is open. A copy keeps it open.
#[derive(Clone, Default)]
pub(crate) struct Handles {
    open: HashMap<u64, Arc<Handle>>,
    last: u64,
}

impl Handles {
    /// Takes note of something that was opened, and gives its number.
    pub(crate) fn add(&mut self, file: OwnedFd, node: u64, permit: Permit) -> u64 {
        self.last += 1;
        let (file, place) = (Arc::new(file), Arc::default());
        let handle = Handle { file, node, place, _permit: permit };
        self.open.insert(self.last, Arc::new(handle));
        self.last
    }

    pub(crate) fn file(&self, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        self.open.get(&number).map(|handle| Arc::clone(&handle.file)).ok_or(Errno::BADF)
    }

    /// A folder with its place in its own list.
    pub(crate) fn folder(&self, number: u64) -> Result<(Arc<OwnedFd>, Arc<Mutex<u64>>), Errno> {
        let handle = self.open.get(&number).ok_or(Errno::BADF)?;
        Ok((Arc::clone(&handle.file), Arc::clone(&handle.place)))
    }

    /// Any that is open of a file that may have no name any more.
    pub(crate) fn for_node(&self, node: u64) -> Option<Arc<OwnedFd>> {
        let open = self.open.values().find(|handle| handle.node == node);
        open.map(|handle| Arc::clone(&handle.file))
    }

    /// Everything of which any is open.
    pub(crate) fn nodes(&self) -> HashSet<u64> {
        self.open.values().map(|handle| handle.node).collect()
    }

    /// Goes back to what was open at a moment. Numbers that were given since are not given again.
    pub(crate) fn restore(&mut self, kept: &Self) {
        self.open = kept.open.clone();
    }

    /// Keeps what was open at an earlier moment as well.
    pub(crate) fn join(&mut self, earlier: Self) {
        for (number, handle) in earlier.open {
            self.open.entry(number).or_insert(handle);
        }
    }

    pub(crate) fn close(&mut self, number: u64) {
        self.open.remove(&number);
    }
}
