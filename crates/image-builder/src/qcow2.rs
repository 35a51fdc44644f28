//! Writes qcow2 images: version 3, zstd-compressed clusters, compressed in parallel, nothing
//! stored for what reads as zeros, optionally over a backing file.
//! <https://www.qemu.org/docs/master/interop/qcow2.html>
//!
//! The image is written front to back (data, tables, then the header's cluster is filled in), and
//! the same input gives the same bytes whatever the number of threads. It must not know what the
//! clusters hold.

mod read;

use crate::{Error, disk::CHUNK};
pub use read::{read, read_disk};
use std::{
    io::{BufWriter, Seek as _, SeekFrom, Write},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: usize = 1 << CLUSTER_BITS;
const _: () = assert!(CLUSTER == CHUNK);
const MAGIC: u32 = 0x5146_49fb;
const VERSION: u32 = 3;
const HEADER_LENGTH: u32 = 112;
/// Incompatible feature bit 3: the compression type field is present.
const INCOMPATIBLE_COMPRESSION_TYPE: u64 = 1 << 3;
const COMPRESSION_ZSTD: u8 = 1;
const REFCOUNT_ORDER: u32 = 4;
const REFCOUNTS_PER_BLOCK: usize = CLUSTER * 8 / 16;
const ENTRIES_PER_TABLE: usize = CLUSTER / 8;
const FLAG_COPIED: u64 = 1 << 63;
const FLAG_COMPRESSED: u64 = 1 << 62;
/// A compressed cluster's descriptor: the host offset takes the bits below this one, the number of
/// further 512-byte sectors the bits from here up to bit 61.
const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);
const SECTOR: u64 = 512;

/// How an image is written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// zstd's level, 1 to 22.
    pub level: i32,
    /// How many threads compress.
    pub n_threads: usize,
    /// The backing file's name as it is stored in the image, and its format.
    pub backing: Option<(String, String)>,
}

/// Writes the image beside its place and renames it. `chunks` are the clusters of the disk in
/// order, `None` for those that are not in this image. `tick` is told how many clusters are done.
pub fn write(
    path: &Path,
    chunks: &[Option<Box<[u8]>>],
    settings: &Settings,
    tick: &(dyn Fn(u64) + Sync),
) -> Result<(), Error> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new().prefix(".part-").tempfile_in(folder)?;
    let mut image = Image::new(beside.as_file(), settings)?;
    let allocated: Vec<usize> = chunks
        .iter()
        .enumerate()
        .filter(|(_, chunk)| chunk.is_some())
        .map(|(index, _)| index)
        .collect();
    // Compressed batches are bounded, so that memory does not grow with the disk.
    let batch = settings.n_threads.max(1) * 64;
    let mut n_done = 0;
    for indices in allocated.chunks(batch) {
        let packed = compress(chunks, indices, settings)?;
        for (index, packed) in indices.iter().zip(packed) {
            let raw = chunks[*index].as_deref().unwrap_or_default();
            image.add(*index, raw, packed.as_deref())?;
        }
        n_done += indices.len() as u64;
        tick(n_done);
    }
    image.finish(chunks.len(), settings)?;
    beside.as_file().sync_all()?;
    make_readable(beside.as_file())?;
    beside.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(unix)]
fn make_readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

/// The compressed forms in the order of `indices`; `None` where that would not save a sector.
fn compress(
    chunks: &[Option<Box<[u8]>>],
    indices: &[usize],
    settings: &Settings,
) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let slots: Vec<Mutex<Option<Vec<u8>>>> = indices.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || -> std::io::Result<()> {
        let mut compressor = zstd::bulk::Compressor::new(settings.level)?;
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let Some(index) = indices.get(turn) else { return Ok(()) };
            let raw = chunks[*index].as_deref().unwrap_or_default();
            let packed = compressor.compress(raw)?;
            if packed.len() + SECTOR as usize <= CLUSTER {
                *slots[turn].lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    Some(packed);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..settings.n_threads.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| std::io::Error::other("a compressing thread panicked"))??;
        }
        Ok::<_, std::io::Error>(())
    })?;
    Ok(slots
        .into_iter()
        .map(|slot| slot.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
        .collect())
}

