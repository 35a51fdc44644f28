//! Puts entries of a tree into a mounted file system: all of them into a new one, or a difference
//! into one that is there, in place, so that what does not differ keeps its blocks.

use super::{acl, device_number};
use crate::{
    Error,
    difference::Difference,
    tree::{Kind, Node, Tree, TreePath, split},
};
use fs_ext4::Filesystem;
use std::collections::{BTreeSet, HashMap};

const ROOT_INODE: u32 = 2;
/// A file is written in pieces of this many bytes, to bound what the crate buffers.
const PIECE: usize = 16 << 20;

/// The first and the last second that an inode can tell, in 1901 and 2446; Linux gives what is beyond
/// these two as well.
const FIRST_TIME: i64 = i32::MIN as i64;
const LAST_TIME: i64 = FIRST_TIME + (1 << 34) - 1;

// Fields of an inode, <https://docs.kernel.org/filesystems/ext4/inodes.html>.
const BLOCK_AREA: usize = 0x28;
const CHECKSUM_LOW: usize = 0x7c;
const CHECKSUM_HIGH: usize = 0x82;

const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFBLK: u16 = 0o060_000;

/// Fills a new file system.
pub(super) fn all(volume: &Filesystem, tree: &Tree) -> Result<(), Error> {
    let mut filler = Filler::new(volume);
    let mut links = Vec::new();
    for (path, node) in tree.iter() {
        match &node.kind {
            Kind::Hardlink(target) => links.push((path, target)),
            _ => filler.create(path, node)?,
        }
    }
    for (path, target) in links {
        filler.link(path, target)?;
    }
    // Entries made later touch their folder's time, so times come last.
    for (path, node) in tree.iter() {
        if !matches!(node.kind, Kind::Hardlink(_)) {
            filler.set_time(path, node)?;
        }
    }
    Ok(())
}

/// Turns a file system that holds the tree `before` into one that holds `after`.
pub(super) fn update(
    volume: &Filesystem,
    before: &Tree,
    after: &Tree,
    difference: &Difference,
) -> Result<(), Error> {
    let mut filler = Filler::new(volume);
    // Folders whose entries change get another time, which must be set back.
    let mut touched: BTreeSet<TreePath> = difference.times.iter().cloned().collect();
    for path in &difference.removed {
        filler.remove(path, before.get(path).is_some_and(Node::is_folder))?;
        touched.insert(split(path).0.to_vec());
    }
    let mut links = Vec::new();
    for path in &difference.added {
        let Some(node) = after.get(path) else { continue };
        match &node.kind {
            Kind::Hardlink(target) => links.push((path, target)),
            _ => {
                filler.create(path, node)?;
                touched.insert(path.clone());
            }
        }
        touched.insert(split(path).0.to_vec());
    }
    for path in &difference.contents {
        if let (Some(earlier), Some(node)) = (before.get(path), after.get(path)) {
            filler.overwrite(path, earlier, node)?;
            touched.insert(path.clone());
        }
    }
    for path in &difference.attributes {
        if let (Some(earlier), Some(node)) = (before.get(path), after.get(path)) {
            filler.set_attributes(path, earlier, node)?;
            touched.insert(path.clone());
            if std::str::from_utf8(path).is_err() {
                touched.extend([TreePath::new(), split(path).0.to_vec()]);
            }
        }
    }
    for (path, target) in links {
        filler.link(path, target)?;
    }
    for path in &touched {
        if let Some(node) = after.get(path) {
            filler.set_time(path, node)?;
        }
    }
    Ok(())
}

struct Filler<'a> {
    volume: &'a Filesystem,
    inodes: HashMap<TreePath, u32>,
}

impl<'a> Filler<'a> {
    fn new(volume: &'a Filesystem) -> Self {
        Self { volume, inodes: HashMap::from([(TreePath::new(), ROOT_INODE)]) }
    }

    /// The inode of a path that is in the file system.
    fn inode(&mut self, path: &[u8]) -> Result<u32, Error> {
        if let Some(inode) = self.inodes.get(path) {
            return Ok(*inode);
        }
        let (parent, name) = split(path);
        let parent = self.inode(parent)?;
        let inode = self.volume.lookup_at(parent, name).map_err(|source| match source {
            fs_ext4::Error::NotFound => Error::NoParent { path: display(path) },
            source => Error::Ext4 { path: display(path), source },
        })?;
        self.inodes.insert(path.to_vec(), inode);
        Ok(inode)
    }

