//! The content of a file in order: bytes that were written, and holes between them.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;

use agent_protocol::limits;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Extent<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many bytes that were never written.
    Hole(u64),
}

/// A file that is read once, from its beginning.
pub struct Extents {
    file: fs_err::File,
    chunk: Vec<u8>,
    position: u64,
    /// Where the bytes end that are being read; absent in a file without holes.
    data_end: Option<u64>,
}

impl Extents {
    /// Reads this file, of which nothing has been read yet.
    pub fn new(file: fs_err::File, metadata: &std::fs::Metadata) -> Self {
        // Blocks are counted in units of 512 bytes whatever the file system's are, stat(2).
        let has_holes = metadata.blocks().saturating_mul(512) < metadata.size();
        Self { file, chunk: Vec::new(), position: 0, data_end: has_holes.then_some(0) }
    }

    pub fn file(&self) -> &fs_err::File {
        &self.file
    }

    /// What comes next, in portions of at most [`limits::FILE_CHUNK`] bytes of data; `None` at the end.
    pub fn next_extent(&mut self) -> std::io::Result<Option<Extent<'_>>> {
        if self.data_end == Some(self.position)
            && let Some(hole) = self.find_data()?
        {
            self.position += hole;
            return Ok(Some(Extent::Hole(hole)));
        }
        self.chunk.resize(limits::FILE_CHUNK, 0);
        let room = match self.data_end {
            Some(end) => usize::try_from(end - self.position).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let room = room.min(self.chunk.len());
        loop {
            match self.file.read(&mut self.chunk[..room]) {
                Ok(0) => return Ok(None),
                // Files of /proc that would wait for more have nothing more to say.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(length) => {
                    self.position += length as u64;
                    return Ok(Some(Extent::Data(&self.chunk[..length])));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the next bytes that were written, and gives the length of the hole before them.
    fn find_data(&mut self) -> std::io::Result<Option<u64>> {
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(self.position)) {
            Ok(start) => start,
            // No more of them: the rest of the file is a hole.
            Err(Errno::NXIO) => {
                let size = self.file.metadata()?.len();
                self.data_end = Some(size);
                rustix::fs::seek(&self.file, SeekFrom::Start(size))?;
                return Ok(size.checked_sub(self.position).filter(|length| *length > 0));
            }
            // A file system that does not know.
            Err(_) => {
                self.data_end = None;
                return Ok(None);
            }
        };
        self.data_end = Some(rustix::fs::seek(&self.file, SeekFrom::Hole(start))?);
        rustix::fs::seek(&self.file, SeekFrom::Start(start))?;
        Ok(start.checked_sub(self.position).filter(|length| *length > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    fn all(path: &std::path::Path) -> Vec<(bool, u64)> {
        let file = fs_err::File::open(path).unwrap();
        let metadata = file.metadata().unwrap();
        let mut extents = Extents::new(file, &metadata);
        let mut found: Vec<(bool, u64)> = Vec::new();
        while let Some(extent) = extents.next_extent().unwrap() {
            let (is_data, length) = match extent {
                Extent::Data(bytes) => (true, bytes.len() as u64),
                Extent::Hole(length) => (false, length),
            };
            match found.last_mut() {
                Some(last) if last.0 == is_data => last.1 += length,
                _ => found.push((is_data, length)),
            }
        }
        found
    }

    #[test]
    fn holes_are_distinguished_from_bytes() {
        const M: u64 = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = fs_err::File::create(&path).unwrap();
        assert_eq!(all(&path), []);
        file.set_len(1 << 40).unwrap();
        assert_eq!(all(&path), [(false, 1 << 40)]);
        file.file().write_all_at(&[1; 4096], 3 * M).unwrap();
        assert_eq!(all(&path), [(false, 3 * M), (true, 4096), (false, (1 << 40) - 3 * M - 4096)]);
        file.set_len(3 * M + 4096).unwrap();
        assert_eq!(all(&path), [(false, 3 * M), (true, 4096)]);
        file.file().write_all_at(&vec![1; M as usize], 0).unwrap();
        assert_eq!(all(&path), [(true, M), (false, 2 * M), (true, 4096)]);
        // What has no size, or a size that is not true, is read to its end.
        for path in ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"] {
            if let Ok(text) = fs_err::read(path) {
                let length: u64 = all(path.as_ref())
                    .iter()
                    .map(|(is_data, n)| {
                        assert!(is_data);
                        n
                    })
                    .sum();
                assert!(length.abs_diff(text.len() as u64) < 64, "{path}: {length}");
            }
        }
    }
}
