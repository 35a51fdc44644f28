//! Trees out of tars and into them.

use super::{
    Content, Kind, Node, Tree,
    archive::{Archive, Member, What},
    normal,
    pax::keyword,
};
use crate::Error;
use fs_err as fs;
use std::{
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
        let mut archive = Archive::new(reader);
        while let Some(mut member) = archive.next_member()? {
            if !is_wanted(&member.path) {
                continue;
            }
            if let Some(list) = member.lists.first() {
                // Nobody is there who could say which users those are.
                list.value(&|_, _| None)?;
            }
            let kind = match member.what {
                What::Other(kind) => kind,
                What::Link(target) => Kind::Hardlink(normal(&target)?),
                What::Holes(map) => Kind::File(Content::Bytes(archive.fill(map)?.into())),
                What::File => {
                    let position = Position { start: member.start, length: member.length };
                    Kind::File(content(&position, &mut archive)?)
                }
            };
            let Member { mode, uid, gid, mtime, .. } = member;
            let xattrs = std::mem::take(&mut member.xattrs);
            self.put_bytes(&member.path, Node { kind, mode, uid, gid, mtime, xattrs })?;
        }
        Ok(())
    }

    /// Writes the tree as a tar, for `add_tar_file` to read back.
    pub fn write_tar(&self, path: &Path) -> Result<(), Error> {
        let mut builder = tar::Builder::new(std::io::BufWriter::new(fs::File::create(path)?));
        for (place, node) in &self.nodes {
            // The root goes along: its mode, owner and attributes are an image's as well.
            let place = if place.is_empty() { b".".as_slice() } else { place };
            let mut header = tar::Header::new_gnu();
            header.set_mode(u32::from(node.mode));
            header.set_uid(u64::from(node.uid));
            header.set_gid(u64::from(node.gid));
            header.set_mtime(node.mtime.max(0) as u64);
            header.set_size(0);
            let mut records: Vec<(String, Vec<u8>)> = node
                .xattrs
                .iter()
                .map(|(name, value)| {
                    (format!("SCHILY.xattr.{}", keyword::encoded(name)), value.clone())
                })
                .collect();
            if node.mtime < 0 {
                // The header's field knows none of these.
                records.push(("mtime".to_owned(), node.mtime.to_string().into_bytes()));
            }
            if !records.is_empty() {
                builder.append_pax_extensions(
                    records.iter().map(|(name, value)| (name.as_str(), value.as_slice())),
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
