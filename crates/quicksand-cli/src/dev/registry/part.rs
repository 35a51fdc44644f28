//! A blob that comes in: written beside its place, bounded, compared with its digest, and renamed.

use fs_err as fs;
use sha2::{Digest as _, Sha256};
use std::{
    io::{self, Write as _},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};
use tempfile::NamedTempFile;
use tokio::io::AsyncWrite;

/// The part that is there.
pub struct Part {
    file: NamedTempFile,
    digest: Sha256,
    /// How many bytes may still come.
    left: u64,
    is_full: bool,
}

impl Part {
    /// A new one in the folder of blobs, of at most so many bytes.
    pub fn new(blobs: &Path, size: u64) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix(".part-").tempfile_in(blobs)?;
        Ok(Self { file, digest: Sha256::new(), left: size, is_full: false })
    }

    /// Whether more came than was announced: another try gives the same.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Puts it in its place, if it is what its digest says.
    pub fn finish(self, place: &Path, expected: &str) -> Result<(), String> {
        let found: String = hex::encode(self.digest.finalize());
        if expected != format!("sha256:{found}") {
            return Err(format!("the registry answered {expected} with other bytes"));
        }
        self.file.persist(place).map(drop).map_err(|error| error.to_string())
    }

    /// Keeps bytes that are known to be right.
    pub fn keep(place: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = place.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".part-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.persist(place).map(drop).map_err(|error| error.error)?;
        fs::metadata(place).map(drop)
    }
}

/// Writes at once: nothing else waits in the runtime of one download.
impl AsyncWrite for Part {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let part = &mut *self;
        match part.left.checked_sub(bytes.len() as u64) {
            Some(left) => part.left = left,
            None => {
                part.is_full = true;
                return Poll::Ready(Err(io::Error::other("more bytes than its manifest says")));
            }
        }
        part.digest.update(bytes);
        Poll::Ready(part.file.write_all(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.file.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
