//! Reads a file or a tree of the host and sends it as frames. Blocking.

use super::{Transfer, file_error};
use crate::agent_client::{data_frame, done_frame, entry_frame};
use crate::error::Result;
use agent_protocol::{EntryKind, FileEntry, limits};
use bytes::Bytes;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Sends everything; ends early when nobody listens any more, which is no error of this side.
pub(super) fn send_tree(root: &Path, sender: &mpsc::Sender<Bytes>) -> Result<Transfer> {
    let mut sent = Transfer::default();
    let mut waiting: Vec<(PathBuf, String)> = vec![(root.to_owned(), String::new())];
    while let Some((path, relative)) = waiting.pop() {
        let is_root = relative.is_empty();
        // The root is what the user named; a link below it is sent as a link.
        let looked =
            if is_root { fs_err::metadata(&path) } else { fs_err::symlink_metadata(&path) };
        let metadata = match looked {
            Err(error) if !is_root && error.kind() == ErrorKind::NotFound => continue,
            looked => looked.map_err(|error| file_error("read", &path, error))?,
        };
        let mut entry = FileEntry {
            path: relative,
            kind: EntryKind::Other,
            mode: mode(&metadata),
            target: None,
        };
        let mut file = None;
        if metadata.is_symlink() {
            let target =
                fs_err::read_link(&path).map_err(|error| file_error("read", &path, error))?;
            if let Some(target) = target.to_str() {
                entry.kind = EntryKind::Link;
                entry.target = Some(target.replace(std::path::MAIN_SEPARATOR, "/"));
            }
        } else if metadata.is_dir() {
            entry.kind = EntryKind::Folder;
            list(&path, &entry.path, &mut waiting, &mut sent)?;
        } else if metadata.is_file() {
            entry.kind = EntryKind::File;
            let opened = fs_err::File::open(&path);
            file = Some(opened.map_err(|error| file_error("read", &path, error))?);
        }
        if entry.kind == EntryKind::Other || entry.components().is_err() {
            sent.skip(entry.path);
            continue;
        }
        if sender.blocking_send(entry_frame(&entry)).is_err() {
            return Ok(sent);
        }
        if let Some(mut file) = file {
            let mut chunk = vec![0; limits::FILE_CHUNK];
            loop {
                let length =
                    file.read(&mut chunk).map_err(|error| file_error("read", &path, error))?;
                if length == 0 {
                    break;
                }
                if sender.blocking_send(data_frame(&chunk[..length])).is_err() {
                    return Ok(sent);
                }
            }
        }
    }
    // Whoever fails above sends no last frame: the agent then knows that the transfer is not whole.
    let _ = sender.blocking_send(done_frame());
    Ok(sent)
}

fn list(
    folder: &Path,
    relative: &str,
    waiting: &mut Vec<(PathBuf, String)>,
    sent: &mut Transfer,
) -> Result<()> {
    let failed = |error| file_error("read", folder, error);
    let first = waiting.len();
    for item in fs_err::read_dir(folder).map_err(failed)? {
        let item = item.map_err(failed)?;
        let separator = if relative.is_empty() { "" } else { "/" };
        match item.file_name().to_str() {
            Some(name) => waiting.push((item.path(), format!("{relative}{separator}{name}"))),
            None => {
                let name = item.file_name().to_string_lossy().into_owned();
                sent.skip(format!("{relative}{separator}{name}"));
            }
        }
    }
    // The order of names, so that the same tree gives the same bytes.
    waiting[first..].sort_unstable_by(|a, b| b.1.cmp(&a.1));
    Ok(())
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    Some(std::os::unix::fs::MetadataExt::mode(metadata) & 0o7777)
}

/// Windows has no modes; files get those of a new file.
#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> Option<u32> {
    None
}
