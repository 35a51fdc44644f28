//! Writes a file tree into an ext4 file system, the same bytes for the same tree.
//!
//! The file system itself is the `rust-fs-ext4` crate's; here it is given a clock, identities and
//! generations that are settled by the input, and the feature bits that its formatter leaves out
//! although its writer honours them (e2fsck would call the result inconsistent otherwise).
//! This module must not know where the tree came from or what becomes of the disk.

use crate::{
    Error,
    disk::SparseDisk,
    tree::{Kind, Tree, TreePath, split},
};
use fs_ext4::{
    Filesystem, Superblock,
    block_io::BlockDevice,
    checksum::{Checksummer, linux_crc32c},
    mkfs::{DEFAULT_BLOCK_SIZE, format_filesystem},
    runtime::Runtime,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// What a file system is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The size of the disk in bytes.
    pub size: u64,
    /// The volume's label, at most 16 bytes.
    pub label: String,
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// The time of every change, in seconds since the epoch.
    pub time: i64,
}

// Superblock fields and feature bits, <https://docs.kernel.org/filesystems/ext4/super.html>.
const SUPERBLOCK_OFFSET: u64 = 1024;
const FEATURE_COMPAT: usize = 0x5C;
const FEATURE_RO_COMPAT: usize = 0x64;
const MKFS_TIME: usize = 0x108;
const WRITE_TIME: usize = 0x30;
const LAST_CHECK: usize = 0x40;
const CHECKSUM: usize = 0x3FC;
const COMPAT_EXT_ATTR: u32 = 0x8;
const COMPAT_DIR_INDEX: u32 = 0x20;
const RO_COMPAT_LARGE_FILE: u32 = 0x2;
const RO_COMPAT_HUGE_FILE: u32 = 0x8;
const RO_COMPAT_DIR_NLINK: u32 = 0x20;
const RO_COMPAT_EXTRA_ISIZE: u32 = 0x40;

// Group descriptor fields, <https://docs.kernel.org/filesystems/ext4/group_descr.html>.
const GROUP_FLAGS: usize = 0x12;
const GROUP_CHECKSUM: usize = 0x1E;
const GROUP_INODE_ZEROED: u8 = 0x4;

const ROOT_INODE: u32 = 2;
/// A file is written in pieces of this many bytes, to bound what the crate buffers.
const PIECE: usize = 16 << 20;

/// Makes the file system and gives its disk.
pub fn build(tree: &Tree, settings: &Settings) -> Result<SparseDisk, Error> {
    let disk = Arc::new(Device(SparseDisk::new(settings.size)));
    let whole = |source| Error::Ext4 { path: "/".to_owned(), source };
    let (label, id) = (Some(settings.label.as_str()), Some(settings.uuid));
    format_filesystem(disk.as_ref(), label, id, disk.0.size(), DEFAULT_BLOCK_SIZE)
        .map_err(whole)?;
    settle_superblocks(&disk, settings).map_err(whole)?;
    let clock = Arc::new(Clock { time: settings.time, generation: AtomicU32::new(1) });
    let volume = Filesystem::mount_with_runtime(disk.clone(), clock).map_err(whole)?;
    fill(&volume, tree)?;
    volume.finish().map_err(whole)?;
    settle_superblocks(&disk, settings).map_err(whole)?;
    settle_groups(&disk).map_err(whole)?;
    Ok(Arc::try_unwrap(disk).map_err(|_| Error::DiskInUse)?.0)
}

/// Says of every group that its inode table is zeroed, which it is: a new disk is. Otherwise the
/// guest's kernel writes megabytes of zeros in the background of its first minutes (`lazy_itable`).
fn settle_groups(device: &Device) -> fs_ext4::Result<()> {
    let volume = Superblock::read(device)?;
    let checksums = Checksummer::from_superblock(&volume);
    let size = usize::from(volume.desc_size);
    for group in 0..volume.block_group_count() {
        let (block, within) = volume.descriptor_location(group);
        let offset = block * u64::from(volume.block_size()) + within as u64;
        let mut raw = vec![0; size];
        device.read_at(offset, &mut raw)?;
        raw[GROUP_FLAGS] |= GROUP_INODE_ZEROED;
        raw[GROUP_CHECKSUM..GROUP_CHECKSUM + 2].fill(0);
        let checksum = checksums.crc_with_prefix(group as u32, &raw) as u16;
        raw[GROUP_CHECKSUM..GROUP_CHECKSUM + 2].copy_from_slice(&checksum.to_le_bytes());
        device.write_at(offset, &raw)?;
    }
    Ok(())
}

