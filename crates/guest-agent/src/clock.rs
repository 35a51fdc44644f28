//! The guest's clock is the host's: it is told with a request, because the guest's own does not go while
//! the machine stands still, and is of the past in a copy of it.

use std::io;

use agent_protocol::ClockResponse;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

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

/// What answers a request that set the clock: the host sees how late it came.
pub fn response() -> ClockResponse {
    let now = clock_gettime(ClockId::Realtime);
    let unix_nanos = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    ClockResponse { ok: true, unix_nanos: Some(unix_nanos) }
}
