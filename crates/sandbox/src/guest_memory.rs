//! The guest's memory as a file: what a template is made from, and how it is kept without its zeros.

use crate::error::{Error, Result};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// What is read at a time, and what is looked at for zeros.
const PORTION: usize = 1 << 20;
const PAGE: usize = 4096;

/// Memory for a guest in a file that has no name and no disk.
pub(crate) fn memory_file(bytes: u64) -> Result<File> {
    let failed = |source| Error::System { action: "make the guest's memory", source };
    let fd = memfd_create(c"quicksand-guest", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    rustix::fs::fchmod(&fd, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .map_err(|e| failed(e.into()))?;
    let file = File::from(fd);
    file.set_len(bytes).map_err(failed)?;
    Ok(file)
}

/// Copies a file with what is not zero in it; the rest stays a hole.
pub(crate) fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let size = from.metadata()?.len();
    let mut buffer = vec![0; PORTION];
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?.min(size);
        at = start;
        while at < end {
            let length = (end - at).min(PORTION as u64) as usize;
            let portion = &mut buffer[..length];
            from.read_exact_at(portion, at)?;
            write_data(portion, to, at)?;
            at += length as u64;
        }
    }
    to.set_len(size)
}

/// Writes the pages of a portion that are not zero, each run of them at once.
fn write_data(portion: &[u8], to: &File, at: u64) -> io::Result<()> {
    let mut run = 0..0;
    for (index, page) in portion.chunks(PAGE).enumerate() {
        let start = index * PAGE;
        if is_zero(page) {
            continue;
        }
        if run.end != start {
            to.write_all_at(&portion[run.clone()], at + run.start as u64)?;
            run.start = start;
        }
        run.end = start + page.len();
    }
    to.write_all_at(&portion[run.clone()], at + run.start as u64)
}

fn is_zero(bytes: &[u8]) -> bool {
    // Compares with itself, one byte further on: as fast as the C library's memcmp.
    bytes.first().is_none_or(|first| *first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_copy_has_the_same_bytes_and_no_zeros() {
        let from = tempfile::tempfile().unwrap();
        let to = tempfile::tempfile().unwrap();
        from.set_len(8 << 20).unwrap();
        from.write_all_at(&vec![0; 3 << 20], 1 << 20).unwrap();
        for (at, length) in
            [(0, 1), (4095, 2), (1 << 20, PAGE), ((2 << 20) - 1, 3 * PAGE), ((8 << 20) - 5, 5)]
        {
            from.write_all_at(&vec![7; length], at).unwrap();
        }
        copy_sparse(&from, &to).unwrap();
        let [mut a, mut b] = [vec![0; 8 << 20], vec![0; 8 << 20]];
        from.read_exact_at(&mut a, 0).unwrap();
        to.read_exact_at(&mut b, 0).unwrap();
        assert!(a == b);
        assert_eq!(to.metadata().unwrap().len(), 8 << 20);
        // Ten pages, and what the file system needs for itself.
        assert!(to.metadata().unwrap().blocks() * 512 < 512 << 10);
    }

    #[test]
    fn memory_that_was_never_written_stays_a_hole() {
        let from = memory_file(64 << 20).unwrap();
        let to = tempfile::tempfile().unwrap();
        copy_sparse(&from, &to).unwrap();
        assert_eq!((to.metadata().unwrap().len(), to.metadata().unwrap().blocks()), (64 << 20, 0));
    }
}
