//! The head of a qcow2 file: checks that of each layer, and writes an empty overlay's.
//!
//! Pure functions on bytes and readers. The file below a layer is known from the layout of images and
//! saves; what a layer's own header says of it is never followed. The format:
//! <https://www.qemu.org/docs/master/interop/qcow2.html>. QEMU does the real work; this is here so
//! that an overlay needs no second process and no name in the file system, and so that a damaged
//! image is refused by name before a machine boots from it.

use super::header::{
    CLUSTER, CORRUPT, FIXED, Header, KNOWN_FEATURES, MAGIC, MAX_BACKING_NAME, OFFSET, SHORT, u64_at,
};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek, SeekFrom};

/// The largest L1 table that QEMU itself accepts, in entries.
const MAX_L1_ENTRIES: u32 = (32 << 20) / 8;
/// The most bytes of tables that a check reads: those of a full disk of 8 TiB. A file with holes can
/// list far more than it holds.
const MAX_TABLES: u64 = 1 << 30;

/// Why a file cannot be used, in words that finish "is damaged or not a qcow2 file: …".
#[derive(Debug)]
pub enum Fault {
    /// It is not what it must be.
    Bad(String),
    /// It cannot be read.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Bad("it ends too early".into()),
            _ => Self::Io(error),
        }
    }
}

pub(super) fn bad<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Bad(reason.into()))
}

/// What a sound layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The size of the disk that the guest sees, in bytes.
    pub size: u64,
    /// A digest of the file's length and of the tables that lead to its data. Images with other
    /// content have other tables, as the tables say where each compressed cluster lies.
    pub fingerprint: String,
}

/// Checks a layer.
///
/// All tables that lead to data are followed, so that a file that was cut short is found here and
/// not by the guest. A base that names further files is refused; those that an overlay names are for
/// the caller to ignore. Data outside of the file is refused in both: an image must not make the
/// host open files of its choice.
pub fn inspect(file: &mut (impl Read + Seek), is_base: bool) -> Result<Layer, Fault> {
    let length = file.seek(SeekFrom::End(0))?;
    let header = read_header(file)?;
    match header.version {
        2 => {}
        3 => {
            if header.incompatible & CORRUPT != 0 {
                return bad("QEMU has marked it as corrupt");
            }
            if header.incompatible & !KNOWN_FEATURES != 0 {
                return bad("it has features that cannot be used here");
            }
        }
        other => return bad(format!("its version is {other}, not 2 or 3")),
    }
    if is_base && header.backing_offset != 0 {
        return bad("it is based on a further file");
    }
    if header.encryption != 0 {
        return bad("it is encrypted");
    }
    let cluster_bits = header.cluster_bits;
    if !(9..=21).contains(&cluster_bits) {
        return bad(format!("its clusters have 2^{cluster_bits} bytes"));
    }
    let (size, n_entries) = (header.size, header.n_level1);
    if size == 0 || n_entries > MAX_L1_ENTRIES {
        return bad(format!("its size is {size} with {n_entries} tables"));
    }
    // One L2 table has cluster / 8 entries of one cluster each.
    let per_table = 1u128 << (2 * cluster_bits - 3);
    if u128::from(n_entries) * per_table < u128::from(size) {
        return bad("its tables do not cover its size");
    }
    let mut digest = Sha256::new();
    digest.update(length.to_be_bytes());
    follow(file, header.level1_offset, n_entries, cluster_bits, length, &mut digest)?;
    let fingerprint = hex::encode(&digest.finalize()[..16]);
    Ok(Layer { size, fingerprint })
}

/// The header at the beginning of a file.
pub(super) fn read_header(file: &mut (impl Read + Seek)) -> Result<Header, Fault> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = [0; FIXED];
    file.read_exact(&mut bytes[..SHORT])?;
    if bytes[..4] != MAGIC {
        return bad("it does not start with qcow2's magic bytes");
    }
    match Header::parse(&bytes[..SHORT]) {
        header if header.version == 3 => {
            file.read_exact(&mut bytes[SHORT..])?;
            Ok(Header::parse(&bytes))
        }
        header => Ok(header),
    }
}

/// Follows L1 and L2 tables and checks that everything they lead to is inside the file.
fn follow(
    file: &mut (impl Read + Seek),
    l1_offset: u64,
    n_entries: u32,
    cluster_bits: u32,
    length: u64,
    digest: &mut Sha256,
) -> Result<(), Fault> {
    let cluster = 1u64 << cluster_bits;
    let l1 = read_table(file, l1_offset, n_entries as usize, length)?;
    // In a compressed cluster's entry the low bits are an offset and the high ones a length.
    let compressed_offset = (1u64 << (62 - (cluster_bits - 8))) - 1;
    let tables = l1.iter().filter(|entry| *entry & OFFSET != 0).count();
    if tables as u64 > length / cluster {
        return bad("several of its tables lie in one place");
    }
    if tables as u64 * cluster > MAX_TABLES {
        return bad(format!("its tables have more than {MAX_TABLES} bytes"));
    }
    for l2_offset in l1.into_iter().map(|entry| entry & OFFSET).filter(|offset| *offset != 0) {
        for entry in read_table(file, l2_offset, cluster as usize / 8, length)? {
            digest.update(entry.to_be_bytes());
            let is_compressed = entry & (1 << 62) != 0;
            let end = if is_compressed {
                (entry & compressed_offset) + 1
            } else if entry & OFFSET != 0 {
                // A file may end within its last cluster.
                (entry & OFFSET) + 1
            } else {
                0
            };
            if end > length {
                return bad("it ends before the data that it lists");
            }
        }
    }
    Ok(())
}

