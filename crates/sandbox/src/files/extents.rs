//! The content of a file of the host in order: bytes that were written, and holes between them.

use agent_protocol::limits;
use fs_err::File;
use std::io::{ErrorKind, Read, Result};

/// What comes next in a file.
pub(super) enum Extent<'a> {
    Data(&'a [u8]),
    /// So many bytes that were never written.
    Hole(u64),
}

/// A file that is read once, from its beginning.
pub(super) struct Extents {
    file: File,
    chunk: Vec<u8>,
    position: u64,
    /// Where the bytes end that are being read; absent in a file without holes.
    data_end: Option<u64>,
}

impl Extents {
    /// Reads this file, of which nothing has been read yet.
    pub fn new(file: File) -> Result<Self> {
        let data_end = has_holes(&file.metadata()?).then_some(0);
        Ok(Self { file, chunk: vec![0; limits::FILE_CHUNK], position: 0, data_end })
    }

    /// What comes next, in portions of at most [`limits::FILE_CHUNK`] bytes of data; `None` at the end.
    pub fn next_extent(&mut self) -> Result<Option<Extent<'_>>> {
        if self.data_end == Some(self.position)
            && let Some(hole) = self.find_data()?
        {
            self.position += hole;
            return Ok(Some(Extent::Hole(hole)));
        }
        let room = match self.data_end {
            Some(end) => usize::try_from(end - self.position).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let room = room.min(self.chunk.len());
        loop {
            match self.file.read(&mut self.chunk[..room]) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    self.position += length as u64;
                    return Ok(Some(Extent::Data(&self.chunk[..length])));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the next bytes that were written, and gives the length of the hole before them.
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    fn find_data(&mut self) -> Result<Option<u64>> {
        use rustix::fs::{SeekFrom, seek};
        let start = match seek(&self.file, SeekFrom::Data(self.position)) {
            Ok(start) => start,
            // No more of them: the rest of the file is a hole.
            Err(rustix::io::Errno::NXIO) => {
                let size = self.file.metadata()?.len();
                seek(&self.file, SeekFrom::Start(size))?;
                self.data_end = Some(size);
                return Ok(size.checked_sub(self.position).filter(|length| *length > 0));
            }
            // A file system that does not know.
            Err(_) => {
                self.data_end = None;
                return Ok(None);
            }
        };
        self.data_end = Some(seek(&self.file, SeekFrom::Hole(start))?);
        seek(&self.file, SeekFrom::Start(start))?;
        Ok(start.checked_sub(self.position).filter(|length| *length > 0))
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    fn find_data(&mut self) -> Result<Option<u64>> {
        self.data_end = None;
        Ok(None)
    }
}

#[cfg(unix)]
fn has_holes(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // Blocks are counted in units of 512 bytes whatever the file system's are, stat(2).
    metadata.blocks().saturating_mul(512) < metadata.size()
}

#[cfg(not(unix))]
fn has_holes(_: &std::fs::Metadata) -> bool {
    false
}
