//! Writes qcow2 images: version 3, zstd-compressed clusters, compressed in parallel, nothing
//! stored for what reads as zeros, optionally over a backing file.
//! <https://www.qemu.org/docs/master/interop/qcow2.html>
//!
//! The image is written front to back (data, tables, then the header's cluster is filled in), and
//! the same input gives the same bytes whatever the number of threads. It must not know what the
//! clusters hold.

use super::header::{
    CLUSTER, CLUSTER_BITS, COMPRESSED, COPIED, Header, MAX_BACKING_NAME, table_bytes,
};
use crate::{Error, disk::CHUNK};
use std::{
    io::{BufWriter, Seek as _, SeekFrom, Write},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

const CLUSTER_BYTES: usize = CLUSTER as usize;
const _: () = assert!(CLUSTER as usize == CHUNK);
const REFCOUNTS_PER_BLOCK: usize = CLUSTER_BYTES * 8 / 16;
pub(super) const ENTRIES_PER_TABLE: usize = CLUSTER_BYTES / 8;
/// A compressed cluster's descriptor: the host offset takes the bits below this one, the number of
/// further 512-byte sectors the bits from here up to bit 61.
pub(super) const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);
pub(super) const SECTOR: u64 = 512;

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
            if packed.len() + SECTOR as usize <= CLUSTER_BYTES {
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
        if settings.backing.as_ref().is_some_and(|(name, _)| name.len() > MAX_BACKING_NAME) {
            return Err(Error::BackingNameTooLong);
        }
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&vec![0; CLUSTER_BYTES])?;
        Ok(Self { out, end: CLUSTER, entries: Vec::new(), refcounts: vec![1] })
    }

    fn add(&mut self, index: usize, raw: &[u8], packed: Option<&[u8]>) -> Result<(), Error> {
        match packed {
            Some(packed) => {
                let (start, last) = (self.end, self.end + packed.len() as u64 - 1);
                self.out.write_all(packed)?;
                self.end = last + 1;
                // A cluster counts once for each compressed cluster that touches it.
                for host in start / CLUSTER..=last / CLUSTER {
                    self.count(host);
                }
                let n_more_sectors = last / SECTOR - start / SECTOR;
                self.entries.push((index, COMPRESSED | n_more_sectors << SECTORS_SHIFT | start));
            }
            None => {
                let start = self.allocate(raw)?;
                self.entries.push((index, COPIED | start));
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
        for host in start / CLUSTER..self.end / CLUSTER {
            self.count(host);
        }
        Ok(start)
    }

    fn align(&mut self) -> Result<(), Error> {
        let padding = (CLUSTER_BYTES - (self.end % CLUSTER) as usize) % CLUSTER_BYTES;
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
            let offset = self.allocate(&table_bytes(&table))?;
            level1[group[0].0 / ENTRIES_PER_TABLE] = COPIED | offset;
        }
        let level1_offset = self.allocate(&table_bytes(&level1))?;

        // The refcount table and blocks come last, and count themselves.
        self.align()?;
        let n_used = (self.end / CLUSTER) as usize;
        let (n_blocks, n_table_clusters) = refcount_size(n_used);
        let n_total = n_used + n_blocks + n_table_clusters;
        self.refcounts.resize(n_used, 0);
        self.refcounts.resize(n_total, 1);
        let refcounts = std::mem::take(&mut self.refcounts);
        let table_offset = self.end;
        let first_block = table_offset + (n_table_clusters * CLUSTER_BYTES) as u64;
        let table: Vec<u64> =
            (0..n_blocks).map(|i| first_block + (i * CLUSTER_BYTES) as u64).collect();
        self.allocate(&table_bytes(&table))?;
        for block in refcounts.chunks(REFCOUNTS_PER_BLOCK) {
            let bytes: Vec<u8> = block.iter().flat_map(|count| count.to_be_bytes()).collect();
            self.allocate(&bytes)?;
        }

        let header = Header {
            n_level1: level1.len() as u32,
            level1_offset,
            refcount_table_offset: table_offset,
            n_refcount_table_clusters: n_table_clusters as u32,
            ..Header::new((n_clusters * CLUSTER_BYTES) as u64)
        };
        let backing = settings.backing.as_ref();
        let header = header.bytes(
            backing.map_or("", |(name, _)| name),
            backing.map(|(_, format)| format.as_str()),
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
                    (0..CLUSTER_BYTES)
                        .map(|j| (i * j % 7) as u8)
                        .collect::<Vec<_>>()
                        .into_boxed_slice()
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
