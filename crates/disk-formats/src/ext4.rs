//! Writes a file tree into an ext4 file system, the same bytes for the same tree.
//!
//! The file system itself is the `rust-fs-ext4` crate's; here it is given a clock, identities and
//! generations that are settled by the input, and the feature bits that its formatter leaves out
//! although its writer honours them (e2fsck would call the result inconsistent otherwise).
//! This module must not know where the tree came from or what becomes of the disk.

mod acl;
mod device_number;
mod fill;
mod read;

use crate::{Error, difference, disk::SparseDisk, tree::Tree};
use fs_ext4::{
    Filesystem, Superblock,
    block_io::BlockDevice,
    checksum::{Checksummer, linux_crc32c},
    mkfs::{DEFAULT_BLOCK_SIZE, format_filesystem},
    runtime::Runtime,
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
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
    fill::all(&volume, tree)?;
    volume.finish().map_err(whole)?;
    settle_superblocks(&disk, settings).map_err(whole)?;
    settle_groups(&disk).map_err(whole)?;
    Ok(Arc::try_unwrap(disk).map_err(|_| Error::DiskInUse)?.0)
}

/// Turns a disk whose file system holds the tree `before` into one that holds `after`. What does not
/// differ keeps its blocks, so that an overlay of the result is small. `time` is that of every
/// change, in seconds since the epoch.
pub fn update(
    disk: SparseDisk,
    before: &Tree,
    after: &Tree,
    time: i64,
) -> Result<SparseDisk, Error> {
    let difference = difference::between(before, after)?;
    let disk = Arc::new(Device(disk));
    let whole = |source| Error::Ext4 { path: "/".to_owned(), source };
    let clock = Arc::new(Clock { time, generation: AtomicU32::new(1) });
    let volume = Filesystem::mount_with_runtime(disk.clone(), clock).map_err(whole)?;
    fill::update(&volume, before, after, &difference)?;
    volume.finish().map_err(whole)?;
    settle_groups(&disk).map_err(whole)?;
    Ok(Arc::try_unwrap(disk).map_err(|_| Error::DiskInUse)?.0)
}

/// Reads what is on a disk into a tree, its contents in memory. A journal that was not settled is
/// applied to the disk in memory first.
pub fn read(disk: SparseDisk) -> Result<Tree, Error> {
    let whole = |source| Error::Ext4Read { path: "/".to_owned(), source };
    let clock = Arc::new(Clock { time: 0, generation: AtomicU32::new(1) });
    let volume = Filesystem::mount_with_runtime(Arc::new(Device(disk)), clock).map_err(whole)?;
    read::all(&volume)
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