/// An image while it is written.
struct Image<'a> {
    out: BufWriter<&'a std::fs::File>,
    /// Where the next byte goes.
    end: u64,
    /// Guest cluster and its entry, in rising order.
    entries: Vec<(usize, u64)>,
    /// One count for each host cluster.
    refcounts: Vec<u16>,
}

impl<'a> Image<'a> {
    fn new(file: &'a std::fs::File, settings: &Settings) -> Result<Self, Error> {
        if settings.backing.as_ref().is_some_and(|(name, _)| name.len() > 1023) {
            return Err(Error::BackingNameTooLong);
        }
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&vec![0; CLUSTER])?;
        Ok(Self { out, end: CLUSTER as u64, entries: Vec::new(), refcounts: vec![1] })
    }

    fn add(&mut self, index: usize, raw: &[u8], packed: Option<&[u8]>) -> Result<(), Error> {
        match packed {
            Some(packed) => {
                let (start, last) = (self.end, self.end + packed.len() as u64 - 1);
                self.out.write_all(packed)?;
                self.end = last + 1;
                // A cluster counts once for each compressed cluster that touches it.
                for host in start / CLUSTER as u64..=last / CLUSTER as u64 {
                    self.count(host);
                }
                let n_more_sectors = last / SECTOR - start / SECTOR;
                self.entries
                    .push((index, FLAG_COMPRESSED | n_more_sectors << SECTORS_SHIFT | start));
            }
            None => {
                let start = self.allocate(raw)?;
                self.entries.push((index, FLAG_COPIED | start));
            }
        }
        Ok(())
    }

    /// Writes bytes at a cluster's border, padded to whole clusters, each counted once.
    fn allocate(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        self.align()?;
        let start = self.end;
        self.out.write_all(bytes)?;
        self.end += bytes.len() as u64;
        self.align()?;
        for host in start / CLUSTER as u64..self.end / CLUSTER as u64 {
            self.count(host);
        }
        Ok(start)
    }

    fn align(&mut self) -> Result<(), Error> {
        let padding = (CLUSTER - (self.end % CLUSTER as u64) as usize) % CLUSTER;
        self.out.write_all(&vec![0; padding])?;
        self.end += padding as u64;
        Ok(())
    }

    fn count(&mut self, host: u64) {
        let host = host as usize;
        if self.refcounts.len() <= host {
            self.refcounts.resize(host + 1, 0);
        }
        self.refcounts[host] += 1;
    }

    fn finish(mut self, n_clusters: usize, settings: &Settings) -> Result<(), Error> {
        let n_tables = n_clusters.div_ceil(ENTRIES_PER_TABLE);
        let mut level1 = vec![0_u64; n_tables];
        let entries = std::mem::take(&mut self.entries);
        for group in entries.chunk_by(|a, b| a.0 / ENTRIES_PER_TABLE == b.0 / ENTRIES_PER_TABLE) {
            let mut table = vec![0_u64; ENTRIES_PER_TABLE];
            for (index, entry) in group {
                table[index % ENTRIES_PER_TABLE] = *entry;
            }
            let offset = self.allocate(&big_endian(&table))?;
            level1[group[0].0 / ENTRIES_PER_TABLE] = FLAG_COPIED | offset;
        }
        let level1_offset = self.allocate(&big_endian(&level1))?;

        // The refcount table and blocks come last, and count themselves.
        self.align()?;
        let n_used = (self.end / CLUSTER as u64) as usize;
        let (n_blocks, n_table_clusters) = refcount_size(n_used);
        let n_total = n_used + n_blocks + n_table_clusters;
        self.refcounts.resize(n_used, 0);
        self.refcounts.resize(n_total, 1);
        let refcounts = std::mem::take(&mut self.refcounts);
        let table_offset = self.end;
        let first_block = table_offset + (n_table_clusters * CLUSTER) as u64;
        let table: Vec<u64> = (0..n_blocks).map(|i| first_block + (i * CLUSTER) as u64).collect();
        self.allocate(&big_endian(&table))?;
        for block in refcounts.chunks(REFCOUNTS_PER_BLOCK) {
            let bytes: Vec<u8> = block.iter().flat_map(|count| count.to_be_bytes()).collect();
            self.allocate(&bytes)?;
        }

        let header = header(
            n_clusters,
            level1.len(),
            level1_offset,
            table_offset,
            n_table_clusters,
            settings,
        );
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.flush()?;
        Ok(())
    }
}

