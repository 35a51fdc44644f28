//! Connections whose guest takes nothing for a while.
//!
//! A guest that is out of memory throws away what is under way to it and says that its window is zero. smoltcp
//! (0.14) then stops the timer after which it sends such segments again, for the one of its probes, and starts
//! none when the window opens: when what was thrown away is all that fits into the window, nothing is sent
//! any more. Three acknowledgments that say the same mean a lost segment (RFC 5681, 3.2), which it sends
//! again, and with that its timer runs. So the stack is shown the segment that opens a window that often again.
//! A guest that has received everything ignores the one segment too many.

use super::frame::{Window, window};
use std::collections::HashSet;
use std::net::SocketAddrV4;

/// How often an acknowledgment is repeated before it means a loss.
const REPEATED: usize = 3;
/// The most connections that are watched, so that a guest cannot fill this process with invented ones.
const MAX: usize = 4096;

/// The connections whose window is zero.
#[derive(Default)]
pub(super) struct ZeroWindows(HashSet<(u16, SocketAddrV4)>);

impl ZeroWindows {
    /// How often the stack must be shown this frame of the guest again.
    pub(super) fn repeats(&mut self, bytes: &[u8]) -> usize {
        let Some(Window { from, to, length, has_more }) = window(bytes) else { return 0 };
        if length == 0 {
            if self.0.len() < MAX {
                self.0.insert((from, to));
            }
            return 0;
        }
        // One that carries something would be no repeated acknowledgment; the next without counts.
        if has_more || !self.0.remove(&(from, to)) { 0 } else { REPEATED }
    }
}