pub(super) fn read_table(
    file: &mut (impl Read + Seek),
    offset: u64,
    n_entries: usize,
    length: u64,
) -> Result<Vec<u64>, Fault> {
    let n_bytes = n_entries * 8;
    if offset.checked_add(n_bytes as u64).is_none_or(|end| end > length) {
        return bad("it ends before its tables");
    }
    let mut bytes = vec![0; n_bytes];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes.chunks_exact(8).map(|entry| u64_at(entry, 0)).collect())
}

/// The first bytes of an empty overlay, and the file's whole length (the rest is zeros). `below` is
/// the name of the layer below for tools that show it; compressed clusters will be zstd's. `None`
/// when the name or the size is beyond the format.
pub fn empty_overlay(size: u64, below: &str) -> Option<(Vec<u8>, u64)> {
    if below.len() > MAX_BACKING_NAME {
        return None;
    }
    let n_l1_entries = size.div_ceil(CLUSTER * CLUSTER / 8).max(1);
    let n_l1_clusters = (n_l1_entries * 8).div_ceil(CLUSTER);
    // Cluster 0 is the header, 1 the refcount table, 2 its one block, then comes the L1 table.
    let n_clusters = 3 + n_l1_clusters;
    if n_clusters > CLUSTER / 2 || n_l1_entries > u64::from(MAX_L1_ENTRIES) {
        return None;
    }
    let header = Header {
        n_level1: n_l1_entries as u32,
        level1_offset: 3 * CLUSTER,
        refcount_table_offset: CLUSTER,
        n_refcount_table_clusters: 1,
        ..Header::new(size)
    };
    let mut head = header.bytes(below, Some("qcow2"));
    head.resize(CLUSTER as usize, 0);
    head.extend((2 * CLUSTER).to_be_bytes());
    head.resize(2 * CLUSTER as usize, 0);
    for _ in 0..n_clusters {
        head.extend(1u16.to_be_bytes());
    }
    Some((head, n_clusters * CLUSTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const GIB: u64 = 1 << 30;

    /// An image of ours without its backing file, with the first cluster of data allocated.
    fn image() -> Vec<u8> {
        let (head, length) = empty_overlay(GIB, "").unwrap();
        let mut image = head;
        image.resize(length as usize, 0);
        let l2 = length;
        image[3 * CLUSTER as usize..][..8].copy_from_slice(&l2.to_be_bytes());
        image.resize((length + CLUSTER) as usize, 0);
        let data = length + CLUSTER;
        image[l2 as usize..][..8].copy_from_slice(&(data | 1 << 63).to_be_bytes());
        image.resize((data + CLUSTER) as usize, 7);
        image
    }

    fn fault(image: Vec<u8>) -> String {
        match inspect(&mut Cursor::new(image), true) {
            Err(Fault::Bad(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sound_image_tells_its_size() {
        let layer = inspect(&mut Cursor::new(image()), true).unwrap();
        assert_eq!(layer.size, GIB);
        assert_eq!(layer.fingerprint.len(), 32);
        let mut longer = image();
        longer.push(0);
        let other = inspect(&mut Cursor::new(longer), true).unwrap();
        assert_ne!(layer.fingerprint, other.fingerprint);
    }

    #[test]
    fn what_an_overlay_names_is_not_looked_at_but_data_elsewhere_is_refused() {
        let (mut overlay, length) = empty_overlay(GIB, "/etc/shadow").unwrap();
        overlay.resize(length as usize, 0);
        assert_eq!(inspect(&mut Cursor::new(&overlay), false).unwrap().size, GIB);
        assert!(fault(overlay.clone()).contains("further file"));
        // The feature bit of an external data file.
        overlay[79] |= 0b100;
        assert!(matches!(inspect(&mut Cursor::new(overlay), false), Err(Fault::Bad(_))));
    }

    #[test]
    fn damage_is_named() {
        type Damage = fn(&mut Vec<u8>);
        let cases: [(Damage, &str); 12] = [
            (|i| i.clear(), "too early"),
            (|i| i.truncate(50), "too early"),
            (|i| i.truncate(90), "too early"),
            (|i| i[0] = b'q', "magic"),
            (|i| i[7] = 9, "version is 9"),
            (|i| i[15] = 200, "further file"),
            (|i| i[35] = 1, "encrypted"),
            (|i| i[23] = 63, "2^63"),
            (|i| i[24..32].fill(0), "its size is 0"),
            (|i| i[24] = 1, "do not cover"),
            (|i| i[79] = 2, "corrupt"),
            (|i| i.truncate(i.len() - CLUSTER as usize), "before the data"),
        ];
        for (damage, expect) in cases {
            let mut image = image();
            damage(&mut image);
            let reason = fault(image);
            assert!(reason.contains(expect), "{reason} does not say {expect}");
        }
        let mut cut = image();
        cut.truncate(4 * CLUSTER as usize + 5);
        assert!(fault(cut).contains("before its tables"));
    }

    #[test]
    fn no_byte_of_the_header_makes_the_check_panic() {
        for offset in 0..FIXED {
            for value in [0, 1, 0x7f, 0xff] {
                let mut image = image();
                image[offset] = value;
                let _ = inspect(&mut Cursor::new(image), false);
            }
        }
    }

    #[test]
    fn names_and_sizes_beyond_the_format_are_refused() {
        assert!(empty_overlay(GIB, &"x".repeat(1024)).is_none());
        assert!(empty_overlay(GIB, &"x".repeat(1023)).is_some());
        assert!(empty_overlay(u64::MAX, "x").is_none());
        assert!(empty_overlay(64 << 40, "x").is_some());
    }
}
