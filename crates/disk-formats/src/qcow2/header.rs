//! The header of a qcow2 file, for readers and writers alike. A number's place in it stands here and nowhere
//! else. <https://www.qemu.org/docs/master/interop/qcow2.html>, "Header".

/// The first bytes of every qcow2 file.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of the header of version 2, and of the part of version 3 that every file has.
pub(super) const SHORT: usize = 72;
pub(super) const FIXED: usize = 104;
/// Bytes of the headers that are written here: with the compression type and its padding.
pub(super) const LONG: usize = 112;
/// Bits and bytes of a cluster of the files that are written here: QEMU's default.
pub(super) const CLUSTER_BITS: u32 = 16;
pub(super) const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Incompatible feature: QEMU found the file inconsistent.
pub(super) const CORRUPT: u64 = 1 << 1;
/// Incompatible feature: compressed clusters are what [`Header::compression`] says.
const HAS_COMPRESSION_TYPE: u64 = 1 << 3;
/// Incompatible features that can be read: dirty, and the compression type.
pub(super) const KNOWN_FEATURES: u64 = 1 | HAS_COMPRESSION_TYPE;
/// zstd's number among the compression types.
pub(super) const ZSTD: u8 = 1;
/// The bits of an L1 or L2 entry that hold an offset.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// An entry's flag of a cluster that nothing else refers to, of a compressed one, and of one that reads as
/// zeros.
pub(super) const COPIED: u64 = 1 << 63;
pub(super) const COMPRESSED: u64 = 1 << 62;
pub(super) const ZEROS: u64 = 1;
/// The header extension that names the format of the backing file.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The longest name of a backing file.
pub(super) const MAX_BACKING_NAME: usize = 1023;

/// A header's fields, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub version: u32,
    /// Where the backing file's name lies; 0 where there is none.
    pub backing_offset: u64,
    pub backing_length: u32,
    pub cluster_bits: u32,
    /// The size of the disk that the guest sees, in bytes.
    pub size: u64,
    pub encryption: u32,
    pub n_level1: u32,
    pub level1_offset: u64,
    pub refcount_table_offset: u64,
    pub n_refcount_table_clusters: u32,
    pub n_snapshots: u32,
    pub snapshots_offset: u64,
    pub incompatible: u64,
    pub compatible: u64,
    pub autoclear: u64,
    /// Reference counts have 2 to the power of this many bits.
    pub refcount_order: u32,
    pub header_length: u32,
    pub compression: u8,
}

impl Header {
    /// A header of the files that are written here.
    pub(super) fn new(size: u64) -> Self {
        Self {
            version: 3,
            backing_offset: 0,
            backing_length: 0,
            cluster_bits: CLUSTER_BITS,
            size,
            encryption: 0,
            n_level1: 0,
            level1_offset: 0,
            refcount_table_offset: 0,
            n_refcount_table_clusters: 0,
            n_snapshots: 0,
            snapshots_offset: 0,
            incompatible: HAS_COMPRESSION_TYPE,
            compatible: 0,
            autoclear: 0,
            refcount_order: 4,
            header_length: LONG as u32,
            compression: ZSTD,
        }
    }

    /// Reads a header from the first bytes of a file, [`SHORT`] at least. What a short one lacks is what version
    /// 2 means by it.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let long = |at: usize| if bytes.len() >= at + 8 { u64_at(bytes, at) } else { 0 };
        let word = |at: usize, absent: u32| match bytes.len() >= at + 4 {
            true => u32_at(bytes, at),
            false => absent,
        };
        let header_length = word(100, SHORT as u32);
        let has_compression = header_length > FIXED as u32 && bytes.len() > FIXED;
        Self {
            version: u32_at(bytes, 4),
            backing_offset: u64_at(bytes, 8),
            backing_length: u32_at(bytes, 16),
            cluster_bits: u32_at(bytes, 20),
            size: u64_at(bytes, 24),
            encryption: u32_at(bytes, 32),
            n_level1: u32_at(bytes, 36),
            level1_offset: u64_at(bytes, 40),
            refcount_table_offset: u64_at(bytes, 48),
            n_refcount_table_clusters: u32_at(bytes, 56),
            n_snapshots: u32_at(bytes, 60),
            snapshots_offset: u64_at(bytes, 64),
            incompatible: long(72),
            compatible: long(80),
            autoclear: long(88),
            refcount_order: word(96, 4),
            header_length,
            compression: if has_compression { bytes[FIXED] } else { 0 },
        }
    }

    /// The header with its extensions and the name of the backing file behind it; where that lies is filled in.
    /// `format` is the backing file's.
    pub(super) fn bytes(mut self, name: &str, format: Option<&str>) -> Vec<u8> {
        let mut extensions = Vec::new();
        if let Some(format) = format {
            extensions.extend(BACKING_FORMAT.to_be_bytes());
            extensions.extend((format.len() as u32).to_be_bytes());
            extensions.extend(format.as_bytes());
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        }
        // The end marker of the header extensions.
        extensions.extend([0; 8]);
        if !name.is_empty() {
            self.backing_offset = (LONG + extensions.len()) as u64;
            self.backing_length = name.len() as u32;
        }
        let mut out = Vec::from(MAGIC);
        out.extend(self.version.to_be_bytes());
        out.extend(self.backing_offset.to_be_bytes());
        out.extend(self.backing_length.to_be_bytes());
        out.extend(self.cluster_bits.to_be_bytes());
        out.extend(self.size.to_be_bytes());
        out.extend(self.encryption.to_be_bytes());
        out.extend(self.n_level1.to_be_bytes());
        out.extend(self.level1_offset.to_be_bytes());
        out.extend(self.refcount_table_offset.to_be_bytes());
        out.extend(self.n_refcount_table_clusters.to_be_bytes());
        out.extend(self.n_snapshots.to_be_bytes());
        out.extend(self.snapshots_offset.to_be_bytes());
        out.extend(self.incompatible.to_be_bytes());
        out.extend(self.compatible.to_be_bytes());
        out.extend(self.autoclear.to_be_bytes());
        out.extend(self.refcount_order.to_be_bytes());
        out.extend(self.header_length.to_be_bytes());
        out.push(self.compression);
        out.resize(LONG, 0);
        out.extend(extensions);
        out.extend(name.as_bytes());
        out
    }
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_be_bytes(word)
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_be_bytes(word)
}

pub(super) fn table_bytes(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let header = Header {
            n_level1: 7,
            level1_offset: 1 << 40,
            refcount_table_offset: 2 << 40,
            n_refcount_table_clusters: 9,
            ..Header::new(5 << 30)
        };
        for (name, format) in [("", None), ("", Some("qcow2")), ("below.qcow2", Some("qcow2"))] {
            let bytes = header.clone().bytes(name, format);
            let found = Header::parse(&bytes);
            let place = found.backing_offset as usize;
            assert_eq!(place == 0, name.is_empty());
            if place > 0 {
                assert_eq!(&bytes[place..place + found.backing_length as usize], name.as_bytes());
            }
            assert_eq!(Header { backing_offset: 0, backing_length: 0, ..found }, header);
        }
    }

    #[test]
    fn a_short_header_is_version_twos() {
        let bytes = Header { version: 2, ..Header::new(1 << 30) }.bytes("", None);
        let found = Header::parse(&bytes[..SHORT]);
        assert_eq!((found.incompatible, found.refcount_order, found.compression), (0, 4, 0));
        assert_eq!(found.header_length as usize, SHORT);
    }
}