    fn create(&mut self, path: &TreePath, node: &Node) -> Result<(), Error> {
        let volume = self.volume;
        let named = |source| Error::Ext4 { path: display(path), source };
        let (folder, name) = split(path);
        let parent = self.inode(folder).map_err(|_| Error::NoParent { path: display(path) })?;
        let inode = match &node.kind {
            Kind::Folder if path.is_empty() => {
                volume.apply_chmod_ino(ROOT_INODE, node.mode).map_err(named)?;
                ROOT_INODE
            }
            // The formatter has made this one already.
            Kind::Folder if path == b"lost+found" => {
                volume.lookup_at(parent, name).map_err(named)?
            }
            Kind::Folder => volume.apply_mkdir_at(parent, name, node.mode).map_err(named)?,
            Kind::File(content) => {
                let inode = volume.apply_create_at(parent, name, node.mode).map_err(named)?;
                self.write(path, inode, &content.read()?)?;
                inode
            }
            Kind::Symlink(target) => {
                volume.apply_symlink_at(parent, name, target).map_err(named)?
            }
            Kind::CharDevice(major, minor) => {
                self.make_device(path, S_IFCHR | node.mode, *major, *minor)?
            }
            Kind::BlockDevice(major, minor) => {
                self.make_device(path, S_IFBLK | node.mode, *major, *minor)?
            }
            Kind::Fifo => {
                volume.apply_mknod_at(parent, name, S_IFIFO | node.mode, 0, 0).map_err(named)?
            }
            Kind::Hardlink(_) => return Ok(()),
        };
        if node.uid != 0 || node.gid != 0 {
            volume.apply_chown_ino(inode, node.uid, node.gid).map_err(named)?;
        }
        if !node.xattrs.is_empty() {
            self.as_text(path, |place| {
                node.xattrs
                    .iter()
                    .try_for_each(|(name, value)| set_attribute(volume, place, name, value))
            })?;
        }
        self.inodes.insert(path.clone(), inode);
        Ok(())
    }

    fn make_device(
        &mut self,
        path: &[u8],
        mode: u16,
        major: u32,
        minor: u32,
    ) -> Result<u32, Error> {
        let volume = self.volume;
        let named = |source| Error::Ext4 { path: display(path), source };
        let words = device_number::words(major, minor).ok_or_else(|| Error::DeviceNumber {
            path: display(path),
            major,
            minor,
        })?;
        let (folder, name) = split(path);
        let parent = self.inode(folder)?;
        let inode = volume.apply_mknod_at(parent, name, mode, major, minor).map_err(named)?;
        // The crate fills the first word for large numbers too, and Linux would read that one.
        let (parsed, mut raw) = volume.read_inode_verified(inode).map_err(named)?;
        raw[BLOCK_AREA..BLOCK_AREA + 4].copy_from_slice(&words[0].to_le_bytes());
        raw[BLOCK_AREA + 4..BLOCK_AREA + 8].copy_from_slice(&words[1].to_le_bytes());
        let checksum = volume.csum.compute_inode_checksum(inode, parsed.generation, &raw);
        if let Some((low, high)) = checksum {
            raw[CHECKSUM_LOW..CHECKSUM_LOW + 2].copy_from_slice(&low.to_le_bytes());
            raw[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].copy_from_slice(&high.to_le_bytes());
        }
        volume.write_inode_raw(inode, &raw).map_err(named)?;
        Ok(inode)
    }

