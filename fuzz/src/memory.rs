//! How much memory a parser holds at most, counted by the allocator of the test program.
//!
//! The count is the thread's own, so that tests beside it do not matter. A single request that no
//! computer could meet ends the process, since nothing can be returned from there; the input is
//! written down first.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// A request that is not even passed on: what a believed length of 32 bits asks for.
const ABSURD: usize = 2 << 30;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// Counts while it lives.
pub struct Meter(());

impl Meter {
    /// Begins to count from zero.
    pub fn begin() -> Self {
        HELD.set(0);
        PEAK.set(0);
        IS_ON.set(true);
        Self(())
    }

    /// The most bytes that were held at once.
    pub fn end(self) -> usize {
        IS_ON.set(false);
        usize::try_from(PEAK.get()).unwrap_or(0)
    }
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(change: isize) {
    // While a thread ends its variables are gone, and nobody counts.
    let _ = IS_ON.try_with(|is_on| {
        if is_on.get() {
            let held = HELD.get() + change;
            HELD.set(held);
            PEAK.set(PEAK.get().max(held));
        }
    });
}

fn refuse_absurd(size: usize) {
    if size >= ABSURD && IS_ON.try_with(Cell::get).unwrap_or(false) {
        IS_ON.set(false);
        crate::watch::give_up(&format!("asked for {} MiB of memory at once", size >> 20));
    }
}

// SAFETY: every request goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        refuse_absurd(layout.size());
        note(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        refuse_absurd(layout.size());
        note(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        refuse_absurd(size);
        note(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}
