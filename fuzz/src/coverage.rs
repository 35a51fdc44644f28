//! Which code an input reached, when the compiler was asked to count (`-C instrument-coverage`).
//!
//! `cargo xtask fuzz --coverage` compiles the workspace so; the counters are LLVM's, one of 64 bits for
//! each region (<https://llvm.org/docs/CoverageMappingFormat.html>). Without it nothing is ever new.

/// The code that was reached so far, and how often at once, in powers of two.
pub struct Coverage {
    seen: Vec<u64>,
}

impl Coverage {
    /// Nothing was reached yet.
    pub fn new() -> Self {
        Self { seen: vec![0; counters().len()] }
    }

    /// Whether anything is counted at all.
    pub fn is_there(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Takes the counts since the last call; whether they show anything new.
    pub fn take(&mut self) -> bool {
        let mut is_new = false;
        for (count, seen) in counters().iter_mut().zip(&mut self.seen) {
            if *count != 0 {
                let bucket = 1 << (63 - count.leading_zeros());
                is_new |= *seen & bucket == 0;
                *seen |= bucket;
                *count = 0;
            }
        }
        is_new
    }
}

#[cfg(fuzz_coverage)]
fn counters() -> &'static mut [u64] {
    unsafe extern "C" {
        fn __llvm_profile_begin_counters() -> *mut u64;
        fn __llvm_profile_end_counters() -> *mut u64;
    }
    // SAFETY: both functions give the ends of one section of this program, which lives as long as
    // it does. Targets run one at a time with coverage, and a count that another thread adds
    // meanwhile is only a number that is a little off.
    unsafe {
        let (begin, end) = (__llvm_profile_begin_counters(), __llvm_profile_end_counters());
        std::slice::from_raw_parts_mut(begin, end.offset_from(begin) as usize)
    }
}

#[cfg(not(fuzz_coverage))]
fn counters() -> &'static mut [u64] {
    &mut []
}
