//! Memory that guest and host both see, in which short requests of shares are asked and answered.
//!
//! The window is the shared memory of a device that QEMU calls `ivshmem-doorbell`. It holds a few
//! slots. The guest writes a request into one, rings the doorbell and looks for a moment whether the
//! answer has come; a request that takes longer is answered on the port of [`crate::share_frame`], as
//! all are where there is no window. An emulated guest thereby neither sleeps nor takes an interrupt
//! for a request, which cost it far more than the request itself.
//!
//! A slot goes from hand to hand by its state ([`state`]); each change is made by one side alone or by
//! comparing. The other side may write anything at any time: whoever reads copies first, and believes
//! no length.  See QEMU's `docs/specs/ivshmem-spec.rst`.

use crate::share_frame::MAX_SHARE_MESSAGE;
use std::sync::atomic::{AtomicU32, Ordering};

/// The device's vendor and number on the PCI bus.
pub const PCI_IDS: (u16, u16) = (0x1af4, 0x1110);
/// What the window begins with. The last byte is the version of its layout.
pub const MAGIC: [u8; 16] = *b"quicksand shares";
/// Where the doorbell is among the device's registers, in bytes.
pub const DOORBELL: usize = 12;
/// What rings at the host: its number as a peer, and its first vector.
pub const RING: u32 = (HOST_PEER as u32) << 16;
/// The numbers of guest and host among the device's peers.
pub const GUEST_PEER: i64 = 0;
/// See [`GUEST_PEER`].
pub const HOST_PEER: i64 = 1;

/// Bytes of the window; the device wants a power of two.
pub const WINDOW_LEN: usize = 4 << 20;
/// How many slots there are.
pub const N_SLOTS: usize = 3;
const PAGE: usize = 4096;
/// Bytes of a slot before its message.
const SLOT_HEAD: usize = 64;
const SLOT_LEN: usize = (SLOT_HEAD + MAX_SHARE_MESSAGE).next_multiple_of(PAGE);
const _: () = assert!(PAGE + N_SLOTS * SLOT_LEN <= WINDOW_LEN);

/// Whose a slot is.
pub mod state {
    /// Nobody's: the guest may ask.
    pub const FREE: u32 = 0;
    /// The guest has asked.
    pub const ASKED: u32 = 1;
    /// The host has read the request.
    pub const TAKEN: u32 = 2;
    /// The host has answered: the guest reads, and frees it.
    pub const ANSWERED: u32 = 3;
    /// The guest waits no more: the host answers on the port, and frees it.
    pub const LEFT: u32 = 4;
    /// The host answers on the port: the guest frees it.
    pub const PASSED: u32 = 5;
}

/// What became of a request that the guest asked in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The answer is there.
    Answered,
    /// The host has the request, and answers on the port.
    OnThePort,
    /// The host does not have it.
    Unasked,
}

/// The shared memory.
#[derive(Debug)]
pub struct Window {
    start: *mut u8,
}

// SAFETY: the memory is shared with another machine in any case: every access copies, or is atomic.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// # Safety
    /// [`WINDOW_LEN`] bytes must be mapped at `start`, which begins a page, for as long as this lives.
    pub unsafe fn new(start: *mut u8) -> Self {
        Self { start }
    }

    /// Marks the window as ours.
    pub fn mark(&self) {
        // SAFETY: the window is longer, and bytes have any alignment.
        unsafe { std::ptr::copy_nonoverlapping(MAGIC.as_ptr(), self.start, MAGIC.len()) };
    }

    /// Whether the host has marked it.
    pub fn is_marked(&self) -> bool {
        let mut found = [0; MAGIC.len()];
        // SAFETY: as in `mark`.
        unsafe { std::ptr::copy_nonoverlapping(self.start, found.as_mut_ptr(), found.len()) };
        found == MAGIC
    }

    /// One of [`N_SLOTS`] slots.
    ///
    /// # Panics
    /// There are no more.
    pub fn slot(&self, index: usize) -> Slot<'_> {
        assert!(index < N_SLOTS, "slot {index}");
        // SAFETY: all slots lie in the window.
        let start = unsafe { self.start.add(PAGE + index * SLOT_LEN) };
        Slot { start, _window: std::marker::PhantomData }
    }

    /// Begins anew with a guest that went back in time: what it asked in its past is not answered, and
    /// its kernel asks again.
    pub fn begin_again(&self) {
        (0..N_SLOTS).for_each(|index| self.slot(index).pass());
    }
}