    fn write(&self, path: &[u8], inode: u32, bytes: &[u8]) -> Result<(), Error> {
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            let offset = (index * PIECE) as u64;
            self.volume
                .apply_pwrite_ino(inode, offset, piece)
                .map_err(|source| Error::Ext4 { path: display(path), source })?;
        }
        Ok(())
    }

    /// Writes over what is there, so that blocks that stay the same stay where they are.
    fn overwrite(&mut self, path: &[u8], earlier: &Node, node: &Node) -> Result<(), Error> {
        let (Kind::File(old), Kind::File(new)) = (&earlier.kind, &node.kind) else {
            return Ok(());
        };
        let inode = self.inode(path)?;
        self.write(path, inode, &new.read()?)?;
        if new.len() < old.len() {
            self.volume
                .apply_truncate_ino(inode, new.len())
                .map_err(|source| Error::Ext4 { path: display(path), source })?;
        }
        Ok(())
    }

    fn set_attributes(&mut self, path: &[u8], earlier: &Node, node: &Node) -> Result<(), Error> {
        let named = |source| Error::Ext4 { path: display(path), source };
        let inode = self.inode(path)?;
        // A change of owner takes the set-user-id bit away, so the mode comes after it.
        if (earlier.uid, earlier.gid) != (node.uid, node.gid) {
            self.volume.apply_chown_ino(inode, node.uid, node.gid).map_err(named)?;
        }
        if !matches!(node.kind, Kind::Symlink(_)) {
            self.volume.apply_chmod_ino(inode, node.mode).map_err(named)?;
        }
        if earlier.xattrs == node.xattrs {
            return Ok(());
        }
        let volume = self.volume;
        self.as_text(path, |place| {
            let mut gone = earlier.xattrs.keys().filter(|name| !node.xattrs.contains_key(*name));
            gone.try_for_each(|attribute| volume.apply_removexattr(place, attribute))?;
            let mut new =
                node.xattrs.iter().filter(|(name, value)| earlier.xattrs.get(*name) != Some(value));
            new.try_for_each(|(name, value)| set_attribute(volume, place, name, value))
        })
    }

    /// Does something that the crate does by names of text alone. An entry that is called otherwise
    /// gets such a name meanwhile.
    fn as_text(
        &mut self,
        path: &[u8],
        work: impl Fn(&str) -> fs_ext4::Result<()>,
    ) -> Result<(), Error> {
        const MEANWHILE: &[u8] = b".quicksand-meanwhile";
        let named = |source| Error::Ext4 { path: display(path), source };
        if let Ok(text) = std::str::from_utf8(path) {
            return work(&format!("/{text}")).map_err(named);
        }
        let (folder, name) = split(path);
        let (parent, volume) = (self.inode(folder)?, self.volume);
        volume.apply_rename_at(parent, name, ROOT_INODE, MEANWHILE, false).map_err(named)?;
        work(&format!("/{}", display(MEANWHILE))).map_err(named)?;
        volume.apply_rename_at(ROOT_INODE, MEANWHILE, parent, name, false).map_err(named)
    }

    fn remove(&mut self, path: &[u8], is_folder: bool) -> Result<(), Error> {
        let (folder, name) = split(path);
        let parent = self.inode(folder)?;
        let outcome = match is_folder {
            true => self.volume.apply_rmdir_at(parent, name),
            false => self.volume.apply_unlink_at(parent, name),
        };
        self.inodes.remove(path);
        outcome.map_err(|source| Error::Ext4 { path: display(path), source })
    }

    fn link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), Error> {
        let inode = self
            .inode(target)
            .map_err(|_| Error::LostLink { path: display(path), target: display(target) })?;
        let (folder, name) = split(path);
        let parent = self.inode(folder)?;
        self.volume
            .apply_link_at(inode, parent, name)
            .map_err(|source| Error::Ext4 { path: display(path), source })
    }

    fn set_time(&mut self, path: &[u8], node: &Node) -> Result<(), Error> {
        let inode = self.inode(path)?;
        let time = node.mtime.clamp(FIRST_TIME, LAST_TIME);
        self.volume
            .apply_utimens_ino(inode, time, 0, time, 0)
            .map_err(|source| Error::Ext4 { path: display(path), source })
    }
}

fn set_attribute(
    volume: &Filesystem,
    place: &str,
    name: &str,
    value: &[u8],
) -> fs_ext4::Result<()> {
    if !acl::is_list(name) {
        return volume.apply_setxattr(place, name, value);
    }
    let wrong = fs_ext4::Error::InvalidArgument("its access control list cannot be read");
    volume.apply_setxattr(place, name, &acl::to_disk(value).ok_or(wrong)?)
}

fn display(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
