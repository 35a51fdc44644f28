//! An open entry that is neither a file nor a folder: a link in the form that the guest knows, or a
//! socket, a pipe or a device, of which nothing but the name is shown.

use super::link;
use bytes::Bytes;
use cap_std::fs::Metadata;
use smb_server::{DirEntry, FileInfo, FileTimes, Handle, SmbError, SmbResult};
use std::time::SystemTime;

/// The entry as it was when it was opened.
pub(super) struct Node {
    info: FileInfo,
    content: Option<Bytes>,
}

impl Node {
    pub(super) fn new(
        name: String,
        found: &Metadata,
        top: &Metadata,
        content: Option<Bytes>,
    ) -> Self {
        let mut info = FileInfo::new(name);
        if content.is_some() {
            (info.end_of_file, info.allocation_size) = (link::SIZE, link::SIZE);
        }
        let time = |time: std::io::Result<cap_std::time::SystemTime>| {
            let time = time.map_or(SystemTime::UNIX_EPOCH, |time| time.into_std());
            FileTimes::all(time).last_write_time.unwrap_or_default()
        };
        info.last_write_time = time(found.modified());
        info.last_access_time = time(found.accessed());
        info.change_time = info.last_write_time;
        info.creation_time = time(found.created());
        info.file_index = index(found, top);
        Self { info, content }
    }

    /// The entry in a listing.
    pub(super) fn entry(self) -> DirEntry {
        DirEntry { info: self.info }
    }
}

/// The number that tells the entry from all others of the share.
#[cfg(unix)]
fn index(found: &Metadata, top: &Metadata) -> u64 {
    use cap_std::fs::MetadataExt as _;
    if top.dev() == found.dev() { found.ino() } else { found.ino() ^ found.dev().rotate_left(32) }
}

#[cfg(not(unix))]
fn index(_: &Metadata, _: &Metadata) -> u64 {
    0
}

#[async_trait::async_trait]
impl Handle for Node {
    async fn read(&self, offset: u64, length: u32) -> SmbResult<Bytes> {
        let content = self.content.as_ref().ok_or(SmbError::NotSupported)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(length as usize).min(content.len());
        Ok(content.slice(start..end))
    }

    async fn write(&self, _: u64, _: &[u8]) -> SmbResult<u32> {
        Err(SmbError::AccessDenied)
    }

    async fn flush(&self) -> SmbResult<()> {
        Ok(())
    }

    async fn stat(&self) -> SmbResult<FileInfo> {
        Ok(self.info.clone())
    }

    async fn set_times(&self, _: FileTimes) -> SmbResult<()> {
        Err(SmbError::NotSupported)
    }

    async fn set_attributes(&self, _: u32) -> SmbResult<()> {
        Err(SmbError::NotSupported)
    }

    async fn truncate(&self, _: u64) -> SmbResult<()> {
        Err(SmbError::AccessDenied)
    }

    async fn list_dir(&self, _: Option<&str>) -> SmbResult<Vec<DirEntry>> {
        Err(SmbError::NotADirectory)
    }

    async fn close(self: Box<Self>) -> SmbResult<()> {
        Ok(())
    }
}
