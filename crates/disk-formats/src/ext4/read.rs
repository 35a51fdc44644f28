//! Reads a file system back into a tree: what is on an image's disk, whoever wrote it. It owns the
//! walk and its bounds; it must not know why somebody asks.

use super::{acl, device_number};
use crate::{
    Error,
    tree::{Content, Kind, Node, Tree, TreePath},
};
use fs_ext4::{Filesystem, inode, xattr};
use std::collections::{BTreeMap, HashMap, HashSet};

const ROOT_INODE: u32 = 2;
/// More entries than any image has: a bound against a damaged or hostile disk.
const MAX_ENTRIES: usize = 4_000_000;
/// More bytes in files than an image's disk can hold in memory here.
const MAX_BYTES: u64 = 16 << 30;
/// What `mkfs` makes for `e2fsck`; no image has put anything into it.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Reads every entry. Contents are held in memory.
pub(super) fn all(volume: &Filesystem) -> Result<Tree, Error> {
    let mut walk = Walk {
        volume,
        tree: Tree::default(),
        first_names: HashMap::new(),
        folders: HashSet::new(),
        n_bytes: 0,
    };
    walk.below(TreePath::new(), ROOT_INODE)?;
    Ok(walk.tree)
}

struct Walk<'a> {
    volume: &'a Filesystem,
    tree: Tree,
    /// Files with several names, by inode.
    first_names: HashMap<u32, TreePath>,
    /// Folders that were entered: a damaged file system may lead in circles.
    folders: HashSet<u32>,
    n_bytes: u64,
}

impl Walk<'_> {
    /// Reads this and what is below it, a folder before what it holds, by name: the order in which
    /// tar packs, so that of a file's names the same one is the file here and there.
    fn below(&mut self, path: TreePath, number: u32) -> Result<(), Error> {
        let mut waiting = vec![(path, number)];
        while let Some((path, number)) = waiting.pop() {
            let damaged = |what| Error::Ext4Read {
                path: display(&path),
                source: fs_ext4::Error::Corrupt(what),
            };
            if self.tree.len() >= MAX_ENTRIES {
                return Err(damaged("there are too many entries"));
            }
            if let Some(first) = self.first_names.get(&number) {
                self.tree.insert(path, link_to(first));
                continue;
            }
            let (node, n_names) = self.node(&path, number)?;
            if node.is_folder() {
                if !self.folders.insert(number) {
                    return Err(damaged("a folder has two places"));
                }
                let children = self.children(&path, number)?;
                waiting.extend(children.into_iter().rev());
            } else if n_names > 1 {
                self.first_names.insert(number, path.clone());
            }
            self.tree.insert(path, node);
        }
        Ok(())
    }

    /// What a folder holds, sorted by name.
    fn children(&self, path: &[u8], number: u32) -> Result<Vec<(TreePath, u32)>, Error> {
        let damaged = |source| Error::Ext4Read { path: display(path), source };
        let mut children = Vec::new();
        for entry in self.volume.read_dir_ino(number).map_err(damaged)? {
            if matches!(entry.name.as_slice(), b"." | b"..") {
                continue;
            }
            if entry.name.is_empty() || entry.name.contains(&b'/') {
                return Err(damaged(fs_ext4::Error::Corrupt("a name is no name")));
            }
            let mut place = path.to_vec();
            if !place.is_empty() {
                place.push(b'/');
            }
            place.extend_from_slice(&entry.name);
            if place != LOST_AND_FOUND {
                children.push((place, entry.inode));
            }
        }
        children.sort();
        Ok(children)
    }

    /// An inode as a node, and how many names it has.
    fn node(&mut self, path: &[u8], number: u32) -> Result<(Node, u16), Error> {
        let damaged = |source| Error::Ext4Read { path: display(path), source };
        let (inode, raw) = self.volume.read_inode_verified(number).map_err(damaged)?;
        let kind = match inode.mode & inode::S_IFMT {
            inode::S_IFDIR => Kind::Folder,
            inode::S_IFLNK => Kind::Symlink(self.volume.read_link(number).map_err(damaged)?),
            inode::S_IFCHR => device(&inode.block, Kind::CharDevice),
            inode::S_IFBLK => device(&inode.block, Kind::BlockDevice),
            // A socket is nothing without its program, and cannot be in a tree.
            inode::S_IFIFO | inode::S_IFSOCK => Kind::Fifo,
            _ => {
                self.n_bytes = self.n_bytes.saturating_add(inode.size);
                if self.n_bytes > MAX_BYTES.min(self.volume.byte_ceiling().map_err(damaged)?) {
                    return Err(damaged(fs_ext4::Error::Corrupt("its files exceed the disk")));
                }
                let mut bytes = vec![0; inode.size as usize];
                let n_read = self.volume.read_ino(number, 0, &mut bytes).map_err(damaged)?;
                if n_read != bytes.len() {
                    return Err(damaged(fs_ext4::Error::Corrupt("a file is cut")));
                }
                Kind::File(Content::Bytes(bytes.into()))
            }
        };
        let xattrs = xattr::read_all_resolved(self.volume, &inode, &raw).map_err(damaged)?;
        let xattrs = xattrs
            .into_iter()
            .map(|entry| match acl::from_disk(&entry.value).filter(|_| acl::is_list(&entry.name)) {
                Some(list) => (entry.name, list),
                None => (entry.name, entry.value),
            })
            .collect();
        let mode = match kind {
            Kind::Symlink(_) => 0o777,
            _ => inode.mode & 0o7777,
        };
        let node = Node { kind, mode, uid: inode.uid, gid: inode.gid, mtime: inode.mtime, xattrs };
        Ok((node, inode.links_count))
    }
}

fn link_to(first: &TreePath) -> Node {
    Node {
        kind: Kind::Hardlink(first.clone()),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: BTreeMap::new(),
    }
}

fn device(block: &[u8; 60], make: fn(u32, u32) -> Kind) -> Kind {
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| block[at + i]));
    let (major, minor) = device_number::numbers([word(0), word(4)]);
    make(major, minor)
}

fn display(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
