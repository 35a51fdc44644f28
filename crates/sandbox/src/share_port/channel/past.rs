//! A guest that goes back in time: what its past has asked is not answered, and both sides begin again.

use super::{Channel, Inner, Moments, lock, spawn};
use crate::error::{Error, Result};
use agent_protocol::resync::{ANSWER_LEN, NONCE_LEN, Request, answer};
use agent_protocol::share_frame::head;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the guest may take to find the new beginning after it went back in time.
const FOUND_TIME: Duration = Duration::from_secs(20);
/// How long an answer that is being written may take to be taken back.
const DRAIN_TIME: Duration = Duration::from_secs(5);
const DRAIN_PAUSE: Duration = Duration::from_millis(1);

impl Channel {
    /// Begins with a guest that has had shares of another machine, which its agent has ended.
    pub(crate) async fn take_up(&self) -> Result<()> {
        self.run()?;
        self.forget_past();
        let Some(nonce) = lock(&self.0.nonce).take() else { return Ok(()) };
        if let Some(asked) = &self.0.asked {
            asked.resume();
        }
        let inner = Arc::clone(&self.0);
        let beginning = tokio::task::spawn_blocking(move || inner.begin_again(nonce));
        let failed = |words: String| Error::System {
            action: "begin with the guest's shares",
            source: std::io::Error::other(words),
        };
        beginning.await.map_err(|error| failed(error.to_string()))?;
        match *lock(&self.0.expected) {
            None => Ok(()),
            Some(_) => Err(failed("the guest's agent did not answer".into())),
        }
    }

    /// Stops the guest's past: nothing that it has asked is answered any more, and nothing that is on
    /// its way to it arrives. The machine must stand still.
    pub(crate) fn forget_past(&self) {
        if !*lock(&self.0.is_running) {
            return;
        }
        if let Some(asked) = &self.0.asked {
            asked.pause();
        }
        let mut nonce = [0; NONCE_LEN];
        // Without a random number nothing can be expected, and the shares stay silent.
        let _ = getrandom::fill(&mut nonce);
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
        *lock(&self.0.expected) = Some(answer(&nonce));
        *lock(&self.0.nonce) = Some(nonce);
        self.0.waiting.clear();
        self.0.echoes.clear();
        // What QEMU has not read yet would arrive in the restored guest. Whoever writes at this moment
        // is let finish by it; the next one sees that its time is over.
        let deadline = Instant::now() + DRAIN_TIME;
        while Instant::now() < deadline {
            self.0.drain();
            if let Ok(_writing) = self.0.writing.try_lock() {
                self.0.drain();
                return;
            }
            std::thread::sleep(DRAIN_PAUSE);
        }
        tracing::warn!("an answer for a guest's past could not be taken back");
    }

    /// Begins again with a guest that is in its past now, without waiting for it.
    pub(crate) fn begin_again(&self, moments: Option<&Moments>) {
        let Some(nonce) = lock(&self.0.nonce).take() else { return };
        for (id, share) in self.shares() {
            if let Some(moment) = moments.and_then(|moments| moments.all.get(&id)) {
                share.restore(moment);
            }
        }
        if let Some(asked) = &self.0.asked {
            asked.resume();
        }
        let inner = Arc::clone(&self.0);
        let _ = spawn("quicksand-shares-again", move || inner.begin_again(nonce));
    }
}

impl Inner {
    /// Takes back what QEMU has not read yet.
    fn drain(&self) {
        let mut buffer = vec![0u8; 64 << 10];
        let flags = rustix::net::RecvFlags::DONTWAIT;
        while let Ok((length @ 1.., _)) = rustix::net::recv(&self.theirs, &mut buffer[..], flags) {
            tracing::trace!(length, "bytes for a guest's past are thrown away");
        }
    }

    /// Whether the guest's present has begun; throws away what is of its past.
    pub(super) fn is_found(&self, kept: &mut Vec<u8>) -> bool {
        let mut expected = lock(&self.expected);
        let Some(answer) = *expected else { return true };
        match kept.windows(ANSWER_LEN).position(|window| window == answer) {
            Some(at) => {
                kept.drain(..at + ANSWER_LEN);
                *expected = None;
                self.found.notify_all();
                true
            }
            None => {
                // The answer may lie across two reads.
                kept.drain(..kept.len().saturating_sub(ANSWER_LEN - 1));
                false
            }
        }
    }

    /// Asks the guest to begin again, and has its kernel send again what it has no answer to.
    fn begin_again(&self, nonce: [u8; NONCE_LEN]) {
        let epoch = self.epoch();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_nanos = u64::try_from(now.as_nanos()).unwrap_or_default();
        self.send(&self.secret.request(&Request { nonce, unix_nanos }), epoch);
        let expected = lock(&self.expected);
        let answer = answer(&nonce);
        let is_missing = |expected: &mut Option<_>| *expected == Some(answer);
        let waited = self.found.wait_timeout_while(expected, FOUND_TIME, is_missing);
        // A guest in whose past there was no share answers when it mounts one.
        let (expected, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if expected.is_some() {
            tracing::debug!("the guest has no shares in its past");
            return;
        }
        drop(expected);
        let ids: Vec<u32> =
            self.shares.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for id in ids {
            let message = share_server::resend();
            self.send(&[&head(message.len(), id)[..], &message].concat(), epoch);
        }
    }
}
