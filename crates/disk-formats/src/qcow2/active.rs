//! Copies the disk as it is now out of an overlay, and nothing else that lies in the file.
//!
//! QEMU keeps checkpoints inside the overlay: the guest's memory, and the disk as it was. A copy of
//! the file would hold them. This one follows the active tables alone and writes a new file with what
//! they lead to. The overlay was in QEMU's hands, so that nothing in it is trusted. See
//! <https://www.qemu.org/docs/master/interop/qcow2.html>.

use super::{
    header::{
        CLUSTER, CLUSTER_BITS, COMPRESSED, COPIED, Header, MAX_BACKING_NAME, OFFSET, ZEROS,
        table_bytes,
    },
    layer::{Fault, bad, empty_overlay, inspect, read_header, read_table},
};
use std::io::{Read, Seek, SeekFrom, Write};

/// Entries of an L2 table, and guest clusters that one covers.
const PER_TABLE: usize = CLUSTER as usize / 8;
/// Clusters that one block of reference counts, of 16 bits each, covers.
const PER_BLOCK: u64 = CLUSTER / 2;
/// Writes the overlay's active disk into an empty file. `below` is the name of the layer below, for
/// people.
///
/// # Errors
/// [`Fault::Bad`] for an overlay that is damaged or unlike those that QEMU makes of ours.
pub fn copy_active(
    overlay: &mut (impl Read + Seek),
    copy: &mut (impl Write + Seek),
    below: &str,
) -> Result<(), Fault> {
    let size = inspect(overlay, false)?.size;
    let length = overlay.seek(SeekFrom::End(0))?;
    let header = read_header(overlay)?;
    if header.cluster_bits != CLUSTER_BITS {
        return bad("its clusters are not those of an overlay");
    }
    if empty_overlay(size, "").is_none() {
        return bad("its size is beyond the format");
    }
    let n_tables = size.div_ceil(CLUSTER * PER_TABLE as u64) as usize;
    if u64::from(header.n_level1) < n_tables as u64 {
        return bad("its tables do not cover its size");
    }
    // The header is cluster 0; the table of tables comes next, at the length that it needs.
    let mut tables = vec![0; n_tables];
    let mut next = 1 + (n_tables as u64 * 8).div_ceil(CLUSTER);
    let active = read_table(overlay, header.level1_offset, n_tables, length)?;
    for (table, offset) in tables.iter_mut().zip(active) {
        if offset & OFFSET == 0 {
            continue;
        }
        let mut entries = read_table(overlay, offset & OFFSET, PER_TABLE, length)?;
        for entry in &mut entries {
            *entry = copy_cluster(overlay, copy, *entry, &mut next)?;
        }
        if entries.iter().any(|entry| *entry != 0) {
            write_at(copy, next, &table_bytes(&entries))?;
            *table = (next * CLUSTER) | COPIED;
            next += 1;
        }
    }
    write_at(copy, 1, &table_bytes(&tables))?;
    let (counts, n_count_clusters) = write_counts(copy, next)?;
    let header = Header {
        n_level1: n_tables as u32,
        level1_offset: CLUSTER,
        refcount_table_offset: counts * CLUSTER,
        n_refcount_table_clusters: n_count_clusters as u32,
        ..Header::new(size)
    };
    let name = if below.len() > MAX_BACKING_NAME { "" } else { below };
    let mut head = header.bytes(name, Some("qcow2"));
    head.resize(CLUSTER as usize, 0);
    write_at(copy, 0, &head)?;
    copy.flush()?;
    Ok(())
}

/// Copies what one entry leads to, and gives the entry of the copy.
fn copy_cluster(
    overlay: &mut (impl Read + Seek),
    copy: &mut (impl Write + Seek),
    entry: u64,
    next: &mut u64,
) -> Result<u64, Fault> {
    if entry & COMPRESSED != 0 {
        return bad("it has compressed clusters, which a machine does not write");
    }
    if entry & ZEROS != 0 {
        return Ok(ZEROS);
    }
    if entry & OFFSET == 0 {
        return Ok(0);
    }
    let mut data = Vec::with_capacity(CLUSTER as usize);
    overlay.seek(SeekFrom::Start(entry & OFFSET))?;
    overlay.take(CLUSTER).read_to_end(&mut data)?;
    // A file may end within its last cluster.
    data.resize(CLUSTER as usize, 0);
    let place = *next;
    *next += 1;
    write_at(copy, place, &data)?;
    Ok((place * CLUSTER) | COPIED)
}

/// Writes the reference counts of all clusters from the header to their own, one for each. Gives the
/// cluster in which their table begins, and how many it has.
fn write_counts(copy: &mut (impl Write + Seek), n_used: u64) -> Result<(u64, u64), Fault> {
    let (mut n_blocks, mut n_table) = (1, 1);
    loop {
        let blocks = (n_used + n_blocks + n_table).div_ceil(PER_BLOCK);
        let table = (blocks * 8).div_ceil(CLUSTER);
        if (blocks, table) == (n_blocks, n_table) {
            break;
        }
        (n_blocks, n_table) = (blocks, table);
    }
    let n_all = n_used + n_blocks + n_table;
    for block in 0..n_blocks {
        let n_ones = (n_all - block * PER_BLOCK).min(PER_BLOCK) as usize;
        let mut counts = [0, 1].repeat(n_ones);
        counts.resize(CLUSTER as usize, 0);
        write_at(copy, n_used + block, &counts)?;
    }
    let places: Vec<u64> = (0..n_blocks).map(|block| (n_used + block) * CLUSTER).collect();
    let mut table = table_bytes(&places);
    table.resize((n_table * CLUSTER) as usize, 0);
    write_at(copy, n_used + n_blocks, &table)?;
    Ok((n_used + n_blocks, n_table))
}

