//! Requests that this side can answer by itself, because the answer is known before the host is asked.
//!
//! - Attributes other than `user.*` are none that a share has. The kernel asks for
//!   `security.capability` before the first write to each file.
//! - Closing a descriptor (`FUSE_FLUSH`) means something to the host only where locks of byte ranges
//!   were asked for: what was written is with the host already.
//! - Nobody waits for the end of an open file or for what is forgotten: the host hears of it with the
//!   next request, or a moment later. Of a file that was locked it hears at once: its programs may wait
//!   for the lock.

use std::collections::HashSet;

/// Files of which is remembered that they were locked; with more of them, every file counts as locked.
const MOST: usize = 4096;
const IN_HEADER: usize = 40;
const FORGET: u32 = 2;
const RELEASE: u32 = 18;
const GETXATTR: u32 = 22;
const FLUSH: u32 = 25;
const RELEASEDIR: u32 = 29;
const SETLK: u32 = 32;
const SETLKW: u32 = 33;
const BATCH_FORGET: u32 = 42;

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The host answers it.
    Host,
    /// This is the answer, and the host need not know.
    Own([u8; 16]),
    /// This is the answer, if one is waited for, and the host may hear of it with the next request.
    Late(Option<[u8; 16]>),
}

/// What is known of one share.
#[derive(Default)]
pub struct OwnAnswers {
    locked: HashSet<u64>,
    is_full: bool,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

fn answer(unique: u64, error: i32) -> [u8; 16] {
    let mut answer = [0; 16];
    answer[..4].copy_from_slice(&16u32.to_le_bytes());
    answer[4..8].copy_from_slice(&error.to_le_bytes());
    answer[8..].copy_from_slice(&unique.to_le_bytes());
    answer
}

/// A request that means nothing and to which no answer is waited for.
pub fn nothing() -> [u8; IN_HEADER + 8] {
    let mut request = [0; IN_HEADER + 8];
    request[..4].copy_from_slice(&(IN_HEADER as u32 + 8).to_le_bytes());
    request[4..8].copy_from_slice(&FORGET.to_le_bytes());
    request
}

impl OwnAnswers {
    /// What is done with a request.
    pub fn turn(&mut self, request: &[u8]) -> Turn {
        self.try_turn(request).unwrap_or(Turn::Host)
    }

    fn try_turn(&mut self, request: &[u8]) -> Option<Turn> {
        let (unique, node) = (u64_at(request, 8)?, u64_at(request, 16)?);
        Some(match u32_at(request, 4)? {
            // `struct fuse_getxattr_in` has 8 bytes before the name.
            GETXATTR if !request.get(IN_HEADER + 8..)?.starts_with(b"user.") => {
                Turn::Own(answer(unique, -libc::EOPNOTSUPP))
            }
            FLUSH | RELEASE if self.is_full || self.locked.contains(&node) => Turn::Host,
            FLUSH => Turn::Own(answer(unique, 0)),
            RELEASE | RELEASEDIR => Turn::Late(Some(answer(unique, 0))),
            FORGET | BATCH_FORGET => Turn::Late(None),
            SETLK | SETLKW => {
                self.is_full |= self.locked.len() >= MOST;
                if !self.is_full {
                    self.locked.insert(node);
                }
                Turn::Host
            }
            _ => Turn::Host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let mut request = [0; IN_HEADER];
        request[4..8].copy_from_slice(&opcode.to_le_bytes());
        request[8..16].copy_from_slice(&77u64.to_le_bytes());
        request[16..24].copy_from_slice(&node.to_le_bytes());
        [&request[..], body].concat()
    }

    fn own(error: i32) -> Turn {
        Turn::Own(answer(77, error))
    }

    #[test]
    fn what_a_share_has_is_asked_of_the_host() {
        let mut answers = OwnAnswers::default();
        let mut attribute = |name: &str| {
            answers.turn(&request(GETXATTR, 5, &[&[0; 8], name.as_bytes(), &[0]].concat()))
        };
        assert_eq!(attribute("security.capability"), own(-libc::EOPNOTSUPP));
        assert_eq!(attribute("user.note"), Turn::Host);
        assert_eq!(answers.turn(&request(1, 5, b"name\0")), Turn::Host);
        assert_eq!(answers.turn(&request(GETXATTR, 5, b"")), Turn::Host);
        assert_eq!(answers.turn(b"short"), Turn::Host);
        assert_eq!(u32_at(&answer(77, -3), 4), Some(-3i32 as u32));
        assert_eq!((u32_at(&answer(77, 0), 0), u64_at(&answer(77, 0), 8)), (Some(16), Some(77)));
    }

    #[test]
    fn closing_is_told_where_there_may_be_locks() {
        let mut answers = OwnAnswers::default();
        assert_eq!(answers.turn(&request(FLUSH, 5, &[0; 24])), own(0));
        assert_eq!(answers.turn(&request(SETLK, 5, &[0; 48])), Turn::Host);
        assert_eq!(answers.turn(&request(FLUSH, 5, &[0; 24])), Turn::Host);
        assert_eq!(answers.turn(&request(FLUSH, 6, &[0; 24])), own(0));
        for node in 10..10 + MOST as u64 {
            answers.turn(&request(SETLKW, node, &[0; 48]));
        }
        assert_eq!(answers.turn(&request(FLUSH, 6, &[0; 24])), Turn::Host);
    }

    #[test]
    fn ends_are_told_late() {
        let mut answers = OwnAnswers::default();
        for opcode in [RELEASE, RELEASEDIR] {
            let turn = answers.turn(&request(opcode, 5, &[0; 24]));
            assert_eq!(turn, Turn::Late(Some(answer(77, 0))));
        }
        for opcode in [FORGET, BATCH_FORGET] {
            assert_eq!(answers.turn(&request(opcode, 5, &[0; 8])), Turn::Late(None));
        }
        assert_eq!(answers.turn(&nothing()), Turn::Late(None));
        answers.turn(&request(SETLK, 5, &[0; 48]));
        assert_eq!(answers.turn(&request(RELEASE, 5, &[0; 24])), Turn::Host);
        assert_ne!(answers.turn(&request(RELEASE, 6, &[0; 24])), Turn::Host);
    }
}
