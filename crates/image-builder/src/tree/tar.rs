//! Trees out of tars and into them.

use super::{Content, Kind, Node, Tree, normal, sparse};
use crate::Error;
use fs_err as fs;
use std::{
    collections::BTreeMap,
    io::{Read, Write as _},
    path::Path,
    sync::Arc,
};

impl Tree {
    /// Adds what a tar holds. Contents stay in the tar's file, which must not change meanwhile.
    pub fn add_tar_file(&mut self, path: &Path) -> Result<(), Error> {
        let file = Arc::new(fs::File::open(path)?);
        let reader = std::io::BufReader::with_capacity(1 << 16, file.as_ref());
        self.add_tar(reader, &|_| true, |entry, _| {
            Ok(Content::Range { file: file.clone(), offset: entry.start, length: entry.length })
        })
    }

    /// Adds what a tar stream holds; contents are kept in memory.
    pub fn add_tar_stream(&mut self, reader: impl Read) -> Result<(), Error> {
        self.add_tar_stream_where(reader, &|_| true)
    }

    /// Adds those members of a tar stream whose paths are wanted; contents are kept in memory.
    pub fn add_tar_stream_where(
        &mut self,
        reader: impl Read,
        is_wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), Error> {
        self.add_tar(reader, is_wanted, |_, bytes| {
            let mut content = Vec::new();
            bytes.read_to_end(&mut content)?;
            Ok(Content::Bytes(content.into()))
        })
    }

    fn add_tar<R: Read>(
        &mut self,
        reader: R,
        is_wanted: &dyn Fn(&[u8]) -> bool,
        mut content: impl FnMut(&Position, &mut dyn Read) -> Result<Content, Error>,
    ) -> Result<(), Error> {
        // A few bytes of a tar can tell of any number in a file with holes.
        let mut left = sparse::MAX_BYTES;
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let mut path = entry.path_bytes().into_owned();
            let mut xattrs = BTreeMap::new();
            let mut holes = sparse::Told::default();
            if let Some(extensions) = entry.pax_extensions()? {
                for extension in extensions {
                    let extension = extension?;
                    let Ok(key) = extension.key() else { continue };
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                        xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
                    } else if let Some(name) = key.strip_prefix("GNU.sparse.") {
                        holes.hear(name, extension.value_bytes());
                    }
                }
            }
            if let Some(name) = &holes.name {
                path.clone_from(name);
            }
            if !is_wanted(&path) {
                continue;
            }
            let header = entry.header();
            let (mode, mtime) = (header.mode()? as u16 & 0o7777, header.mtime()? as i64);
            let (uid, gid) = (header.uid()? as u32, header.gid()? as u32);
            let device = || -> Result<(u32, u32), Error> {
                Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
            };
            let target =
                || entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
            let kind = match header.entry_type() {
                tar::EntryType::Directory => Kind::Folder,
                tar::EntryType::Symlink => Kind::Symlink(target()),
                tar::EntryType::Link => Kind::Hardlink(normal(&target())?),
                tar::EntryType::Char => {
                    device().map(|(major, minor)| Kind::CharDevice(major, minor))?
                }
                tar::EntryType::Block => {
                    device().map(|(major, minor)| Kind::BlockDevice(major, minor))?
                }
                tar::EntryType::Fifo => Kind::Fifo,
                tar::EntryType::XGlobalHeader => continue,
                // What has holes is not in the tar as it is.
                tar::EntryType::GNUSparse => {
                    let bytes = sparse::read(&mut entry, &mut left)?;
                    Kind::File(Content::Bytes(bytes.into()))
                }
                _ if holes.is_told() => {
                    Kind::File(Content::Bytes(holes.fill(&mut entry, &mut left)?.into()))
                }
                _ => {
                    let position =
                        Position { start: entry.raw_file_position(), length: entry.size() };
                    Kind::File(content(&position, &mut entry)?)
                }
            };
            self.put_bytes(&path, Node { kind, mode, uid, gid, mtime, xattrs })?;
        }
        Ok(())
    }

    /// Writes the tree as a tar, for `add_tar_file` to read back.
    pub fn write_tar(&self, path: &Path) -> Result<(), Error> {
        let mut builder = tar::Builder::new(std::io::BufWriter::new(fs::File::create(path)?));
        for (place, node) in self.nodes.iter().filter(|(place, _)| !place.is_empty()) {
            let mut header = tar::Header::new_gnu();
            header.set_mode(u32::from(node.mode));
            header.set_uid(u64::from(node.uid));
            header.set_gid(u64::from(node.gid));
            header.set_mtime(node.mtime.max(0) as u64);
            header.set_size(0);
            let xattrs: Vec<(String, &[u8])> = node
                .xattrs
                .iter()
                .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.as_slice()))
                .collect();
            if !xattrs.is_empty() {
                builder.append_pax_extensions(
                    xattrs.iter().map(|(name, value)| (name.as_str(), *value)),
                )?;
            }
            let place = host_path(place);
            let mut device = |kind, major, minor| -> Result<(), Error> {
                header.set_entry_type(kind);
                header.set_device_major(major)?;
                header.set_device_minor(minor)?;
                Ok(())
            };
            match &node.kind {
                Kind::File(content) => {
                    header.set_size(content.len());
                    builder.append_data(&mut header, place, content.read()?.as_ref())?;
                    continue;
                }
                Kind::Symlink(target) | Kind::Hardlink(target) => {
                    let is_symlink = matches!(node.kind, Kind::Symlink(_));
                    header.set_entry_type(if is_symlink {
                        tar::EntryType::Symlink
                    } else {
                        tar::EntryType::Link
                    });
                    // As it is where it fits: the packer would tidy `./x` and `a//b` up.
                    match header.set_link_name_literal(target) {
                        Ok(()) => builder.append_data(&mut header, place, std::io::empty())?,
                        Err(_) => builder.append_link(&mut header, place, host_path(target))?,
                    }
                    continue;
                }
                Kind::Folder => header.set_entry_type(tar::EntryType::Directory),
                Kind::Fifo => header.set_entry_type(tar::EntryType::Fifo),
                Kind::CharDevice(major, minor) => device(tar::EntryType::Char, *major, *minor)?,
                Kind::BlockDevice(major, minor) => device(tar::EntryType::Block, *major, *minor)?,
            }
            builder.append_data(&mut header, place, std::io::empty())?;
        }
        builder.into_inner()?.flush()?;
        Ok(())
    }
}

