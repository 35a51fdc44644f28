//! What the guest asks in the window, and the thread that answers it there.
//!
//! A request that may take long, that may have to wait, or before whose answer the guest's kernel must
//! hear something else, is passed on to the port, as all are where there is no window.

use super::channel::{Inner, lock};
use super::window::Window;
use agent_protocol::share_frame::{HEAD, head};
use agent_protocol::share_window::{N_SLOTS, Slot};
use share_server::Answer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The window of one machine.
pub(super) struct Asked {
    window: Window,
    /// Whether nothing is taken, because the guest is between two times. Held while a slot is taken.
    is_paused: Mutex<bool>,
    is_closed: AtomicBool,
}

impl Asked {
    pub(super) fn new(window: Window) -> Self {
        Self { window, is_paused: Mutex::default(), is_closed: AtomicBool::default() }
    }

    /// Takes nothing from here on.
    pub(super) fn pause(&self) {
        *lock(&self.is_paused) = true;
    }

    /// Goes on with a guest that is in its past now. What it asked there before, and waits for, it asks
    /// again.
    pub(super) fn resume(&self) {
        let mut is_paused = lock(&self.is_paused);
        self.window.memory().begin_again();
        *is_paused = false;
        self.window.ring();
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.window.ring();
    }

    /// Takes a request: its share, and in which of the guest's times it was asked.
    fn take(&self, inner: &Inner, slot: Slot<'_>, request: &mut Vec<u8>) -> Option<(u32, u64)> {
        let is_paused = lock(&self.is_paused);
        let share = if *is_paused { None } else { slot.take(request) };
        share.map(|share| (share, inner.epoch()))
    }
}

/// Answers until the machine is gone.
pub(super) fn serve(inner: &Arc<Inner>) {
    let Some(asked) = &inner.asked else { return };
    let (mut request, mut out) = (Vec::new(), Vec::new());
    // What lies in the window of a copied machine is its template's.
    asked.window.memory().mark();
    while !asked.is_closed.load(Ordering::SeqCst) {
        asked.window.wait();
        for index in 0..N_SLOTS {
            let slot = asked.window.memory().slot(index);
            if let Some((share, epoch)) = asked.take(inner, slot, &mut request) {
                answer(inner, slot, share, &request, epoch, &mut out);
            }
        }
    }
}

fn answer(
    inner: &Arc<Inner>,
    slot: Slot<'_>,
    id: u32,
    request: &[u8],
    epoch: u64,
    out: &mut Vec<u8>,
) {
    let share = inner.share(id);
    let Some(share) = share.filter(|_| share_server::is_prompt(request)) else {
        inner.if_present(epoch, || slot.pass());
        inner.take(id, request, epoch, out);
        return;
    };
    out.clear();
    out.resize(HEAD, 0);
    let is_waited_for = share.answer(request, out) == Answer::Given;
    let mut is_given = false;
    inner.if_present(epoch, || is_given = slot.answer(&out[HEAD..]));
    if is_waited_for && !is_given {
        let length = out.len() - HEAD;
        out[..HEAD].copy_from_slice(&head(length, id));
        inner.send(out, epoch);
    }
}