fn write_at(copy: &mut (impl Write + Seek), cluster: u64, bytes: &[u8]) -> Result<(), Fault> {
    copy.seek(SeekFrom::Start(cluster * CLUSTER))?;
    Ok(copy.write_all(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::{super::header::u64_at, *};
    use std::io::Cursor;

    const DISK: u64 = 3 << 30;

    /// An overlay with a cluster of sevens at the start of the disk, one that reads as zeros, one at
    /// the disk's end that the file cuts short, and a secret in clusters that no active table names.
    fn overlay() -> Vec<u8> {
        let (mut bytes, length) = empty_overlay(DISK, "").unwrap();
        bytes.resize(length as usize, 0);
        let cluster = CLUSTER as usize;
        let put = |bytes: &mut Vec<u8>, content: Vec<u8>| {
            let place = bytes.len() as u64;
            bytes.extend(content);
            place
        };
        let secret = put(&mut bytes, b"MARKER-".repeat(cluster / 7 + 1)[..cluster].to_vec());
        assert!(secret > 0);
        let data = put(&mut bytes, vec![7; cluster]);
        let mut first = vec![0; PER_TABLE];
        first[0] = data | COPIED;
        first[1] = data | COPIED | ZEROS;
        let first = put(&mut bytes, table_bytes(&first));
        let mut last = vec![0; PER_TABLE];
        last[PER_TABLE - 1] = bytes.len() as u64 + CLUSTER;
        let last = put(&mut bytes, table_bytes(&last));
        put(&mut bytes, vec![9; 512]);
        for (index, place) in [(0, first), (5, last)] {
            let at = 3 * cluster + index * 8;
            bytes[at..at + 8].copy_from_slice(&(place | COPIED).to_be_bytes());
        }
        bytes
    }

    /// Reads a guest cluster of a file.
    fn cluster_of(file: &[u8], index: u64) -> Option<Vec<u8>> {
        let l1 = u64_at(file, 40) as usize + (index as usize / PER_TABLE) * 8;
        let l2 = u64_at(file, l1) & OFFSET;
        if l2 == 0 {
            return None;
        }
        let entry = u64_at(file, l2 as usize + (index as usize % PER_TABLE) * 8);
        if entry & ZEROS != 0 {
            return Some(vec![0; CLUSTER as usize]);
        }
        let at = (entry & OFFSET) as usize;
        (at != 0).then(|| file[at..].iter().copied().take(CLUSTER as usize).collect())
    }

    #[test]
    fn the_disk_is_copied_and_what_only_checkpoints_name_is_not() {
        let overlay = overlay();
        assert!(memchr::memmem::find(&overlay, b"MARKER-").is_some());
        let mut copy = Cursor::new(Vec::new());
        copy_active(&mut Cursor::new(&overlay), &mut copy, "debian").unwrap();
        let copy = copy.into_inner();
        assert!(memchr::memmem::find(&copy, b"MARKER-").is_none());
        assert_eq!(inspect(&mut Cursor::new(&copy), false).unwrap().size, DISK);
        let last = DISK / CLUSTER - 1;
        assert_eq!(cluster_of(&copy, 0).unwrap(), vec![7; CLUSTER as usize]);
        assert_eq!(cluster_of(&copy, 1).unwrap(), vec![0; CLUSTER as usize]);
        assert_eq!(cluster_of(&copy, 2), None);
        let mut end = vec![9; 512];
        end.resize(CLUSTER as usize, 0);
        assert_eq!(cluster_of(&copy, last).unwrap(), end);
        assert_eq!(copy.len() as u64 % CLUSTER, 0);
        // Every cluster is counted once, and nothing beyond the end.
        let table = u64_at(&copy, 48) as usize;
        let block = u64_at(&copy, table) as usize;
        let counts: Vec<u8> = copy[block..block + CLUSTER as usize].to_vec();
        let n_clusters = copy.len() / CLUSTER as usize;
        assert!(counts.chunks(2).take(n_clusters).all(|count| count == [0, 1]));
        assert!(counts.chunks(2).skip(n_clusters).all(|count| count == [0, 0]));
    }

    #[test]
    fn what_a_machine_does_not_write_is_refused() {
        let mut compressed = overlay();
        let at = u64_at(&compressed, 3 * CLUSTER as usize) & OFFSET;
        compressed[at as usize] |= 0x40;
        let copied = copy_active(&mut Cursor::new(compressed), &mut Cursor::new(Vec::new()), "");
        assert!(matches!(copied, Err(Fault::Bad(_))));
        let mut small = overlay();
        small[23] = 15;
        assert!(copy_active(&mut Cursor::new(small), &mut Cursor::new(Vec::new()), "").is_err());
    }
}
