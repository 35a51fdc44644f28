//! Requests that this side can answer by itself, because the answer is known before the host is asked.
//!
//! - Attributes other than `user.*` are none that a share has. The kernel asks for
//!   `security.capability` before the first write to each file.
//! - Closing a descriptor (`FUSE_FLUSH`) means something to the host only where locks of byte ranges
//!   were asked for: what was written is with the host already.

use std::collections::HashSet;

/// Files of which is remembered that they were locked; with more of them, every file counts as locked.
const MOST: usize = 4096;
const IN_HEADER: usize = 40;
const GETXATTR: u32 = 22;
const FLUSH: u32 = 25;
const SETLK: u32 = 32;
const SETLKW: u32 = 33;

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

impl OwnAnswers {
    /// The answer to a request, where the host need not be asked.
    pub fn answer(&mut self, request: &[u8]) -> Option<[u8; 16]> {
        let (unique, node) = (u64_at(request, 8)?, u64_at(request, 16)?);
        match u32_at(request, 4)? {
            // `struct fuse_getxattr_in` has 8 bytes before the name.
            GETXATTR if !request.get(IN_HEADER + 8..)?.starts_with(b"user.") => {
                Some(answer(unique, -libc::EOPNOTSUPP))
            }
            FLUSH if !self.is_full && !self.locked.contains(&node) => Some(answer(unique, 0)),
            SETLK | SETLKW => {
                self.is_full |= self.locked.len() >= MOST;
                if !self.is_full {
                    self.locked.insert(node);
                }
                None
            }
            _ => None,
        }
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

    fn own(error: i32) -> Option<[u8; 16]> {
        Some(answer(77, error))
    }

    #[test]
    fn what_a_share_has_is_asked_of_the_host() {
        let mut answers = OwnAnswers::default();
        let mut attribute = |name: &str| {
            answers.answer(&request(GETXATTR, 5, &[&[0; 8], name.as_bytes(), &[0]].concat()))
        };
        assert_eq!(attribute("security.capability"), own(-libc::EOPNOTSUPP));
        assert_eq!(attribute("user.note"), None);
        assert_eq!(answers.answer(&request(1, 5, b"name\0")), None);
        assert_eq!(answers.answer(&request(GETXATTR, 5, b"")), None);
        assert_eq!(answers.answer(b"short"), None);
        assert_eq!(u32_at(&answer(77, -3), 4), Some(-3i32 as u32));
        assert_eq!((u32_at(&answer(77, 0), 0), u64_at(&answer(77, 0), 8)), (Some(16), Some(77)));
    }

    #[test]
    fn closing_is_reported_where_there_may_be_locks() {
        let mut answers = OwnAnswers::default();
        assert_eq!(answers.answer(&request(FLUSH, 5, &[0; 24])), own(0));
        assert_eq!(answers.answer(&request(SETLK, 5, &[0; 48])), None);
        assert_eq!(answers.answer(&request(FLUSH, 5, &[0; 24])), None);
        assert_eq!(answers.answer(&request(FLUSH, 6, &[0; 24])), own(0));
        for node in 10..10 + MOST as u64 {
            answers.answer(&request(SETLKW, node, &[0; 48]));
        }
        assert_eq!(answers.answer(&request(FLUSH, 6, &[0; 24])), None);
    }
}
