//! Files of the guest for the host's user: read, write, upload, download.
//!
//! Owns the public calls. They go over the agent's connection, so that they work in every network
//! mode. What comes from the guest is written by `files/download.rs`, which is where the host is
//! protected; `files/upload.rs` reads the host's own files.

mod download;
mod upload;

use crate::agent_client::{AgentClient, Part, data_frame, done_frame, entry_frame};
use crate::error::{Error, Result};
use crate::sandbox::Sandbox;
use agent_protocol::{EntryKind, FileEntry, ReadFilesRequest, WriteFilesRequest, limits};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// The largest file that [`Sandbox::read_file`] brings unless it is told otherwise, in bytes.
pub const DEFAULT_MAX_FILE: u64 = 1 << 30;
/// Parts of a transfer that wait for the disk or the wire, of at most 1 MiB each.
const QUEUE: usize = 4;

/// What an upload or download moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Files.
    pub n_files: u64,
    /// Bytes in them.
    pub n_bytes: u64,
    /// What was left out, by its path below the root: devices, pipes and sockets, names that are
    /// not UTF-8, and on a download links that lead out of the tree. At most 1000 names.
    pub skipped: Vec<String>,
}

impl Transfer {
    fn skip(&mut self, path: String) {
        const MAX_NAMES: usize = 1000;
        if self.skipped.len() < MAX_NAMES {
            self.skipped.push(path);
        }
    }
}

/// Files, in any network mode.
impl Sandbox {
    /// Reads a file of the guest, of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::GuestFile`] when it cannot be read, [`Error::TooLarge`] when it is larger.
    ///
    /// ```no_run
    /// # async fn example(sandbox: &sandbox::Sandbox) -> Result<(), sandbox::Error> {
    /// let release = sandbox.read_file("/etc/os-release", sandbox::DEFAULT_MAX_FILE).await?;
    /// assert!(release.starts_with(b"PRETTY_NAME"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_file(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>> {
        let machine = self.machine("read a file")?;
        machine.during("reading a file", read_file(&machine.agent, path, max_bytes)).await
    }

    /// Writes a file of the guest, as root, and makes missing folders above it. A file that is
    /// there keeps its owner and, without `mode`, its mode (a new one has 0644).
    ///
    /// # Errors
    /// [`Error::GuestFile`] when it cannot be written.
    pub async fn write_file(
        &self,
        path: &str,
        data: impl Into<Bytes>,
        mode: Option<u32>,
    ) -> Result<()> {
        let machine = self.machine("write a file")?;
        if mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Error::InvalidPath {
                message: format!("`mode` is 0o{:o}", mode.unwrap_or_default()),
                hint: Some("A mode is at most 0o7777".into()),
            });
        }
        let call = write_file(&machine.agent, path, data.into(), mode);
        machine.during("writing a file", call).await
    }

    /// Copies a file or a folder with all that is in it into the guest. `guest` is the copy's path;
    /// a file goes into a folder that is there already, under its own name. Modes are kept, links
    /// stay links.
    ///
    /// # Errors
    /// [`Error::File`] for a file of the host, [`Error::GuestFile`] for one of the guest.
    pub async fn upload(&self, host: impl AsRef<Path>, guest: &str) -> Result<Transfer> {
        let machine = self.machine("upload")?;
        machine.during("an upload", upload(&machine.agent, host.as_ref(), guest)).await
    }

    /// Copies a file or a folder with all that is in it out of the guest. `host` is the copy's path;
    /// a file goes into a folder that is there already, under its own name. Permission bits are
    /// kept but for set-user-ID and the like. Nothing is ever written outside of `host`, and links
    /// that lead out of the tree are left out.
    ///
    /// # Errors
    /// [`Error::GuestFile`] for a file of the guest, [`Error::File`] or [`Error::Transfer`] for one
    /// of the host, [`Error::TooLarge`] over `max_bytes`.
    pub async fn download(
        &self,
        guest: &str,
        host: impl AsRef<Path>,
        max_bytes: Option<u64>,
    ) -> Result<Transfer> {
        let machine = self.machine("download")?;
        let call = download(&machine.agent, guest, host.as_ref(), max_bytes.unwrap_or(u64::MAX));
        machine.during("a download", call).await
    }
}