/// How many refcount blocks and table clusters it takes to count `n_used` clusters and themselves.
fn refcount_size(n_used: usize) -> (usize, usize) {
    let (mut n_blocks, mut n_table_clusters) = (1, 1);
    loop {
        let n_total = n_used + n_blocks + n_table_clusters;
        let blocks = n_total.div_ceil(REFCOUNTS_PER_BLOCK);
        let tables = blocks.div_ceil(ENTRIES_PER_TABLE);
        if (blocks, tables) == (n_blocks, n_table_clusters) {
            return (n_blocks, n_table_clusters);
        }
        (n_blocks, n_table_clusters) = (blocks, tables);
    }
}

fn header(
    n_clusters: usize,
    n_level1: usize,
    level1_offset: u64,
    refcount_table_offset: u64,
    n_table_clusters: usize,
    settings: &Settings,
) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some((_, format)) = &settings.backing {
        extensions.extend(0xe279_2aca_u32.to_be_bytes());
        extensions.extend((format.len() as u32).to_be_bytes());
        extensions.extend(format.as_bytes());
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    // The end marker of the header extensions.
    extensions.extend([0; 8]);
    let name = settings.backing.as_ref().map_or("", |(name, _)| name);
    let name_offset =
        if name.is_empty() { 0 } else { u64::from(HEADER_LENGTH) + extensions.len() as u64 };
    let mut out = Vec::new();
    out.extend(MAGIC.to_be_bytes());
    out.extend(VERSION.to_be_bytes());
    out.extend(name_offset.to_be_bytes());
    out.extend((name.len() as u32).to_be_bytes());
    out.extend(CLUSTER_BITS.to_be_bytes());
    out.extend((n_clusters as u64 * CLUSTER as u64).to_be_bytes());
    out.extend(0_u32.to_be_bytes()); // No encryption.
    out.extend((n_level1 as u32).to_be_bytes());
    out.extend(level1_offset.to_be_bytes());
    out.extend(refcount_table_offset.to_be_bytes());
    out.extend((n_table_clusters as u32).to_be_bytes());
    out.extend(0_u32.to_be_bytes()); // No snapshots,
    out.extend(0_u64.to_be_bytes()); // and so no table of them.
    out.extend(INCOMPATIBLE_COMPRESSION_TYPE.to_be_bytes());
    out.extend(0_u64.to_be_bytes()); // Compatible features.
    out.extend(0_u64.to_be_bytes()); // Auto-clear features.
    out.extend(REFCOUNT_ORDER.to_be_bytes());
    out.extend(HEADER_LENGTH.to_be_bytes());
    out.push(COMPRESSION_ZSTD);
    out.resize(HEADER_LENGTH as usize, 0);
    out.extend(extensions);
    out.extend(name.as_bytes());
    out
}

fn big_endian(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    #[test]
    fn refcounts_count_themselves() {
        for n_used in
            [1, 100, REFCOUNTS_PER_BLOCK - 2, REFCOUNTS_PER_BLOCK - 1, 10 * REFCOUNTS_PER_BLOCK]
        {
            let (n_blocks, n_tables) = refcount_size(n_used);
            assert!(n_blocks * REFCOUNTS_PER_BLOCK >= n_used + n_blocks + n_tables, "{n_used}");
        }
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let chunks: Vec<Option<Box<[u8]>>> = (0..300_usize)
            .map(|i| {
                (i % 3 != 0).then(|| {
                    (0..CLUSTER).map(|j| (i * j % 7) as u8).collect::<Vec<_>>().into_boxed_slice()
                })
            })
            .collect();
        let images: Vec<Vec<u8>> = [1, 3]
            .into_iter()
            .map(|n_threads| {
                let path = folder.path().join(format!("{n_threads}.qcow2"));
                let settings = Settings { level: 3, n_threads, backing: None };
                write(&path, &chunks, &settings, &|_| {}).unwrap();
                fs::read(path).unwrap()
            })
            .collect();
        assert!(images[0] == images[1]);
    }
}
