//! Files on their way to and from the host: reading a tree as frames, and writing what frames bring.
//!
//! All of it blocks, so that it runs on threads of its own (`endpoints/files.rs`): a file system that
//! stands still must not silence the agent. Whatever is not a file, folder or link is named and left
//! out, because opening a pipe or a device can wait for ever.

mod extents;
mod part;
mod reader;
mod walk;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use agent_protocol::GuestText;
use rustix::fs::FileType;

use crate::Error;

/// An error of a file call, by the path that it was about.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Path { action, path, source }
}

/// The same, for calls of `rustix`.
fn refused(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Error + use<> {
    let fail = failed(action, path);
    move |error| fail(error.into())
}

/// What is in a file's place and cannot be read or written as one.
fn wrong_kind(action: &'static str, path: &Path, kind: FileType) -> Error {
    let words = match kind {
        FileType::Directory => return failed(action, path)(io::ErrorKind::IsADirectory.into()),
        FileType::Fifo => "it is a pipe, neither file nor folder",
        FileType::Socket => "it is a socket, neither file nor folder",
        FileType::CharacterDevice | FileType::BlockDevice => {
            "it is a device, neither file nor folder"
        }
        FileType::Symlink => "it is a link, not a file",
        _ => "it is neither file nor folder",
    };
    failed(action, path)(io::Error::new(io::ErrorKind::InvalidInput, words))
}

fn path_of(text: &GuestText) -> PathBuf {
    OsStr::from_bytes(text.as_bytes()).into()
}
