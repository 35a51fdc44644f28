//! A download as it arrives: counts what the guest sends, and hands it to a thread that writes.
//!
//! Owns the limits, and the rule that a download that failed or was cancelled has removed what it
//! wrote before anybody goes on.

use super::download::{Request, receive};
use super::{QUEUE, Transfer, thread_error};
use crate::agent_client::{AgentClient, Part};
use crate::error::{Error, Result};
use agent_protocol::ReadFilesRequest;
use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

type Writing = JoinHandle<Result<Transfer>>;

/// Threads of downloads that nobody waits for any more. Each removes what it wrote and ends.
#[derive(Clone, Default)]
pub(crate) struct Leftovers(Arc<Mutex<Vec<Writing>>>);

impl Leftovers {
    /// Waits until all of them have ended.
    pub async fn tidied(&self) {
        let threads = take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.await;
        }
    }
}

/// A thread that writes. When the download is dropped its queue ends, and it is left to the others.
struct Writer {
    queue: Option<mpsc::Sender<Option<Part>>>,
    thread: Option<Writing>,
    leftovers: Leftovers,
}

impl Writer {
    fn start(request: Request, leftovers: &Leftovers) -> Self {
        let (queue, parts) = mpsc::channel(QUEUE);
        let thread = tokio::task::spawn_blocking(move || receive(parts, &request));
        Self { queue: Some(queue), thread: Some(thread), leftovers: leftovers.clone() }
    }

    /// Gives it a part, `None` at the end; says whether it still takes them.
    async fn take(&self, part: Option<Part>) -> bool {
        match &self.queue {
            Some(queue) => queue.send(part).await.is_ok(),
            None => false,
        }
    }

    async fn ended(mut self) -> Result<Transfer> {
        self.queue = None;
        // The handle stays here while it is waited for: this may be cancelled too.
        let Some(thread) = &mut self.thread else { return Ok(Transfer::default()) };
        let result = thread.await.map_err(thread_error);
        self.thread = None;
        result?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            self.leftovers.0.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
    }
}

pub(crate) async fn download(
    agent: &AgentClient,
    request: Request,
    leftovers: &Leftovers,
) -> Result<Transfer> {
    let tree = request.options.tree != Some(false);
    let mut parts =
        agent.read_files(&ReadFilesRequest { path: request.guest.clone(), tree }).await?;
    let mut budget = Budget::new(&request);
    let writer = Writer::start(request, leftovers);
    let failure = loop {
        let part = match parts.next().await {
            Ok(part) => part,
            Err(error) => break Some(error),
        };
        if let Err(error) = part.as_ref().map_or(Ok(()), |part| budget.take(part)) {
            break Some(error);
        }
        let is_last = part.is_none();
        if !writer.take(part).await || is_last {
            break None;
        }
    };
    // What the writer has to say comes after what was wrong with what it got.
    let written = writer.ended().await;
    failure.map_or(written, Err)
}

/// What a download may still bring.
struct Budget {
    path: String,
    limits: (u64, u64),
    n_bytes: u64,
    n_entries: u64,
}

impl Budget {
    fn new(request: &Request) -> Self {
        let options = &request.options;
        Self {
            path: request.guest.to_string(),
            limits: (options.max_bytes, options.max_entries),
            n_bytes: options.max_bytes,
            // The root comes free: a tree of one file has one entry.
            n_entries: options.max_entries.saturating_add(1),
        }
    }

    fn take(&mut self, part: &Part) -> Result<()> {
        let (left, amount) = match part {
            Part::Entry(_) => (&mut self.n_entries, 1),
            Part::Data(data) => (&mut self.n_bytes, data.len() as u64),
            Part::Hole(length) => (&mut self.n_bytes, *length),
        };
        match left.checked_sub(amount) {
            Some(rest) => *left = rest,
            None => return Err(self.exceeded(part)),
        }
        Ok(())
    }

    fn exceeded(&self, part: &Part) -> Error {
        let path = self.path.clone();
        match part {
            Part::Entry(_) => Error::TooManyEntries { path, limit: self.limits.1 },
            _ => Error::TooLarge { path, limit: self.limits.0 },
        }
    }
}
