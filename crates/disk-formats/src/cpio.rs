//! Writes a file tree as a cpio archive in the `newc` format, which is what Linux unpacks as its
//! initial file system. It owns the format and nothing else.
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>

use crate::{
    Error,
    tree::{Kind, Tree},
};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHAR_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;

/// The archive of a tree. Hard links are written as files of their own: an initrd has none worth
/// the linked form.
pub fn archive(tree: &Tree) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let entries = tree.iter().filter(|(path, _)| !path.is_empty());
    for (inode, (path, node)) in (1..).zip(entries) {
        let empty: std::sync::Arc<[u8]> = [].into();
        let (format, content, device) = match &node.kind {
            Kind::Folder => (FOLDER, empty, (0, 0)),
            Kind::File(content) => (FILE, content.read()?, (0, 0)),
            Kind::Symlink(target) => (SYMLINK, target.as_slice().into(), (0, 0)),
            Kind::Hardlink(target) => {
                let target = String::from_utf8_lossy(target);
                (FILE, tree.read(&target)?.unwrap_or(empty), (0, 0))
            }
            Kind::CharDevice(major, minor) => (CHAR_DEVICE, empty, (*major, *minor)),
            Kind::BlockDevice(major, minor) => (BLOCK_DEVICE, empty, (*major, *minor)),
            Kind::Fifo => (FIFO, empty, (0, 0)),
        };
        let length = u32::try_from(content.len()).map_err(|_| Error::FileTooLarge {
            path: String::from_utf8_lossy(path).into_owned(),
            bytes: content.len() as u64,
        })?;
        let n_links = if node.is_folder() { 2 } else { 1 };
        let fields = [
            inode,
            format | u32::from(node.mode),
            node.uid,
            node.gid,
            n_links,
            node.mtime as u32,
            length,
            0,
            0,
            device.0,
            device.1,
        ];
        entry(&mut out, &fields, path, &content);
    }
    entry(&mut out, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], b"TRAILER!!!", &[]);
    Ok(out)
}

fn entry(out: &mut Vec<u8>, fields: &[u32; 11], name: &[u8], content: &[u8]) {
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(format!("{:08x}{:08x}", name.len() + 1, 0).as_bytes());
    out.extend_from_slice(name);
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
}

/// The names of the regular files in an archive, in its order; `None` when it is not an archive. A compressed
/// archive behind this one, as some initrds have, is not looked into.
pub fn files(archive: &[u8]) -> Option<Vec<String>> {
    const HEADER: usize = 110;
    const S_IFMT: usize = 0o170_000;
    const S_IFREG: usize = 0o100_000;
    let mut names = Vec::new();
    let mut rest = archive;
    while !rest.is_empty() {
        let header = rest.get(..HEADER).filter(|header| header.starts_with(b"070701"))?;
        let field = |number: usize| {
            let digits = std::str::from_utf8(&header[6 + number * 8..][..8]).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (mode, n_bytes, n_name) = (field(1)?, field(6)?, field(11)?);
        let name = rest.get(HEADER..HEADER.checked_add(n_name)?)?;
        let name = String::from_utf8_lossy(name.strip_suffix(b"\0")?).into_owned();
        if name == "TRAILER!!!" {
            return Some(names);
        }
        if mode & S_IFMT == S_IFREG {
            names.push(name);
        }
        let data = (HEADER + n_name).next_multiple_of(4);
        rest = rest.get(data.checked_add(n_bytes.checked_next_multiple_of(4)?)?..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    #[test]
    fn an_archive_has_every_entry_aligned_and_a_trailer() {
        let mut tree = Tree::new(0);
        tree.put("init", Node::file(*b"#!agent", 0o755, 5)).unwrap();
        tree.put("modules/order", Node::file(*b"a.ko\n", 0o644, 5)).unwrap();
        let bytes = archive(&tree).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("070701"));
        assert_eq!(text.matches("070701").count(), 4, "init, modules, order and the trailer");
        assert!(text.contains("TRAILER!!!"));
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(files(&bytes).unwrap(), ["init", "modules/order"]);
        assert_eq!(files(&bytes[..bytes.len() - 130]), None, "it is cut");
        let start = text.find("#!agent").unwrap();
        assert_eq!(start % 4, 0, "the kernel expects data on four-byte borders");
    }
}
