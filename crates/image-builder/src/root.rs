//! Root file systems that somebody brings, as a tar or as an OCI image layout: what a Dockerfile's
//! build, `docker export` or `debootstrap` leaves. It owns reading them into a tree, with bounds and
//! checks against a hostile maker; it must not know what becomes of the tree.

mod container;
mod files;
mod layer;
mod oci;

use crate::{Error, RootError, recipe::Root, tree::Tree};
pub use container::SCRIPT as CONTAINER_SCRIPT;
use files::{Files, Whiteouts};
use fs_err as fs;
use host_platform::Arch;
use std::{
    io::{Cursor, Read},
    path::Path,
};

/// What a root file system may hold once it is unpacked, in bytes: a bound against an archive that
/// grows without end. All of it is held in memory.
const MAX_BYTES: u64 = 16 << 30;

/// A root file system.
#[derive(Debug)]
pub struct Brought {
    /// Its files.
    pub tree: Tree,
    /// The sha256 of what it was read from: the tar's, or that of the OCI manifest, which names
    /// every layer by digest.
    pub sha256: String,
}

/// Reads what a recipe names; `folder` is the recipe's.
pub fn read(root: &Root, folder: &Path, arch: Arch) -> Result<Brought, Error> {
    let brought = match root {
        Root::Tar(path) => tar(&folder.join(path))?,
        Root::Oci(path) => oci::read(&folder.join(path), arch)?,
        // Its blobs must be fetched first.
        Root::Image(name) => {
            let detail = "it is in a registry".to_owned();
            return Err(Error::Root(RootError::BadRoot { path: name.into(), detail }));
        }
    };
    with_files(brought, &folder.join(root.path()))
}

/// Reads an image whose blobs were fetched from a registry into a store, `blobs/sha256` in it, by the
/// digest of its manifest.
pub fn read_pulled(store: &Path, digest: &str) -> Result<Brought, Error> {
    with_files(oci::read_manifest(store, digest)?, store)
}

fn with_files(brought: Brought, path: &Path) -> Result<Brought, Error> {
    match brought.tree.len() {
        0..2 => {
            let detail = "it holds no files".to_owned();
            Err(Error::Root(RootError::BadRoot { path: path.to_owned(), detail }))
        }
        _ => Ok(brought),
    }
}

fn tar(path: &Path) -> Result<Brought, Error> {
    let bytes = fs::read(path)?;
    let mut files = Files::new();
    let tree = files
        .add(unpacked(&bytes, MAX_BYTES)?, Whiteouts::AreFiles)
        .and_then(|()| files.into_tree())
        .map_err(|error| at(path, error))?;
    Ok(Brought { tree, sha256: crate::sha256(&bytes) })
}

/// A reader of what was compressed, by its first bytes: gzip, zstd, xz or not at all. It ends with
/// an error behind `most` bytes.
fn unpacked<'a>(bytes: &'a [u8], most: u64) -> Result<Box<dyn Read + 'a>, Error> {
    let reader: Box<dyn Read + 'a> = match bytes {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(bytes)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(lzma_rust2::XzReader::new(Cursor::new(bytes), true))
        }
        _ => Box::new(bytes),
    };
    Ok(Box::new(Bounded { reader, left: most }))
}

/// A reader that refuses to give more than so many bytes.
struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n_read = self.reader.read(out)? as u64;
        self.left = self
            .left
            .checked_sub(n_read)
            .ok_or_else(|| std::io::Error::other("it unpacks to more than an image can hold"))?;
        Ok(n_read as usize)
    }
}

/// Names the file in an error of its reader.
fn at(path: &Path, error: Error) -> Error {
    match error {
        Error::Io(source) => {
            Error::Root(RootError::BadRoot { path: path.to_owned(), detail: source.to_string() })
        }
        Error::Disk(disk_formats::Error::PathLeavesTree { path: name }) => {
            Error::Root(RootError::BadRoot {
                path: path.to_owned(),
                detail: format!("`{name}` leaves it"),
            })
        }
        Error::Disk(disk_formats::Error::LostLink { path: name, target }) => {
            let detail = format!("`{name}` is a hard link to `{target}`, which is not there");
            Error::Root(RootError::BadRoot { path: path.to_owned(), detail })
        }
        error => error,
    }
}

#[cfg(test)]
mod tests;