async fn read_file(agent: &AgentClient, path: &str, max_bytes: u64) -> Result<Vec<u8>> {
    let request = ReadFilesRequest { path: path.to_owned(), tree: false };
    let mut parts = agent.read_files(&request).await?;
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await? {
        let Part::Data(data) = part else { continue };
        if (bytes.len() + data.len()) as u64 > max_bytes {
            return Err(Error::TooLarge { path: path.to_owned(), limit: max_bytes });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn write_file(agent: &AgentClient, path: &str, data: Bytes, mode: Option<u32>) -> Result<()> {
    let (sender, frames) = mpsc::channel(QUEUE);
    let feeding = async move {
        let entry = FileEntry { path: String::new(), kind: EntryKind::File, mode, target: None };
        let chunks = data.chunks(limits::FILE_CHUNK).map(data_frame);
        for frame in std::iter::once(entry_frame(&entry)).chain(chunks).chain([done_frame()]) {
            // The agent may have refused already; its answer says why.
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    };
    let request = WriteFilesRequest { path: path.to_owned(), name: None };
    let (result, ()) = tokio::join!(agent.write_files(&request, frames), feeding);
    result.map(|_| ())
}

async fn upload(agent: &AgentClient, host: &Path, guest: &str) -> Result<Transfer> {
    let metadata = fs_err::metadata(host).map_err(|error| file_error("read", host, error))?;
    // Only files go into folders: a tree that is sent twice must land in the same place twice.
    let name = host.file_name().filter(|_| metadata.is_file());
    let name = name.and_then(|name| name.to_str()).map(str::to_owned);
    let request = WriteFilesRequest { path: guest.to_owned(), name };
    let (sender, frames) = mpsc::channel(QUEUE);
    let root = host.to_owned();
    let reading = tokio::task::spawn_blocking(move || upload::send_tree(&root, &sender));
    let written = agent.write_files(&request, frames).await;
    // The queue has ended, so that the reader has too.
    let read = reading.await.map_err(of_thread)?;
    match (read, written) {
        // What is missing on the host is the cause of the agent's complaint.
        (Err(error), _) => Err(error),
        (_, Err(error)) => Err(error),
        (Ok(skipped), Ok(written)) => {
            Ok(Transfer { n_files: written.n_files, n_bytes: written.n_bytes, ..skipped })
        }
    }
}

async fn download(
    agent: &AgentClient,
    guest: &str,
    host: &Path,
    max_bytes: u64,
) -> Result<Transfer> {
    let request = ReadFilesRequest { path: guest.to_owned(), tree: true };
    let mut parts = agent.read_files(&request).await?;
    let (sender, queue) = mpsc::channel(QUEUE);
    let (host, name) = (host.to_owned(), file_name(guest));
    let writing = tokio::task::spawn_blocking(move || download::receive(queue, &host, name));
    let mut n_bytes = 0;
    let result = loop {
        let part = match parts.next().await {
            Ok(Some(part)) => part,
            Ok(None) => break sender.send(None).await.is_ok(),
            Err(error) => return Err(error),
        };
        if let Part::Data(data) = &part {
            n_bytes += data.len() as u64;
            if n_bytes > max_bytes {
                return Err(Error::TooLarge { path: guest.to_owned(), limit: max_bytes });
            }
        }
        if sender.send(Some(part)).await.is_err() {
            break false;
        }
    };
    drop(sender);
    let _ = result;
    writing.await.map_err(of_thread)?
}

/// The last name of a path of the guest.
fn file_name(guest: &str) -> Option<String> {
    let name = guest.trim_end_matches('/').rsplit('/').next()?;
    let entry =
        FileEntry { path: name.to_owned(), kind: EntryKind::File, mode: None, target: None };
    entry.components().is_ok_and(|parts| parts.len() == 1).then(|| name.to_owned())
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { action, path: PathBuf::from(path), source }
}

fn of_thread(error: tokio::task::JoinError) -> Error {
    Error::System { action: "copy files", source: std::io::Error::other(error.to_string()) }
}
