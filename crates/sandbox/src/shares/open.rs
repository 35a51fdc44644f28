//! An open file or folder of a share, with what it costs the machine's budget.
//!
//! Passes requests on until the share is revoked. A listing is kept by the server until the folder
//! is closed, so that its bytes are counted as long; links in it are shown as links.

use super::folder::{Folder, Revocation, blocking, node, relative};
use crate::budget::{Budget, Permit};
use cap_std::fs::Dir;
use smb_server::{
    Bytes, DirEntry, DirWatch, FileInfo, FileTimes, Handle, SmbError, SmbPath, SmbResult,
};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of an entry of a listing beside its name.
const ENTRY: usize = size_of::<DirEntry>() + 16;

pub(super) struct Open {
    inner: Box<dyn Handle>,
    root: Arc<Dir>,
    path: PathBuf,
    budget: Arc<Budget>,
    revocation: Revocation,
    listing: Mutex<Option<Permit>>,
    _place: Permit,
}

impl Open {
    pub(super) fn new(
        folder: &Folder,
        path: &SmbPath,
        inner: Box<dyn Handle>,
        place: Permit,
    ) -> Self {
        let (root, budget, revocation) = folder.parts();
        let path = relative(path);
        Self { inner, root, path, budget, revocation, listing: Mutex::default(), _place: place }
    }

    fn inner(&self) -> SmbResult<&dyn Handle> {
        self.revocation.check()?;
        Ok(&*self.inner)
    }

    /// Looks through the folder before it is read into memory: what it would cost, and which of
    /// its entries are links.
    async fn survey(&self) -> SmbResult<(Permit, HashMap<String, DirEntry>)> {
        let (root, path) = (Arc::clone(&self.root), self.path.clone());
        let left = self.budget.memory_left();
        let (bytes, links) = blocking(move || {
            let mut links = HashMap::new();
            let mut bytes = 0;
            let (folder, top) = (root.open_dir(&path)?, root.dir_metadata()?);
            for entry in folder.entries()? {
                let entry = entry?;
                let name = entry.file_name();
                bytes += ENTRY + name.len();
                if bytes > left {
                    return Err(io::Error::from(io::ErrorKind::OutOfMemory));
                }
                if entry.file_type()?.is_symlink()
                    && let Some(name) = name.to_str()
                    && let Ok(found) = folder.symlink_metadata(name)
                    && let Ok(node) = node(&folder, name.as_ref(), name.to_owned(), &found, &top)
                {
                    links.insert(name.to_owned(), node.entry());
                }
            }
            Ok((bytes, links))
        })
        .await?;
        let permit = self.budget.memory(bytes).ok_or_else(|| {
            SmbError::Io(io::Error::other("the machine's budget of memory is used up"))
        })?;
        Ok((permit, links))
    }
}

#[async_trait::async_trait]
impl Handle for Open {
    async fn read(&self, offset: u64, length: u32) -> SmbResult<Bytes> {
        self.inner()?.read(offset, length).await
    }

    async fn write(&self, offset: u64, data: &[u8]) -> SmbResult<u32> {
        self.inner()?.write(offset, data).await
    }

    async fn write_owned(&self, offset: u64, data: Vec<u8>) -> SmbResult<u32> {
        self.inner()?.write_owned(offset, data).await
    }

    async fn flush(&self) -> SmbResult<()> {
        self.inner()?.flush().await
    }

    async fn stat(&self) -> SmbResult<FileInfo> {
        self.inner()?.stat().await
    }

    async fn set_times(&self, times: FileTimes) -> SmbResult<()> {
        self.inner()?.set_times(times).await
    }

    async fn set_attributes(&self, attributes: u32) -> SmbResult<()> {
        self.inner()?.set_attributes(attributes).await
    }

    async fn truncate(&self, length: u64) -> SmbResult<()> {
        self.inner()?.truncate(length).await
    }

    async fn list_dir(&self, pattern: Option<&str>) -> SmbResult<Vec<DirEntry>> {
        self.revocation.check()?;
        let _turn = self.budget.listing().await;
        // The listing of before is replaced by this one.
        *self.listing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (permit, mut links) = self.survey().await?;
        let mut entries = self.inner()?.list_dir(pattern).await?;
        for entry in &mut entries {
            if let Some(link) = links.remove(&entry.info.name) {
                *entry = link;
            }
        }
        *self.listing.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        Ok(entries)
    }

    async fn close(self: Box<Self>) -> SmbResult<()> {
        self.inner.close().await
    }

    async fn link_count(&self) -> SmbResult<u32> {
        self.inner()?.link_count().await
    }

    async fn dir_is_empty(&self) -> SmbResult<bool> {
        self.inner()?.dir_is_empty().await
    }

    async fn watch(&self) -> SmbResult<Option<Box<dyn DirWatch>>> {
        self.inner()?.watch().await
    }
}