/// A path as the packer takes it. Names are bytes here, and text on hosts whose paths know no bytes.
#[cfg(unix)]
fn host_path(path: &[u8]) -> &Path {
    Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path))
}

#[cfg(not(unix))]
fn host_path(path: &[u8]) -> std::path::PathBuf {
    String::from_utf8_lossy(path).into_owned().into()
}

/// Where a member's bytes lie in a tar.
struct Position {
    start: u64,
    length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_keeps_ownership_modes_links_and_attributes() {
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append_pax_extensions([("SCHILY.xattr.security.capability", b"\x01\x00".as_slice())])
            .unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(99);
        builder.append_data(&mut header, "./usr/bin/ping", b"abc".as_slice()).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_link(&mut header, "./usr/bin/ping6", "./usr/bin/ping").unwrap();
        let bytes = builder.into_inner().unwrap();

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        fs::write(&path, &bytes).unwrap();
        let mut from_file = Tree::new(0);
        from_file.add_tar_file(&path).unwrap();
        let mut from_stream = Tree::new(0);
        from_stream.add_tar_stream(bytes.as_slice()).unwrap();
        for tree in [from_file, from_stream] {
            let node = tree.get(b"usr/bin/ping").unwrap();
            assert_eq!((node.mode, node.uid, node.gid, node.mtime), (0o4755, 7, 8, 99));
            assert_eq!(node.xattrs["security.capability"], b"\x01\x00");
            assert_eq!(tree.read("usr/bin/ping6").unwrap().unwrap().as_ref(), b"abc");
        }
    }
}
