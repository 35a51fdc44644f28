//! A file tree as data: what goes into an image, by path, in sorted order.
//!
//! It is built from packages' archives, a root file system's tar and a recipe's files, and is what
//! the file system and initrd writers read. It owns names, kinds, ownership and times; it must not
//! know about file systems on disk or about recipes.

pub mod access;
pub mod archive;
mod path;
mod pax;
mod sparse;
mod tar;

use crate::Error;
use fs_err as fs;
use path::collapse;
pub use path::join;
pub use path::{TreePath, normal, split};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

/// The longest chain of symbolic links that is followed, as in Linux (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A file tree.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<TreePath, Node>,
}

/// One entry of a tree.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky (12 bits).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes by full name (`security.capability`).
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug)]
pub enum Kind {
    Folder,
    /// A regular file.
    File(Content),
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of the file at this path.
    Hardlink(TreePath),
    /// A character device.
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// The bytes of a file.
#[derive(Clone)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A part of a file on disk, such as a member of a tar.
    Range {
        file: Arc<fs::File>,
        /// Where the bytes start.
        offset: u64,
        /// How many bytes there are.
        length: u64,
    },
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Content {
    /// The number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Range { length, .. } => *length,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of the bytes.
    pub fn read(&self) -> Result<Arc<[u8]>, Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Range { file, offset, length } => {
                // The position is shared by all ranges of the file, and one thread reads at a time.
                let mut file = file.as_ref();
                file.seek(SeekFrom::Start(*offset))?;
                let mut bytes = Vec::with_capacity(*length as usize);
                let n_read = file.take(*length).read_to_end(&mut bytes)? as u64;
                if n_read != *length {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                }
                Ok(bytes.into())
            }
        }
    }
}

