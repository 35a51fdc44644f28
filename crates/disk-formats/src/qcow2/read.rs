//! Reads qcow2 images back into chunks: those of this crate, and any other with clusters of the
//! same size that needs nothing but itself and its backing file.

use super::{
    header::{
        CLUSTER, CLUSTER_BITS, COMPRESSED, COPIED, Header, KNOWN_FEATURES, LONG, MAGIC, OFFSET,
        ZEROS, ZSTD, u64_at,
    },
    write::{ENTRIES_PER_TABLE, SECTOR, SECTORS_SHIFT},
};
use crate::{Error, disk::SparseDisk};
use fs_err as fs;
use std::{
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// A disk of this size is larger than any that is baked: a bound against a damaged header.
const MAX_CLUSTERS: u64 = 1 << 26;

/// The chunks of a disk from the files of its chain, the base first. Backing files are those of the
/// chain, whatever the images name.
pub fn read(chain: &[&Path]) -> Result<Vec<Option<Box<[u8]>>>, Error> {
    let mut chunks = Vec::new();
    for (number, path) in chain.iter().enumerate() {
        let bad = |detail| Error::BadQcow2 { path: (*path).to_owned(), detail };
        let image = Image::open(path)?;
        if number == 0 && image.has_backing {
            return Err(Error::OverlayAlone { path: (*path).to_owned() });
        }
        image.read_into(&mut chunks, &bad)?;
    }
    Ok(chunks)
}

pub fn read_disk(chain: &[&Path]) -> Result<SparseDisk, Error> {
    Ok(SparseDisk::from_chunks(read(chain)?))
}

struct Image {
    file: fs::File,
    n_clusters: usize,
    level1: Vec<u64>,
    is_zstd: bool,
    /// Whether it names a disk that it lies on.
    has_backing: bool,
}

impl Image {
    fn open(path: &Path) -> Result<Self, Error> {
        let bad = |detail| Error::BadQcow2 { path: path.to_owned(), detail };
        let mut file = fs::File::open(path)?;
        let mut bytes = [0; LONG];
        file.read_exact(&mut bytes).map_err(|_| bad("it is shorter than a header"))?;
        let header = Header::parse(&bytes);
        if bytes[..4] != MAGIC || header.version != 3 {
            return Err(bad("it is not qcow2 of version 3"));
        }
        if header.cluster_bits != CLUSTER_BITS || header.encryption != 0 {
            return Err(bad("its clusters are encrypted or of another size"));
        }
        if header.incompatible & !KNOWN_FEATURES != 0 {
            return Err(bad("it has features that are not known here"));
        }
        let n_clusters = header.size.div_ceil(CLUSTER);
        let n_tables = n_clusters.div_ceil(ENTRIES_PER_TABLE as u64);
        if n_clusters > MAX_CLUSTERS || u64::from(header.n_level1) < n_tables {
            return Err(bad("its size and its tables do not agree"));
        }
        let is_zstd = header.compression == ZSTD;
        let has_backing = header.backing_offset != 0;
        let level1 = table(&mut file, header.level1_offset, n_tables as usize)
            .map_err(|_| bad("a table is cut"))?;
        Ok(Self { file, n_clusters: n_clusters as usize, level1, is_zstd, has_backing })
    }

    fn read_into(
        mut self,
        chunks: &mut Vec<Option<Box<[u8]>>>,
        bad: &dyn Fn(&'static str) -> Error,
    ) -> Result<(), Error> {
        chunks.resize(self.n_clusters.max(chunks.len()), None);
        for (number, entry) in std::mem::take(&mut self.level1).into_iter().enumerate() {
            if entry & OFFSET == 0 {
                continue;
            }
            let level2 = table(&mut self.file, entry & OFFSET, ENTRIES_PER_TABLE)
                .map_err(|_| bad("a table is cut"))?;
            for (within, entry) in level2.into_iter().enumerate().filter(|(_, entry)| *entry != 0) {
                let index = number * ENTRIES_PER_TABLE + within;
                if index >= self.n_clusters {
                    return Err(bad("it lists clusters behind its end"));
                }
                chunks[index] = self.cluster(entry).map_err(|_| bad("a cluster is damaged"))?;
            }
        }
        Ok(())
    }

    fn cluster(&mut self, entry: u64) -> std::io::Result<Option<Box<[u8]>>> {
        if entry & COMPRESSED == 0 {
            if entry & ZEROS != 0 || entry & OFFSET == 0 {
                return Ok(None);
            }
            self.file.seek(SeekFrom::Start(entry & OFFSET))?;
            let mut bytes = vec![0; CLUSTER as usize];
            self.file.read_exact(&mut bytes)?;
            return Ok(Some(bytes.into_boxed_slice()));
        }
        let start = entry & ((1 << SECTORS_SHIFT) - 1);
        let n_sectors = ((entry & !(COMPRESSED | COPIED)) >> SECTORS_SHIFT) + 1;
        let most = n_sectors * SECTOR - start % SECTOR;
        self.file.seek(SeekFrom::Start(start))?;
        let mut packed = Vec::new();
        // The last sectors may be behind the file's end: what counts is the stream's own end.
        (&mut self.file).take(most).read_to_end(&mut packed)?;
        let mut bytes = vec![0; CLUSTER as usize];
        if self.is_zstd {
            zstd::stream::read::Decoder::new(packed.as_slice())?
                .single_frame()
                .read_exact(&mut bytes)?;
        } else {
            flate2::read::DeflateDecoder::new(packed.as_slice()).read_exact(&mut bytes)?;
        }
        Ok(Some(bytes.into_boxed_slice()))
    }
}

fn table(file: &mut fs::File, offset: u64, n_entries: usize) -> std::io::Result<Vec<u64>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; n_entries * 8];
    file.read_exact(&mut bytes)?;
    Ok(bytes.chunks_exact(8).map(|entry| u64_at(entry, 0)).collect())
}
