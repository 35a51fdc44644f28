//! A file tree as data: what goes into an image, by path, in sorted order.
//!
//! It is built from packages' archives, a root file system's tar and a recipe's files, and is what
//! the file system and initrd writers read. It owns names, kinds, ownership and times; it must not
//! know about file systems on disk or about recipes.

use crate::Error;
use fs_err as fs;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::Arc,
};

/// A path inside the tree: bytes, relative, without `.` or `..`, the root being empty.
pub type TreePath = Vec<u8>;

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
    /// What it is.
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
    /// A folder.
    Folder,
    /// A regular file.
    File(Content),
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of the file at this path.
    Hardlink(TreePath),
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
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
        /// The file.
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

    /// Puts an entry at exactly this path; the folders above it are the caller's matter.
    pub(crate) fn insert(&mut self, path: TreePath, node: Node) {
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
    pub(crate) fn follow(&self, path: &[u8]) -> Option<TreePath> {
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
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path_bytes().into_owned();
            if !is_wanted(&path) {
                continue;
            }
            let mut xattrs = BTreeMap::new();
            if let Some(extensions) = entry.pax_extensions()? {
                for extension in extensions {
                    let extension = extension?;
                    if let Ok(key) = extension.key()
                        && let Some(name) = key.strip_prefix("SCHILY.xattr.")
                    {
                        xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
                    }
                }
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

    /// Leads other names of files to the real places of those files, where a tar named them through
    /// links of folders. A name without its file is refused.
    pub fn settle_hardlinks(&mut self) -> Result<(), Error> {
        let mut settled = Vec::new();
        for (path, node) in &self.nodes {
            let Kind::Hardlink(target) = &node.kind else { continue };
            let (folder, name) = split(target);
            let place = self.follow(folder).map(|mut place| {
                join(&mut place, name);
                place
            });
            match place.filter(|place| place != path && self.nodes.contains_key(place)) {
                Some(place) => settled.push((path.clone(), place)),
                None => {
                    return Err(Error::LostLink {
                        path: String::from_utf8_lossy(path).into_owned(),
                        target: String::from_utf8_lossy(target).into_owned(),
                    });
                }
            }
        }
        for (path, target) in settled {
            // A link to a link is one more name of the same file.
            let kind = match self.nodes.get(&target).map(|node| &node.kind) {
                Some(Kind::Hardlink(first)) => Kind::Hardlink(first.clone()),
                Some(Kind::Symlink(to)) => Kind::Symlink(to.clone()),
                _ => Kind::Hardlink(target),
            };
            if let Some(node) = self.nodes.get_mut(&path) {
                node.kind = kind;
            }
        }
        Ok(())
    }

    /// The newest time of a file in it, in seconds since the epoch.
    pub fn newest_time(&self) -> i64 {
        self.nodes.values().map(|node| node.mtime).max().unwrap_or(0)
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
            // Names are bytes here, and text on the hosts that a path type knows no bytes on.
            let place = String::from_utf8_lossy(place).into_owned();
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
                    let target = String::from_utf8_lossy(target).into_owned();
                    builder.append_link(&mut header, place, target)?;
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

    /// Settles times: nothing is younger than `latest`.
    pub fn clamp_times(&mut self, latest: i64) {
        for node in self.nodes.values_mut() {
            node.mtime = node.mtime.min(latest);
        }
    }
}

/// Where a member's bytes lie in a tar.
struct Position {
    start: u64,
    length: u64,
}

/// A path without leading `./` or `/`, without doubled or trailing slashes. `..` is refused: it
/// would leave the tree.
pub fn normal(path: &[u8]) -> Result<TreePath, Error> {
    let mut clean = TreePath::with_capacity(path.len());
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                return Err(Error::PathLeavesTree {
                    path: String::from_utf8_lossy(path).into_owned(),
                });
            }
            name => join(&mut clean, name),
        }
    }
    Ok(clean)
}

/// Resolves `..` by text, which is right once the folders before it are known to be real.
fn collapse(path: &[u8]) -> TreePath {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join(&b'/')
}

/// The folder and the name of a path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn join(path: &mut TreePath, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_normal() {
        for (given, expected) in [
            ("./usr/bin/", "usr/bin"),
            ("/", ""),
            (".", ""),
            ("a//b/./c", "a/b/c"),
            ("..a/b", "..a/b"),
        ] {
            assert_eq!(normal(given.as_bytes()).unwrap(), expected.as_bytes(), "{given}");
        }
        assert!(normal(b"usr/../../etc/passwd").is_err());
    }

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
