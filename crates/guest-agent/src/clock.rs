//! The guest's clock is the host's: it is told with a request, because the guest's own does not go while
//! the machine stands still, and is of the past in a copy of it.

use std::io;

use rustix::time::{ClockId, Timespec, clock_settime};

/// Sets the clock to nanoseconds since 1970.
///
/// # Errors
/// What the kernel says to an agent that may not.
pub fn set(unix_nanos: u64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: (unix_nanos / 1_000_000_000) as i64,
        tv_nsec: (unix_nanos % 1_000_000_000) as _,
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}
