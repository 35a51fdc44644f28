//! What is done once the guest's kernel has been given all that was sent before: numbers that the guest
//! sends back, and what each stands for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// The most that may wait for a guest.
const MOST: usize = 1024;

/// What a number stands for.
pub(super) enum Echo {
    /// A message to send.
    Send(Vec<u8>),
    /// Somebody who waits for it.
    Notify(oneshot::Sender<()>),
}

/// All numbers that have not come back.
#[derive(Default)]
pub(super) struct Echoes(Mutex<(u64, HashMap<u64, Echo>)>);

impl Echoes {
    /// A number for it; it comes back itself when too much waits already.
    pub(super) fn add(&self, echo: Echo) -> Result<u64, Echo> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.1.len() >= MOST {
            return Err(echo);
        }
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, echo);
        Ok(number)
    }

    /// A number came back: gives what is to be sent now.
    pub(super) fn take(&self, number: u64) -> Option<Vec<u8>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.1.remove(&number)? {
            Echo::Send(message) => Some(message),
            Echo::Notify(waiter) => {
                // Whoever waited for it may have gone on.
                let _ = waiter.send(());
                None
            }
        }
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clear();
    }
}