impl Node {
    /// A folder that root owns.
    pub fn folder(mode: u16, mtime: i64) -> Self {
        Self { kind: Kind::Folder, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// A file that root owns.
    pub fn file(bytes: impl Into<Arc<[u8]>>, mode: u16, mtime: i64) -> Self {
        let kind = Kind::File(Content::Bytes(bytes.into()));
        Self { kind, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// A symbolic link that root owns.
    pub fn symlink(target: impl Into<Vec<u8>>, mtime: i64) -> Self {
        let kind = Kind::Symlink(target.into());
        Self { kind, mode: 0o777, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        matches!(self.kind, Kind::Folder)
    }
}

impl Tree {
    /// A tree with nothing but its root folder.
    pub fn new(mtime: i64) -> Self {
        Self { nodes: BTreeMap::from([(Vec::new(), Node::folder(0o755, mtime))]) }
    }

    /// Every entry, parents before children, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Node)> {
        self.nodes.iter()
    }

    /// Every entry, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&TreePath, &mut Node)> {
        self.nodes.iter_mut()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing, not even a root folder.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The entry at exactly this path.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The bytes of the file at this path, links followed.
    pub fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, Error> {
        let Some(path) = self.follow(&normal(path.as_bytes())?) else { return Ok(None) };
        let node = match self.nodes.get(&path).map(|node| &node.kind) {
            Some(Kind::Hardlink(target)) => self.nodes.get(target),
            _ => self.nodes.get(&path),
        };
        match node.map(|node| &node.kind) {
            Some(Kind::File(content)) => content.read().map(Some),
            _ => Ok(None),
        }
    }

    /// Puts an entry in place of what is there, making the folders above it. Symbolic links among
    /// those are followed, so that `lib/x` lands in `usr/lib/x` on a merged-usr tree. A folder put
    /// onto a folder (or a link to one) changes nothing that is below it.
    pub fn put(&mut self, path: &str, node: Node) -> Result<(), Error> {
        self.put_bytes(path.as_bytes(), node)
    }

    /// `put` for a path that is not text.
    pub fn put_bytes(&mut self, path: &[u8], node: Node) -> Result<(), Error> {
        let path = normal(path)?;
        let (parent, name) = split(&path);
        let place = match name {
            [] => path.clone(),
            name => {
                let mut place = self.make_folders(parent, node.mtime);
                join(&mut place, name);
                place
            }
        };
        if node.is_folder() {
            let real = self.follow(&place).unwrap_or_else(|| place.clone());
            if self.nodes.get(&real).is_some_and(Node::is_folder) {
                if real == place {
                    self.nodes.insert(place, node);
                }
                return Ok(());
            }
        } else if self.nodes.get(&place).is_some_and(Node::is_folder) {
            self.remove(&place);
        }
        self.nodes.insert(place, node);
        Ok(())
    }

    /// `put` for what is another file than the one that is there: other names of that one keep it, as
    /// when it is unlinked.
    pub fn replace(&mut self, path: &str, node: Node) -> Result<(), Error> {
        let place = normal(path.as_bytes())?;
        let (folder, name) = split(&place);
        if let Some(mut place) = self.follow(folder) {
            join(&mut place, name);
            self.leave_to_heir(&place);
        }
        self.put(path, node)
    }

    /// Makes the first other name of a file the file, and the name itself one of its other names.
    fn leave_to_heir(&mut self, place: &[u8]) {
        let Some(Node { kind: Kind::File(_), .. }) = self.nodes.get(place) else { return };
        let is_name = |node: &Node| matches!(&node.kind, Kind::Hardlink(target) if target == place);
        let names: Vec<TreePath> = self
            .nodes
            .iter()
            .filter(|(_, node)| is_name(node))
            .map(|(path, _)| path.clone())
            .collect();
        let Some((heir, others)) = names.split_first() else { return };
        let link = Kind::Hardlink(heir.clone());
        if let Some(file) = self.nodes.get_mut(place) {
            let of_heir = Node { kind: link.clone(), ..file.clone() };
            let file = std::mem::replace(file, of_heir);
            self.nodes.insert(heir.clone(), file);
        }
        for name in others {
            if let Some(node) = self.nodes.get_mut(name) {
                node.kind = link.clone();
            }
        }
    }

    /// Puts an entry at exactly this path; the folders above it are the caller's matter.
    pub fn insert(&mut self, path: TreePath, node: Node) {
        self.nodes.insert(path, node);
    }

    /// Makes the folder and those above it, and gives its real place.
    fn make_folders(&mut self, path: &[u8], mtime: i64) -> TreePath {
        let mut place = TreePath::new();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            join(&mut place, name);
            match self.follow(&place) {
                Some(real) => place = real,
                None => {
                    self.nodes.insert(place.clone(), Node::folder(0o755, mtime));
                }
            }
        }
        place
    }

    /// The path of what is there once symbolic links are followed; `None` when nothing is.
    pub fn follow(&self, path: &[u8]) -> Option<TreePath> {
        let mut path = path.to_vec();
        for _ in 0..MAX_LINKS {
            let mut place = TreePath::new();
            let mut rest = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            let mut detour = None;
            for name in rest.by_ref() {
                let parent = place.clone();
                join(&mut place, name);
                if let Kind::Symlink(target) = &self.nodes.get(&place)?.kind {
                    let mut next = if target.starts_with(b"/") { TreePath::new() } else { parent };
                    join(&mut next, target);
                    detour = Some(next);
                    break;
                }
            }
            let Some(mut next) = detour else { return Some(place) };
            for name in rest {
                join(&mut next, name);
            }
            path = collapse(&next);
        }
        None
    }

    /// Takes away an entry and everything below it; gives how many there were.
    pub fn remove(&mut self, path: &[u8]) -> usize {
        let n_before = self.nodes.len();
        let mut below = path.to_vec();
        below.push(b'/');
        self.nodes.retain(|place, _| place != path && !place.starts_with(&below));
        n_before - self.nodes.len()
    }

    /// Takes away the entries that `should_go`, except the root and folders that still hold
    /// something. Another name of a file that goes becomes the file.
    pub fn remove_where(&mut self, should_go: impl Fn(&[u8]) -> bool) {
        let (gone, kept): (Vec<&TreePath>, Vec<&TreePath>) =
            self.nodes.keys().partition(|path| !path.is_empty() && should_go(path));
        let mut needed: BTreeSet<&[u8]> = BTreeSet::new();
        for path in kept {
            let mut above = split(path).0;
            while !above.is_empty() && needed.insert(above) {
                above = split(above).0;
            }
        }
        let gone: Vec<TreePath> =
            gone.into_iter().filter(|path| !needed.contains(path.as_slice())).cloned().collect();
        // The first other name of each file that goes takes its place.
        let mut heirs: BTreeMap<TreePath, TreePath> = BTreeMap::new();
        let mut lost = BTreeMap::new();
        for path in gone {
            if let Some(Node { kind: kind @ Kind::File(_), .. }) = self.nodes.remove(&path) {
                lost.insert(path, kind);
            }
        }
        for (place, node) in &mut self.nodes {
            let Kind::Hardlink(target) = &mut node.kind else { continue };
            if let Some(heir) = heirs.get(target) {
                target.clone_from(heir);
            } else if let Some(kind) = lost.get(target) {
                heirs.insert(target.clone(), place.clone());
                node.kind = kind.clone();
            }
        }
    }

    /// The newest time of a file in it, in seconds since the epoch.
    pub fn newest_time(&self) -> i64 {
        self.nodes.values().map(|node| node.mtime).max().unwrap_or(0)
    }

    /// Settles times: nothing is younger than `latest`.
    pub fn clamp_times(&mut self, latest: i64) {
        self.clamp_times_but(latest, &Self::default());
    }

    /// The same, but what has its time from `settled` keeps it.
    pub fn clamp_times_but(&mut self, latest: i64, settled: &Self) {
        for (path, node) in &mut self.nodes {
            if settled.get(path).is_none_or(|there| there.mtime != node.mtime) {
                node.mtime = node.mtime.min(latest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_links_of_the_folders_above() {
        let mut tree = Tree::new(0);
        tree.put("lib", Node::symlink("usr/lib", 0)).unwrap();
        tree.put("usr/lib", Node::folder(0o755, 0)).unwrap();
        tree.put("./lib/modules/x.ko", Node::file(*b"x", 0o644, 0)).unwrap();
        // A package that still ships `lib` as a folder must not replace the link.
        tree.put("./lib/", Node::folder(0o755, 0)).unwrap();
        assert!(tree.get(b"usr/lib/modules/x.ko").is_some());
        assert!(matches!(tree.get(b"lib").unwrap().kind, Kind::Symlink(_)));
        assert_eq!(tree.read("/lib/modules/x.ko").unwrap().unwrap().as_ref(), b"x");
    }

    #[test]
    fn a_loop_of_links_ends() {
        let mut tree = Tree::new(0);
        tree.put("a", Node::symlink("b", 0)).unwrap();
        tree.put("b", Node::symlink("a", 0)).unwrap();
        assert_eq!(tree.read("a").unwrap(), None);
    }

    #[test]
    fn a_replaced_file_lives_on_under_its_other_names() {
        let mut tree = Tree::new(0);
        tree.put("a", Node::file(*b"old", 0o600, 0)).unwrap();
        for name in ["b", "c"] {
            let mut link = Node::file(*b"", 0o644, 0);
            link.kind = Kind::Hardlink(b"a".to_vec());
            tree.put(name, link).unwrap();
        }
        tree.replace("a", Node::file(*b"new", 0o644, 0)).unwrap();
        for (name, text) in [("a", "new"), ("b", "old"), ("c", "old")] {
            assert_eq!(tree.read(name).unwrap().unwrap().as_ref(), text.as_bytes(), "{name}");
        }
        assert_eq!(tree.get(b"b").unwrap().mode, 0o600);
    }

    #[test]
    fn a_file_lives_on_under_its_other_names() {
        let mut tree = Tree::new(0);
        tree.put("drop/one", Node::file(*b"1", 0o644, 0)).unwrap();
        for name in ["keep/two", "keep/three"] {
            let mut link = Node::file(*b"", 0o644, 0);
            link.kind = Kind::Hardlink(b"drop/one".to_vec());
            tree.put(name, link).unwrap();
        }
        tree.remove_where(|path| path.starts_with(b"drop"));
        assert_eq!(tree.read("keep/two").unwrap().unwrap().as_ref(), b"1");
        assert_eq!(tree.read("keep/three").unwrap().unwrap().as_ref(), b"1");
        assert!(tree.get(b"drop/one").is_none());
    }
}
