//! A disk in memory that holds only what was written to it: where file systems are made before
//! they become a qcow2 image. It owns the storage; it must not know what is stored.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The granularity of storage: that of a qcow2 cluster, so that a cluster is one piece of memory.
pub const CHUNK: usize = 1 << 16;

/// A disk that reads as zeros where nothing was written.
pub struct SparseDisk {
    size: u64,
    chunks: Mutex<Vec<Option<Box<[u8]>>>>,
}

impl SparseDisk {
    /// An empty disk of `size` bytes, rounded up to a whole chunk.
    pub fn new(size: u64) -> Self {
        let n_chunks = size.div_ceil(CHUNK as u64);
        let chunks = (0..n_chunks).map(|_| None).collect();
        Self { size: n_chunks * CHUNK as u64, chunks: Mutex::new(chunks) }
    }

    /// A disk that holds these chunks.
    pub fn from_chunks(chunks: Vec<Option<Box<[u8]>>>) -> Self {
        Self { size: (chunks.len() * CHUNK) as u64, chunks: Mutex::new(chunks) }
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The chunks in order; what was never written, or holds nothing but zeros, is `None`.
    pub fn into_chunks(self) -> Vec<Option<Box<[u8]>>> {
        let mut chunks = self.chunks.into_inner().unwrap_or_else(PoisonError::into_inner);
        for chunk in &mut chunks {
            if chunk.as_deref().is_some_and(is_zero) {
                *chunk = None;
            }
        }
        chunks
    }

    /// Reads bytes; `false` when the range lies outside.
    #[must_use]
    pub fn read(&self, offset: u64, out: &mut [u8]) -> bool {
        let Some(end) = offset.checked_add(out.len() as u64) else { return false };
        if end > self.size {
            return false;
        }
        let chunks = self.lock();
        for (index, within, part) in pieces(offset, out.len()) {
            let out = &mut out[part];
            match &chunks[index] {
                Some(chunk) => out.copy_from_slice(&chunk[within..within + out.len()]),
                None => out.fill(0),
            }
        }
        true
    }

    /// Writes bytes; `false` when the range lies outside.
    #[must_use]
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(end) = offset.checked_add(bytes.len() as u64) else { return false };
        if end > self.size {
            return false;
        }
        let mut chunks = self.lock();
        for (index, within, part) in pieces(offset, bytes.len()) {
            let bytes = &bytes[part];
            let chunk = &mut chunks[index];
            // Zeros on nothing stay nothing: file systems clear far more than they fill.
            if chunk.is_none() && is_zero(bytes) {
                continue;
            }
            let chunk = chunk.get_or_insert_with(|| vec![0; CHUNK].into_boxed_slice());
            chunk[within..within + bytes.len()].copy_from_slice(bytes);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Box<[u8]>>>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chunks of `after` that differ from those of `before`: what an overlay on `before` must hold.
/// A chunk that became empty is there with its zeros, for otherwise the one below would show.
pub fn changed(
    before: &[Option<Box<[u8]>>],
    after: Vec<Option<Box<[u8]>>>,
) -> Vec<Option<Box<[u8]>>> {
    let of_before = |index: usize| before.get(index).and_then(Option::as_deref);
    after
        .into_iter()
        .enumerate()
        .map(|(index, chunk)| match (of_before(index), chunk) {
            (Some(old), Some(new)) if *old == *new => None,
            (Some(_), None) => Some(vec![0; CHUNK].into_boxed_slice()),
            (_, chunk) => chunk,
        })
        .collect()
}

/// The pieces of a range: chunk, offset within it, and the part of the caller's buffer.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let position = offset + done as u64;
        let (index, within) =
            ((position / CHUNK as u64) as usize, (position % CHUNK as u64) as usize);
        let n = (CHUNK - within).min(length - done);
        let part = done..done + n;
        done += n;
        Some((index, within, part))
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    // Comparing with a block of zeros is a memcmp, many times faster than a look at each byte.
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_across_chunks() {
        let disk = SparseDisk::new(3 * CHUNK as u64 - 7);
        assert_eq!(disk.size(), 3 * CHUNK as u64);
        let bytes: Vec<u8> = (0..CHUNK + 100).map(|i| (i % 251) as u8).collect();
        assert!(disk.write(CHUNK as u64 - 50, &bytes));
        let mut back = vec![1; bytes.len()];
        assert!(disk.read(CHUNK as u64 - 50, &mut back));
        assert!(back == bytes);
        let mut before = [9; 4];
        assert!(disk.read(0, &mut before));
        assert_eq!(before, [0; 4]);
    }

    #[test]
    fn reads_and_writes_beyond_the_disk_are_refused() {
        let disk = SparseDisk::new(CHUNK as u64);
        assert!(!disk.write(CHUNK as u64 - 1, &[1, 2]));
        assert!(!disk.read(u64::MAX, &mut [0; 2]));
    }

    #[test]
    fn a_chunk_that_became_empty_is_written_as_zeros() {
        let chunk = |byte: u8| Some(vec![byte; CHUNK].into_boxed_slice());
        let before = [chunk(1), chunk(2), None, chunk(4)];
        let found = changed(&before, vec![chunk(1), None, chunk(3), chunk(5)]);
        assert_eq!(found, [None, chunk(0), chunk(3), chunk(5)]);
    }

    #[test]
    fn zeros_take_no_room() {
        let disk = SparseDisk::new(2 * CHUNK as u64);
        assert!(disk.write(0, &[0; 100]));
        assert!(disk.write(CHUNK as u64, &[1]));
        assert!(disk.write(CHUNK as u64, &[0]));
        assert!(disk.into_chunks().iter().all(Option::is_none));
    }
}
