//! Requests for locks that another holds: tried again until they are granted or taken back.
//!
//! The host's own programs let go of locks without a word, so that there is nothing to wait for but
//! the next attempt.

use super::channel::{Inner, Job, spawn};
use share_server::Answer;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Requests that may wait; a guest has one for each of its threads that does.
const MOST: usize = 1024;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(4);

#[derive(Default)]
pub(super) struct Waiting {
    jobs: Mutex<Vec<Job>>,
}

impl Waiting {
    fn jobs(&self) -> MutexGuard<'_, Vec<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a request tried again; no when there are too many already.
    pub(super) fn add(&self, inner: &Arc<Inner>, job: Job) -> bool {
        let mut jobs = self.jobs();
        if jobs.len() >= MOST {
            return false;
        }
        jobs.push(job);
        if jobs.len() > 1 {
            return true;
        }
        drop(jobs);
        let trying = Arc::downgrade(inner);
        let is_started = spawn("quicksand-share-locks", move || {
            let mut out = Vec::new();
            loop {
                std::thread::sleep(PAUSE);
                let Some(inner) = trying.upgrade() else { return };
                let mut jobs = inner.waiting.jobs();
                jobs.retain(|job| {
                    let (id, epoch) = (job.id, job.epoch);
                    inner.answer(id, &job.share, &job.request, epoch, &mut out) == Answer::Later
                });
                if jobs.is_empty() {
                    return;
                }
            }
        });
        if is_started.is_err() {
            self.jobs().pop();
        }
        is_started.is_ok()
    }

    /// Refuses requests that were taken back, or whose share was.
    pub(super) fn refuse(&self, inner: &Inner, is_refused: impl Fn(&Job) -> bool) {
        let mut refused = Vec::new();
        self.jobs().retain(|job| {
            let stays = !is_refused(job);
            if !stays {
                refused.push((job.id, job.request.clone(), job.epoch));
            }
            stays
        });
        let mut out = Vec::new();
        for (id, request, epoch) in refused {
            inner.refuse(id, &request, epoch, libc::EINTR, &mut out);
        }
    }

    /// Forgets all, whose guest is gone.
    pub(super) fn clear(&self) {
        self.jobs().clear();
    }
}