/// Room for one request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    start: *mut u8,
    _window: std::marker::PhantomData<&'a Window>,
}

impl Slot<'_> {
    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: a slot begins a page, and its head has room for these words.
        unsafe { AtomicU32::from_ptr(self.start.cast::<u32>().add(index)) }
    }

    fn state(&self) -> &AtomicU32 {
        self.word(0)
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.state().compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether the guest may ask in it.
    pub fn is_free(&self) -> bool {
        self.state().load(Ordering::Acquire) == state::FREE
    }

    fn put(&self, message: &[u8]) {
        debug_assert!(message.len() <= MAX_SHARE_MESSAGE);
        let length = message.len().min(MAX_SHARE_MESSAGE);
        // SAFETY: the slot has room for the longest message.
        unsafe {
            std::ptr::copy_nonoverlapping(message.as_ptr(), self.start.add(SLOT_HEAD), length);
        }
        self.word(2).store(length as u32, Ordering::Relaxed);
    }

    fn get(&self, message: &mut Vec<u8>) {
        message.clear();
        let length = (self.word(2).load(Ordering::Relaxed) as usize).min(MAX_SHARE_MESSAGE);
        message.reserve(length);
        // SAFETY: the slot has that many bytes, and the message room for them.
        unsafe {
            std::ptr::copy_nonoverlapping(self.start.add(SLOT_HEAD), message.as_mut_ptr(), length);
            message.set_len(length);
        }
    }

    /// The guest's side: asks in a slot that is free. `ring` wakes the host; `is_patient` is asked
    /// again and again whether to go on looking for the answer. An answer without content means that
    /// none is waited for.
    pub fn ask(
        &self,
        share: u32,
        request: &[u8],
        ring: impl FnOnce(),
        mut is_patient: impl FnMut() -> bool,
        answer: &mut Vec<u8>,
    ) -> Asked {
        self.put(request);
        self.word(1).store(share, Ordering::Relaxed);
        self.state().store(state::ASKED, Ordering::Release);
        ring();
        loop {
            match self.state().load(Ordering::Acquire) {
                state::ANSWERED => {
                    self.get(answer);
                    self.state().store(state::FREE, Ordering::Release);
                    return Asked::Answered;
                }
                state::PASSED => {
                    self.state().store(state::FREE, Ordering::Release);
                    return Asked::OnThePort;
                }
                _ if is_patient() => std::hint::spin_loop(),
                _ if self.change(state::ASKED, state::FREE) => return Asked::Unasked,
                _ if self.change(state::TAKEN, state::LEFT) => return Asked::OnThePort,
                state::ASKED | state::TAKEN => {}
                // Nothing that our host would write.
                _ => return Asked::Unasked,
            }
        }
    }

    /// The host's side: takes a request, and says of which share.
    pub fn take(&self, request: &mut Vec<u8>) -> Option<u32> {
        if !self.change(state::ASKED, state::TAKEN) {
            return None;
        }
        self.get(request);
        Some(self.word(1).load(Ordering::Relaxed))
    }

    /// The host's side: answers what it has taken. No, if the guest waits for it on the port.
    pub fn answer(&self, answer: &[u8]) -> bool {
        self.put(answer);
        let is_given = self.change(state::TAKEN, state::ANSWERED);
        if !is_given {
            self.change(state::LEFT, state::FREE);
        }
        is_given
    }

    /// The host's side: will answer on the port what it has taken.
    pub fn pass(&self) {
        if !self.change(state::TAKEN, state::PASSED) {
            self.change(state::LEFT, state::FREE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    fn with_window(test: impl FnOnce(&Window)) {
        let layout = std::alloc::Layout::from_size_align(WINDOW_LEN, PAGE).unwrap();
        // SAFETY: the layout is no empty one, and the memory is given back after its last use.
        unsafe {
            let start = std::alloc::alloc_zeroed(layout);
            test(&Window::new(start));
            std::alloc::dealloc(start, layout);
        }
    }

    fn patience(time: Duration) -> impl FnMut() -> bool {
        let end = Instant::now() + time;
        move || {
            std::thread::yield_now();
            Instant::now() < end
        }
    }

    #[test]
    fn a_window_is_distinguished_from_other_memory() {
        with_window(|window| {
            assert!(!window.is_marked());
            window.mark();
            assert!(window.is_marked());
            assert!((0..N_SLOTS).all(|index| window.slot(index).is_free()));
        });
    }

    #[test]
    fn requests_of_any_length_are_answered_in_their_slot() {
        with_window(|window| {
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut request = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        for index in 0..N_SLOTS {
                            let slot = window.slot(index);
                            if let Some(share) = slot.take(&mut request) {
                                request.reverse();
                                request.push(share as u8);
                                slot.answer(&request[..request.len().min(MAX_SHARE_MESSAGE)]);
                            }
                        }
                        std::thread::yield_now();
                    }
                });
                let mut answer = Vec::new();
                for (round, length) in
                    [0, 1, 40, 5000, MAX_SHARE_MESSAGE - 1].into_iter().enumerate()
                {
                    let slot = window.slot(round % N_SLOTS);
                    let request: Vec<u8> = (0..length).map(|at| at as u8).collect();
                    let patient = patience(Duration::from_secs(20));
                    let asked = slot.ask(round as u32, &request, || {}, patient, &mut answer);
                    assert_eq!(asked, Asked::Answered);
                    let expect: Vec<u8> =
                        request.iter().rev().copied().chain([round as u8]).collect();
                    assert!(answer == expect, "{length}");
                    assert!(slot.is_free());
                }
                is_over.store(true, Ordering::Relaxed);
            });
        });
    }

    #[test]
    fn whoever_does_not_wait_is_answered_once_and_elsewhere() {
        with_window(|window| {
            let slot = window.slot(0);
            let (mut request, mut answer) = (Vec::new(), Vec::new());
            // Nobody is there.
            assert_eq!(slot.ask(7, b"one", || {}, || false, &mut answer), Asked::Unasked);
            assert_eq!(slot.take(&mut request), None);
            // It is taken, and the guest leaves.
            let take = || assert_eq!(slot.take(&mut Vec::new()), Some(7));
            assert_eq!(slot.ask(7, b"two", take, || false, &mut answer), Asked::OnThePort);
            assert!(!slot.is_free(), "the host still has it");
            assert!(!slot.answer(b"answer"));
            assert!(slot.is_free());
            // The host says itself that it takes longer.
            let pass = || {
                slot.take(&mut Vec::new());
                slot.pass();
            };
            assert_eq!(slot.ask(7, b"three", pass, || true, &mut answer), Asked::OnThePort);
            assert!(slot.is_free());
            // Both are of a past that is gone.
            let lost = || {
                slot.take(&mut Vec::new());
                window.begin_again();
            };
            assert_eq!(slot.ask(7, b"four", lost, || true, &mut answer), Asked::OnThePort);
            assert!(slot.is_free());
            window.begin_again();
            assert!(slot.is_free());
        });
    }

    #[test]
    fn no_length_is_believed() {
        with_window(|window| {
            let slot = window.slot(N_SLOTS - 1);
            slot.word(2).store(u32::MAX, Ordering::Relaxed);
            slot.state().store(state::ASKED, Ordering::Relaxed);
            let mut request = Vec::new();
            assert_eq!(slot.take(&mut request), Some(0));
            assert_eq!(request.len(), MAX_SHARE_MESSAGE);
            slot.state().store(99, Ordering::Relaxed);
            assert!(!slot.answer(b""));
        });
    }
}
