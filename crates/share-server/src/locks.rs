//! Who holds locks of ranges of files: each owner of the guest's has an open file of its own for them, which
//! `locking` gets and this table keeps.

use crate::allowance::Permit;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// The open file of one owner's locks of one file.
struct Held {
    node: u64,
    owner: u64,
    /// With which of the guest's open files the first lock was asked for.
    handle: u64,
    file: OwnedFd,
    _permit: Permit,
}

/// All owners that hold locks of ranges.
#[derive(Default)]
pub(crate) struct Locks(Vec<Held>);

impl Locks {
    /// The open file of an owner's locks of a file.
    pub(crate) fn get(&self, node: u64, owner: u64) -> Option<BorrowedFd<'_>> {
        let held = self.0.iter().find(|held| (held.node, held.owner) == (node, owner))?;
        Some(held.file.as_fd())
    }

    /// Keeps the open file of an owner, which it has not had in this file before.
    pub(crate) fn add(
        &mut self,
        node: u64,
        owner: u64,
        handle: u64,
        file: OwnedFd,
        permit: Permit,
    ) {
        self.0.push(Held { node, owner, handle, file, _permit: permit });
    }

    /// Whether anybody has locked anything of a file.
    pub(crate) fn has(&self, node: u64) -> bool {
        self.0.iter().any(|held| held.node == node)
    }

    /// Lets go of what an owner has locked in a file: it has closed a descriptor of it.
    pub(crate) fn drop_owner(&mut self, node: u64, owner: u64) {
        self.0.retain(|held| (held.node, held.owner) != (node, owner));
    }

    /// Lets go of what was locked by way of an open file that is closed.
    pub(crate) fn drop_handle(&mut self, handle: u64) {
        self.0.retain(|held| held.handle != handle);
    }
}
