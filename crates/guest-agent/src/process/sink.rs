//! Input of a command: a bounded queue in front of a pipe or a terminal.
//!
//! The queue lets resizes and signals pass that were sent behind input which the command does not
//! read; when it is full, nothing more is taken from the connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use agent_protocol::limits::STDIN_QUEUE;
use bytes::{Buf as _, Bytes};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::watch::watch;

/// The queue that writers of input fill.
#[derive(Default)]
pub struct Input {
    queue: RefCell<VecDeque<Bytes>>,
    n_queued: Cell<usize>,
    closed: Cell<bool>,
    added: Notify,
    taken: Notify,
}

impl Input {
    /// Adds bytes; waits while the queue is full. Bytes for a command that takes none are dropped.
    pub async fn push(&self, bytes: Bytes) {
        while self.n_queued.get() >= STDIN_QUEUE && !self.closed.get() {
            self.taken.notified().await;
        }
        if !self.closed.get() && !bytes.is_empty() {
            self.n_queued.set(self.n_queued.get() + bytes.len());
            self.queue.borrow_mut().push_back(bytes);
            self.added.notify_one();
        }
    }

    /// Says that no more comes.
    pub fn close(&self) {
        self.closed.set(true);
        self.added.notify_one();
        self.taken.notify_one();
    }

    fn pop(&self) -> Option<Bytes> {
        let bytes = self.queue.borrow_mut().pop_front()?;
        self.n_queued.set(self.n_queued.get() - bytes.len());
        self.taken.notify_one();
        Some(bytes)
    }

    /// Writes the queue to `descriptor` until it is closed and empty, or nobody reads any more.
    /// The end of file of a pipe is that the descriptor is dropped; a terminal gets `end`, what
    /// Ctrl-D would type.
    pub async fn write_to(self: Rc<Self>, descriptor: OwnedFd, end: Option<u8>) -> io::Result<()> {
        let descriptor = watch(descriptor, Interest::WRITABLE)?;
        let result = async {
            loop {
                if let Some(bytes) = self.pop() {
                    write_all(&descriptor, bytes).await?;
                } else if self.closed.get() {
                    break;
                } else {
                    self.added.notified().await;
                }
            }
            if let Some(end) = end {
                write_all(&descriptor, Bytes::copy_from_slice(&[end])).await?;
            }
            Ok(())
        }
        .await;
        // After an error nobody must wait for room in a queue that nobody empties.
        self.queue.borrow_mut().clear();
        self.n_queued.set(0);
        self.close();
        result
    }
}

async fn write_all(descriptor: &AsyncFd<OwnedFd>, mut bytes: Bytes) -> io::Result<()> {
    while bytes.has_remaining() {
        let mut guard = descriptor.writable().await?;
        match rustix::io::write(descriptor.get_ref(), &bytes) {
            Ok(n_written) => bytes.advance(n_written),
            Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
