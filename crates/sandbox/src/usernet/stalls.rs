//! Connections that stand still because of what smoltcp (0.14) does with a window of zero.
//!
//! A guest that is out of memory throws away what is under way to it and says that its window is zero.
//! smoltcp then has one timer for two things: after how long it sends such segments again, and when it probes
//! whether the window is open. Two ways lead to no timer at all, and nothing is sent any more:
//!
//! - The timer is the probe's, and the window opens: if what was thrown away is all that fits into it, nothing
//!   starts the other. Three acknowledgments that say the same mean a lost segment (RFC 5681, 3.2), which
//!   smoltcp sends again, and with that its timer runs. So it is shown the segment that opens a window that
//!   often again.
//! - The timer is that of the segments, and it ends while the window is zero: nothing may be sent, and only a
//!   further segment of the guest's would start the probe. A guest that has nothing to read any more sends
//!   none. So a guest that stays silent while bytes wait for it has its last word shown again.
//!
//! A guest that has received everything ignores what is one segment too many.

use super::frame::{self, Acknowledgment};
use super::sockets::{Connections, Key};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often an acknowledgment is repeated before it means a loss.
const REPEATED: usize = 3;
/// The most connections that are watched, so that a guest cannot fill this process with invented ones.
const MAX: usize = 4096;
/// How long a guest is silent before its last word is shown again, and then twice as long each time.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// How often that is done. Whoever is silent after it is gone, and the connection's own time limit ends it.
const MAX_SHOWN: u32 = 6;

/// What the guest has last said of each connection.
#[derive(Default)]
pub(super) struct Stalls(HashMap<Key, Said>);

struct Said {
    last: Acknowledgment,
    /// Whether a window of zero has not been seen to open yet.
    is_closed: bool,
    /// Since when bytes wait while the guest says nothing, and how often its last word was shown.
    silent: Option<(Instant, u32)>,
}

impl Stalls {
    /// Takes note of a frame of the guest, and says how often the stack must be shown it again.
    pub(super) fn note(&mut self, bytes: &[u8]) -> usize {
        let Some(last) = frame::read_acknowledgment(bytes) else { return 0 };
        let key = (last.from, last.to);
        let known = self.0.get(&key);
        if known.is_none() && self.0.len() == MAX {
            return 0;
        }
        let was_closed = known.is_some_and(|said| said.is_closed);
        // One that carries something would be no repeated acknowledgment; the next without counts.
        let opens = was_closed && last.window > 0 && !last.has_more;
        let is_closed = last.window == 0 || (was_closed && !opens);
        self.0.insert(key, Said { last, is_closed, silent: None });
        if opens { REPEATED } else { 0 }
    }

    /// The frames that the stack must be shown again now: the last words of guests that are silent
    /// while bytes wait for them. Connections that are over are forgotten.
    pub(super) fn overdue(&mut self, connections: &Connections, now: Instant) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        self.0.retain(|key, said| {
            let Some(has_bytes_waiting) = connections.get(key) else { return false };
            if !has_bytes_waiting {
                said.silent = None;
                return true;
            }
            let (since, n_shown) = said.silent.get_or_insert((now, 0));
            if *n_shown < MAX_SHOWN && now - *since >= SILENCE * (1 << *n_shown) {
                (*since, *n_shown) = (now, *n_shown + 1);
                frames.extend(vec![frame::acknowledgment(&said.last); REPEATED]);
            }
            true
        });
        frames
    }
}
