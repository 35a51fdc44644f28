//! Reads a file or a tree of the host and sends it as frames. Blocking.

use super::extents::{Extent, Extents};
use super::{Transfer, file_error};
use crate::agent_client::{data_frame, done_frame, entry_frame, hole_frame};
use crate::error::Result;
use agent_protocol::{EntryKind, FileEntry, GuestText};
use bytes::Bytes;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Sends everything; ends early when nobody listens any more, which is no error of this side.
pub(super) fn send_tree(root: &Path, sender: &mpsc::Sender<Bytes>) -> Result<Transfer> {
    let mut sent = Transfer::default();
    let mut waiting = vec![(root.to_owned(), GuestText::default())];
    while let Some((path, relative)) = waiting.pop() {
        let failed = |error| file_error("read", &path, error);
        let is_root = relative.is_empty();
        // The root is what the user named; a link below it is sent as a link.
        let looked =
            if is_root { fs_err::metadata(&path) } else { fs_err::symlink_metadata(&path) };
        let metadata = match looked {
            Err(error) if !is_root && error.kind() == ErrorKind::NotFound => continue,
            looked => looked.map_err(failed)?,
        };
        let mut entry = FileEntry {
            mode: mode(&metadata),
            mtime_ns: mtime_ns(&metadata),
            ..FileEntry::new(relative, EntryKind::Other)
        };
        let mut file = None;
        if metadata.is_symlink() {
            let target = fs_err::read_link(&path).map_err(failed)?;
            entry.target = guest_name(target.as_os_str());
            if entry.target.is_some() {
                entry.kind = EntryKind::Link;
            }
        } else if metadata.is_dir() {
            entry.kind = EntryKind::Folder;
            list(&path, &entry.path, &mut waiting, &mut sent)?;
        } else if metadata.is_file() {
            entry.kind = EntryKind::File;
            file = Some(open(&path).and_then(Extents::new).map_err(failed)?);
        } else if is_root {
            return Err(failed(Error::new(
                ErrorKind::InvalidInput,
                "it is neither file nor folder",
            )));
        }
        if entry.kind == EntryKind::Other || entry.components().is_err() {
            sent.skip(&entry.path);
            continue;
        }
        if sender.blocking_send(entry_frame(&entry)).is_err() {
            return Ok(sent);
        }
        let Some(mut file) = file else { continue };
        while let Some(extent) = file.next_extent().map_err(failed)? {
            let frame = match extent {
                Extent::Data(bytes) => data_frame(bytes),
                Extent::Hole(length) => hole_frame(length),
            };
            if sender.blocking_send(frame).is_err() {
                return Ok(sent);
            }
        }
    }
    // Whoever fails above sends no last frame: the agent then knows that the transfer is not whole.
    let _ = sender.blocking_send(done_frame());
    Ok(sent)
}

fn list(
    folder: &Path,
    relative: &GuestText,
    waiting: &mut Vec<(PathBuf, GuestText)>,
    sent: &mut Transfer,
) -> Result<()> {
    let failed = |error| file_error("read", folder, error);
    let first = waiting.len();
    for item in fs_err::read_dir(folder).map_err(failed)? {
        let item = item.map_err(failed)?;
        let mut path = relative.as_bytes().to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        match guest_name(&item.file_name()) {
            Some(name) => {
                path.extend(name.as_bytes());
                waiting.push((item.path(), path.into()));
            }
            None => {
                path.extend(item.file_name().to_string_lossy().as_bytes());
                sent.skip(&path.into());
            }
        }
    }
    // The order of names, so that the same tree gives the same bytes.
    waiting[first..].sort_unstable_by(|a, b| b.1.cmp(&a.1));
    Ok(())
}

/// A name or a link's target as the guest has it. Linux has every name; those of Windows may hold
/// what is no character.
pub(super) fn guest_name(name: &OsStr) -> Option<GuestText> {
    #[cfg(unix)]
    return Some(std::os::unix::ffi::OsStrExt::as_bytes(name).into());
    #[cfg(not(unix))]
    name.to_str().map(|name| name.replace(std::path::MAIN_SEPARATOR, "/").into())
}

/// Opens a file. Somebody may have put a pipe in its place, which is not waited for.
fn open(path: &Path) -> std::io::Result<fs_err::File> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    fs_err::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// Permissions and the sticky bit. Set-user-ID is not sent: whoever owns the file here, in the guest
/// it would be root.
#[cfg(unix)]
fn mode(metadata: &Metadata) -> Option<u32> {
    Some(std::os::unix::fs::MetadataExt::mode(metadata) & 0o1777)
}

/// Windows has no modes; files get those of a new file.
#[cfg(not(unix))]
fn mode(_: &Metadata) -> Option<u32> {
    None
}

fn mtime_ns(metadata: &Metadata) -> Option<i64> {
    let time = metadata.modified().ok()?;
    match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => after.as_nanos().try_into().ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(i64::wrapping_neg),
    }
}
