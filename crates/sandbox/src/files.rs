//! Files of the guest for the host's user: read, write, upload, download.
//!
//! All go over the agent's connection, so that they work in every network mode; the public calls are in
//! `sandbox/files.rs`. What comes from the guest is written by `files/download.rs`, which is where the host is
//! protected; `files/upload.rs` reads the host's own files.

mod attributes;
pub(crate) mod download;
mod extents;
pub(crate) mod receiving;
mod staging;
mod upload;

pub(crate) use receiving::Leftovers;

use crate::agent_client::{AgentClient, Part, data_frame, done_frame, entry_frame};
use crate::error::{Error, Result};
use agent_protocol::{
    EntryKind, FileEntry, GuestText, ReadFilesRequest, WriteFilesRequest, limits,
};
use bytes::Bytes;
use std::path::Path;
use tokio::sync::mpsc;

/// The largest file that [`Sandbox::read_file`](crate::Sandbox::read_file) brings by default, in bytes.
pub const DEFAULT_MAX_FILE: u64 = 1 << 30;
/// The most bytes of a download by default, holes included: 16 GiB.
pub const DEFAULT_MAX_BYTES: u64 = 16 << 30;
/// The most files, folders and links of a download by default.
pub const DEFAULT_MAX_ENTRIES: u64 = 1_000_000;
/// Parts of a transfer that wait for the disk or the wire, of at most 1 MiB each.
const QUEUE: usize = 4;

/// What an upload or download moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// How many files were transferred, folders not counted.
    pub n_files: u64,
    /// Bytes in them, holes included.
    pub n_bytes: u64,
    /// What was left out, by its path below the root: devices, pipes and sockets, on a download
    /// links that lead out of the tree, and names that this host's file system cannot have. At most
    /// 1000 names; control characters and bytes that are not UTF-8 are shown as `\x1b`.
    pub skipped: Vec<String>,
}

impl Transfer {
    fn skip(&mut self, path: &GuestText) {
        const MAX_NAMES: usize = 1000;
        if self.skipped.len() < MAX_NAMES {
            self.skipped.push(path.to_string());
        }
    }
}

/// What a download may bring, and what it may replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadOptions {
    /// `Some(true)` wants a folder with all that is in it, `Some(false)` a file; the other kind is an
    /// error. `None` takes either, as long as the host's path does not exist yet; into a folder that
    /// is there goes only a file.
    pub tree: Option<bool>,
    /// Whether files of the host may be replaced, and a tree may go into a folder that is not empty.
    pub overwrite: bool,
    /// The most bytes, holes included.
    pub max_bytes: u64,
    /// The most files, folders and links.
    pub max_entries: u64,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            tree: None,
            overwrite: false,
            max_bytes: DEFAULT_MAX_BYTES,
            max_entries: DEFAULT_MAX_ENTRIES,
        }
    }
}

/// A limit of bytes, and otherwise the defaults.
impl From<Option<u64>> for DownloadOptions {
    fn from(max_bytes: Option<u64>) -> Self {
        Self { max_bytes: max_bytes.unwrap_or(DEFAULT_MAX_BYTES), ..Self::default() }
    }
}

/// Reads a file of at most so many bytes.
pub(crate) async fn read_file(
    agent: &AgentClient,
    path: GuestText,
    max_bytes: u64,
) -> Result<Vec<u8>> {
    let request = ReadFilesRequest { path, tree: false };
    let mut parts = agent.read_files(&request).await?;
    let mut bytes = Vec::new();
    let mut n_files = 0;
    while let Some(part) = parts.next().await? {
        let length = match &part {
            Part::Entry(entry) => {
                n_files += 1;
                if n_files > 1 || entry.kind != EntryKind::File {
                    return Err(no_file());
                }
                0
            }
            _ if n_files == 0 => return Err(no_file()),
            Part::Data(data) => data.len() as u64,
            Part::Hole(length) => *length,
        };
        let end = (bytes.len() as u64).saturating_add(length);
        if end > max_bytes {
            return Err(Error::TooLarge { path: request.path.to_string(), limit: max_bytes });
        }
        match part {
            Part::Entry(_) => {}
            Part::Data(data) => bytes.extend_from_slice(&data),
            // Within the caller's limit.
            Part::Hole(_) => bytes.resize(end as usize, 0),
        }
    }
    if n_files == 0 { Err(no_file()) } else { Ok(bytes) }
}

fn no_file() -> Error {
    Error::AgentBroken { reason: "the guest sent something else than the file".into() }
}

/// Writes a file whose mode has been checked.
pub(crate) async fn write_file(
    agent: &AgentClient,
    path: GuestText,
    data: Bytes,
    mode: Option<u32>,
) -> Result<()> {
    let (sender, frames) = mpsc::channel(QUEUE);
    let feeding = async move {
        let entry = FileEntry { mode, ..FileEntry::new("", EntryKind::File) };
        let chunks = data.chunks(limits::FILE_CHUNK).map(data_frame);
        for frame in std::iter::once(entry_frame(&entry)).chain(chunks).chain([done_frame()]) {
            // The agent may have refused already; its answer says why.
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    };
    let request = WriteFilesRequest { path, name: None };
    let (result, ()) = tokio::join!(agent.write_files(&request, frames), feeding);
    result.map(|_| ())
}

/// Copies a file or a tree of the host into the guest.
pub(crate) async fn upload(agent: &AgentClient, host: &Path, guest: GuestText) -> Result<Transfer> {
    let metadata = fs_err::metadata(host).map_err(|error| file_error("read", host, error))?;
    // Only files go into folders: a tree that is sent twice must land in the same place twice.
    let name = host.file_name().filter(|_| metadata.is_file());
    let name = name.and_then(upload::guest_name);
    let request = WriteFilesRequest { path: guest, name };
    let (sender, frames) = mpsc::channel(QUEUE);
    let root = host.to_owned();
    let reading = tokio::task::spawn_blocking(move || upload::send_tree(&root, &sender));
    let written = agent.write_files(&request, frames).await;
    // The queue has ended, so that the reader has too.
    let read = reading.await.map_err(thread_error)?;
    match (read, written) {
        // What is missing on the host is the cause of the agent's complaint.
        (Err(error), _) => Err(error),
        (_, Err(error)) => Err(error),
        (Ok(skipped), Ok(written)) => {
            Ok(Transfer { n_files: written.n_files, n_bytes: written.n_bytes, ..skipped })
        }
    }
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { action, path: path.into(), source }
}

fn thread_error(error: tokio::task::JoinError) -> Error {
    Error::System { action: "copy files", source: std::io::Error::other(error.to_string()) }
}