/// Sets the feature bits and times in every copy of the superblock.
fn settle_superblocks(device: &Device, settings: &Settings) -> fs_ext4::Result<()> {
    let primary = Superblock::read(device)?;
    let group_bytes = u64::from(primary.blocks_per_group) * u64::from(primary.block_size());
    for group in 0..primary.block_group_count() {
        if !primary.group_has_super(group) {
            continue;
        }
        // The first copy lies behind the boot sector, the others at their group's start.
        let offset = if group == 0 { SUPERBLOCK_OFFSET } else { group * group_bytes };
        let mut raw = vec![0; 1024];
        device.read_at(offset, &mut raw)?;
        set_bits(&mut raw, FEATURE_COMPAT, COMPAT_EXT_ATTR | COMPAT_DIR_INDEX);
        set_bits(
            &mut raw,
            FEATURE_RO_COMPAT,
            RO_COMPAT_LARGE_FILE
                | RO_COMPAT_HUGE_FILE
                | RO_COMPAT_DIR_NLINK
                | RO_COMPAT_EXTRA_ISIZE,
        );
        for field in [MKFS_TIME, WRITE_TIME, LAST_CHECK] {
            raw[field..field + 4].copy_from_slice(&(settings.time as u32).to_le_bytes());
        }
        let checksum = linux_crc32c(!0, &raw[..CHECKSUM]);
        raw[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        device.write_at(offset, &raw)?;
    }
    Ok(())
}

fn set_bits(raw: &mut [u8], field: usize, bits: u32) {
    let bytes = [raw[field], raw[field + 1], raw[field + 2], raw[field + 3]];
    raw[field..field + 4].copy_from_slice(&(u32::from_le_bytes(bytes) | bits).to_le_bytes());
}

fn fill(volume: &Filesystem, tree: &Tree) -> Result<(), Error> {
    let mut inodes: HashMap<TreePath, u32> = HashMap::from([(TreePath::new(), ROOT_INODE)]);
    let mut links = Vec::new();
    for (path, node) in tree.iter() {
        if let Kind::Hardlink(target) = &node.kind {
            links.push((path, target));
            continue;
        }
        let named = |source| Error::Ext4 { path: display(path), source };
        let (parent, name) = split(path);
        let parent = *inodes.get(parent).ok_or_else(|| Error::NoParent { path: display(path) })?;
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
                let bytes = content.read()?;
                for (index, piece) in bytes.chunks(PIECE).enumerate() {
                    let offset = (index * PIECE) as u64;
                    volume.apply_pwrite_ino(inode, offset, piece).map_err(named)?;
                }
                inode
            }
            Kind::Symlink(target) => {
                volume.apply_symlink_at(parent, name, target).map_err(named)?
            }
            Kind::CharDevice(major, minor) => {
                let mode = S_IFCHR | node.mode;
                volume.apply_mknod_at(parent, name, mode, *major, *minor).map_err(named)?
            }
            Kind::BlockDevice(major, minor) => {
                let mode = S_IFBLK | node.mode;
                volume.apply_mknod_at(parent, name, mode, *major, *minor).map_err(named)?
            }
            Kind::Fifo => {
                volume.apply_mknod_at(parent, name, S_IFIFO | node.mode, 0, 0).map_err(named)?
            }
            Kind::Hardlink(_) => continue,
        };
        if node.uid != 0 || node.gid != 0 {
            volume.apply_chown_ino(inode, node.uid, node.gid).map_err(named)?;
        }
        for (attribute, value) in &node.xattrs {
            volume
                .apply_setxattr(&format!("/{}", display(path)), attribute, value)
                .map_err(named)?;
        }
        inodes.insert(path.clone(), inode);
    }
    for (path, target) in links {
        let named = |source| Error::Ext4 { path: display(path), source };
        let inode = *inodes
            .get(target)
            .ok_or_else(|| Error::LostLink { path: display(path), target: display(target) })?;
        let (parent, name) = split(path);
        let parent = *inodes.get(parent).ok_or_else(|| Error::NoParent { path: display(path) })?;
        volume.apply_link_at(inode, parent, name).map_err(named)?;
    }
    // Entries made later touch their folder's time, so times come last.
    for (path, node) in tree.iter() {
        if let Some(inode) = inodes.get(path) {
            volume
                .apply_utimens_ino(*inode, node.mtime, 0, node.mtime, 0)
                .map_err(|source| Error::Ext4 { path: display(path), source })?;
        }
    }
    Ok(())
}

const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFBLK: u16 = 0o060_000;

fn display(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A clock that stands still and inode generations that count up: the same on each run.
struct Clock {
    time: i64,
    generation: AtomicU32,
}

impl Runtime for Clock {
    fn now_unix_seconds(&self) -> i64 {
        self.time
    }

    fn next_inode_generation(&self) -> u32 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }
}

/// The disk as the crate sees it.
struct Device(SparseDisk);

impl BlockDevice for Device {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> fs_ext4::Result<()> {
        self.0.read(offset, out).then_some(()).ok_or(fs_ext4::Error::OutOfBounds)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> fs_ext4::Result<()> {
        self.0.write(offset, bytes).then_some(()).ok_or(fs_ext4::Error::OutOfBounds)
    }

    fn is_writable(&self) -> bool {
        true
    }
}
