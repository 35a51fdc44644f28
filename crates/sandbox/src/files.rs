//! Files of the guest for the host's user: read, write, upload, download.
//!
//! Owns the public calls. They go over the agent's connection, so that they work in every network
//! mode. What comes from the guest is written by `files/download.rs`, which is where the host is
//! protected; `files/upload.rs` reads the host's own files.

mod attributes;
mod download;
mod extents;
mod receiving;
mod staging;
mod upload;

pub(crate) use receiving::Leftovers;

use crate::agent_client::{AgentClient, Part, data_frame, done_frame, entry_frame};
use crate::error::{Error, Result};
use crate::sandbox::Sandbox;
use agent_protocol::{
    EntryKind, FileEntry, GuestText, ReadFilesRequest, WriteFilesRequest, limits,
};
use bytes::Bytes;
use std::path::Path;
use tokio::sync::mpsc;

/// The largest file that [`Sandbox::read_file`] brings by default, in bytes.
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
    /// Files.
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

/// Files, in any network mode. A path of the guest is absolute, and any bytes: `&str`, `&[u8]`.
///
/// Each call ends with [`Error::GuestSilent`] when the guest lets it rest for 60 seconds, and with
/// [`Error::AgentBroken`] when it has waited for the guest for more than five minutes and a second for
/// each 256 KiB that it moved.
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
    pub async fn read_file(&self, path: impl AsRef<[u8]>, max_bytes: u64) -> Result<Vec<u8>> {
        let machine = self.machine("read a file")?;
        let call = read_file(&machine.agent, path.as_ref().into(), max_bytes);
        machine.during("reading a file", call).await
    }

    /// Writes a file of the guest, as root, and makes missing folders above it. Whoever reads it
    /// sees the old content or the new one. A file that is there keeps its owner and, without
    /// `mode`, its permissions (a new one has 0644). A link is followed when it is root's.
    ///
    /// # Errors
    /// [`Error::GuestFile`] when it cannot be written: a pipe, socket, device or folder is there, or
    /// the way leads through a link of another user.
    pub async fn write_file(
        &self,
        path: impl AsRef<[u8]>,
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
        let call = write_file(&machine.agent, path.as_ref().into(), data.into(), mode);
        machine.during("writing a file", call).await
    }

    /// Copies a file or a folder with all that is in it into the guest. `guest` is the copy's path;
    /// a file goes into a folder that is there already, under its own name. Permissions, times and
    /// holes are kept, links stay links; everything belongs to root.
    ///
    /// # Errors
    /// [`Error::File`] for a file of the host, [`Error::GuestFile`] for one of the guest.
    pub async fn upload(
        &self,
        host: impl AsRef<Path>,
        guest: impl AsRef<[u8]>,
    ) -> Result<Transfer> {
        let machine = self.machine("upload")?;
        let call = upload(&machine.agent, host.as_ref(), guest.as_ref().into());
        machine.during("an upload", call).await
    }

    /// Copies a file or a folder with all that is in it out of the guest. `host` is the copy's path;
    /// a file goes into a folder that is there already, under its own name. `options` may be the
    /// most bytes alone, as an `Option<u64>`.
    ///
    /// Nothing of the host is replaced unless `options` say so, nothing is written outside of
    /// `host`, and an error leaves nothing behind. Times and holes are kept, permissions as far as
    /// the umask allows; links that lead out of the tree are left out.
    ///
    /// # Errors
    /// [`Error::GuestFile`] for a file of the guest, [`Error::WrongKind`] for a folder where a file
    /// was asked for, [`Error::HostExists`] for what is in the way, [`Error::File`] or
    /// [`Error::Transfer`] for other trouble on the host, [`Error::TooLarge`] and
    /// [`Error::TooManyEntries`] over the limits.
    pub async fn download(
        &self,
        guest: impl AsRef<[u8]>,
        host: impl AsRef<Path>,
        options: impl Into<DownloadOptions>,
    ) -> Result<Transfer> {
        let machine = self.machine("download")?;
        let request = download::Request {
            guest: guest.as_ref().into(),
            host: host.as_ref().to_owned(),
            options: options.into(),
        };
        let call = receiving::download(&machine.agent, request, &self.leftovers);
        let result = machine.during("a download", call).await;
        // A machine that ended has dropped the call.
        self.tidied().await;
        result
    }

    /// Waits until downloads of this sandbox that were cancelled have removed what they had written.
    pub async fn tidied(&self) {
        self.leftovers.tidied().await;
    }
}

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

async fn write_file(
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

async fn upload(agent: &AgentClient, host: &Path, guest: GuestText) -> Result<Transfer> {
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

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { action, path: path.into(), source }
}

fn of_thread(error: tokio::task::JoinError) -> Error {
    Error::System { action: "copy files", source: std::io::Error::other(error.to_string()) }
}
