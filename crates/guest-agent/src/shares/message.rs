//! The message that takes a request to the host, with those before it of which the host may hear late.
//!
//! The kernel writes its request behind the room for those, so that nothing long is moved.

use agent_protocol::share_frame::{HEAD, MAX_SHARE_MESSAGE};

use super::own_answers::nothing;

/// Bytes of requests that wait: sixteen files that were closed.
const MOST_LATE: usize = 1024;
/// Where the kernel's request lies.
const REQUEST: usize = HEAD + MOST_LATE;

/// Room for one message.
pub struct Message {
    bytes: Vec<u8>,
    late: Vec<u8>,
}

impl Default for Message {
    fn default() -> Self {
        Self { bytes: vec![0; HEAD + MAX_SHARE_MESSAGE], late: Vec::with_capacity(MOST_LATE) }
    }
}

impl Message {
    /// Where the kernel may write a request.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[REQUEST..]
    }

    /// The request that was written.
    pub fn request(&self, length: usize) -> &[u8] {
        &self.bytes[REQUEST..REQUEST + length]
    }

    /// Has the request wait for the next one; no when too much waits already.
    pub fn keep_late(&mut self, length: usize) -> bool {
        let fits = self.late.len() + length <= MOST_LATE;
        if fits {
            self.late.extend_from_slice(&self.bytes[REQUEST..REQUEST + length]);
        }
        fits
    }

    /// Whether anything waits.
    pub fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// The message of the request and of all that waited, with room for its head.
    pub fn whole(&mut self, length: usize) -> &mut [u8] {
        let start = REQUEST - self.late.len();
        self.bytes[start..REQUEST].copy_from_slice(&self.late);
        self.late.clear();
        &mut self.bytes[start - HEAD..REQUEST + length]
    }

    /// The message of what waited, before a request that means nothing: the last of a message is the one
    /// that is answered.
    pub fn of_late(&mut self) -> &mut [u8] {
        let last = nothing();
        self.bytes[REQUEST..REQUEST + last.len()].copy_from_slice(&last);
        self.whole(last.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(message: &mut Message, request: &[u8]) -> usize {
        message.room()[..request.len()].copy_from_slice(request);
        assert_eq!(message.request(request.len()), request);
        request.len()
    }

    #[test]
    fn what_waits_goes_before_the_next_request() {
        let mut message = Message::default();
        for request in [&b"one"[..], b"two"] {
            let length = put(&mut message, request);
            assert!(message.keep_late(length));
        }
        let length = put(&mut message, b"three");
        assert_eq!(message.whole(length)[HEAD..], *b"onetwothree");
        assert!(!message.has_late());
        let length = put(&mut message, b"four");
        assert_eq!(message.whole(length)[HEAD..], *b"four");
        let length = put(&mut message, b"five");
        assert!(message.keep_late(length));
        assert_eq!(message.of_late()[HEAD..], [&b"five"[..], &nothing()].concat());
        assert!(!message.has_late());
    }

    #[test]
    fn no_more_waits_than_there_is_room_for_and_any_request_fits_behind_it() {
        let mut message = Message::default();
        let length = put(&mut message, &[7; 64]);
        let n_kept = (0..100).take_while(|_| message.keep_late(length)).count();
        assert_eq!(n_kept, MOST_LATE / 64);
        let room = message.room().len();
        // A megabyte of data, its heads and names: what the kernel wants room for.
        assert!(room >= (1 << 20) + (60 << 10));
        assert_eq!(message.whole(room).len(), HEAD + MAX_SHARE_MESSAGE);
    }
}
