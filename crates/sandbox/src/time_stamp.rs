//! How fast the host's time-stamp counter counts, which an emulated guest reads as its own.
//!
//! A guest that measures the counter while it boots is wrong on a busy host, by a factor of three as seen:
//! its clock then runs as much too fast for as long as it lives, and commands are ended long before their
//! time. So it is told. See `tsc_early_khz` in
//! <https://docs.kernel.org/admin-guide/kernel-parameters.html>.

/// The rate in kHz; `None` where there is no such counter, or it does not count evenly.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) fn khz() -> Option<u32> {
    linux::khz()
}

/// The rate in kHz; `None` where there is no such counter, or it does not count evenly.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(crate) fn khz() -> Option<u32> {
    None
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod linux {
    use crate::fork::PerProcess;
    use std::arch::x86_64::_rdtsc;
    use std::sync::PoisonError;
    use std::time::{Duration, Instant};

    /// What the counter must be for its rate to mean anything (`/proc/cpuinfo`).
    const EVEN: [&str; 2] = ["constant_tsc", "nonstop_tsc"];
    /// How long is measured at least: 50 ns of doubt at both ends are 5 millionths of it then.
    const WINDOW: Duration = Duration::from_millis(20);
    /// How often each end is looked at; the look that was disturbed least counts.
    const LOOKS: usize = 8;

    pub(super) fn khz() -> Option<u32> {
        static FOUND: PerProcess<Option<Option<u32>>> = PerProcess::new();
        let mut found = FOUND.get().lock().unwrap_or_else(PoisonError::into_inner);
        *found.get_or_insert_with(|| is_even().then(measure).flatten())
    }

    fn is_even() -> bool {
        let text = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = text.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        EVEN.iter().all(|flag| flags.split_whitespace().any(|word| word == *flag))
    }

    fn measure() -> Option<u32> {
        let begin = look();
        std::thread::sleep(WINDOW);
        let end = look();
        let time = end.1.duration_since(begin.1).as_secs_f64();
        let khz = end.0.checked_sub(begin.0)? as f64 / time / 1e3;
        (1e5..1e7).contains(&khz).then_some(khz.round() as u32)
    }

    /// The counter and the clock at one moment.
    fn look() -> (u64, Instant) {
        let one = || {
            // SAFETY: every processor of this architecture has the instruction.
            let before = unsafe { _rdtsc() };
            let clock = Instant::now();
            // SAFETY: as above.
            let after = unsafe { _rdtsc() };
            (after.wrapping_sub(before), before.midpoint(after), clock)
        };
        let looks = (0..LOOKS).map(|_| one());
        let (_, counter, clock) = looks.min_by_key(|look| look.0).unwrap_or_else(one);
        (counter, clock)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn it_is_measured_as_the_clock_counts() {
            if !is_even() {
                return;
            }
            let khz = f64::from(khz().unwrap());
            let begin = look();
            std::thread::sleep(Duration::from_millis(200));
            let end = look();
            let time = end.1.duration_since(begin.1).as_secs_f64();
            let counted = (end.0 - begin.0) as f64 / khz / 1e3;
            assert!((counted / time - 1.0).abs() < 1e-4, "{counted} s in {time} s");
        }
    }
}
