//! An archive writer that writes what no archive writer should (APPNOTE 4.3), because sound
//! libraries refuse to.

use flate2::{Compression, Crc, write::DeflateEncoder};
use std::io::{Read, Write};

/// One entry, with what is wrong with it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    /// The unix mode with the kind of file.
    pub mode: u32,
    /// General purpose flags.
    pub flags: u16,
    /// The number of a compression that was not used.
    pub method: Option<u16>,
    /// Another name in the local header.
    pub local_name: Option<String>,
    /// Bits to flip in the checksum.
    pub crc_damage: u32,
    /// What is added to the uncompressed size.
    pub size_damage: i64,
    /// No row of the central directory.
    pub is_hidden: bool,
    /// No bytes of its own: the row points to this other entry.
    pub is_at: Option<String>,
}

impl Entry {
    pub fn file(name: &str, data: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            data: data.to_vec(),
            mode: 0o100_644,
            flags: 0,
            method: None,
            local_name: None,
            crc_damage: 0,
            size_damage: 0,
            is_hidden: false,
            is_at: None,
        }
    }
}

/// The entries of a sound archive.
pub fn unpack(bytes: &[u8]) -> Vec<Entry> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let mut data = Vec::new();
            file.read_to_end(&mut data).unwrap();
            let mode = file.unix_mode().unwrap();
            Entry { mode, ..Entry::file(&file.name().unwrap(), &data) }
        })
        .collect()
}

/// Writes them in their order.
pub fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rows = Vec::new();
    let mut starts = std::collections::BTreeMap::new();
    let mut n_rows = 0_u16;
    for entry in entries {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&entry.data).unwrap();
        let packed = encoder.finish().unwrap();
        let mut crc = Crc::new();
        crc.update(&entry.data);
        let fields = |name: &str| -> Vec<u8> {
            let mut fields = Vec::new();
            // UTF-8 names; deflate; 1980-01-01.
            fields.extend(20_u16.to_le_bytes());
            fields.extend((entry.flags | 0x800).to_le_bytes());
            fields.extend(entry.method.unwrap_or(8).to_le_bytes());
            fields.extend([0, 0, 0x21, 0]);
            fields.extend((crc.sum() ^ entry.crc_damage).to_le_bytes());
            fields.extend((packed.len() as u32).to_le_bytes());
            let size = entry.data.len() as i64 + entry.size_damage;
            fields.extend((size as u32).to_le_bytes());
            fields.extend((name.len() as u16).to_le_bytes());
            fields.extend([0, 0]);
            fields
        };
        let start = match &entry.is_at {
            Some(other) => starts[other],
            None => {
                let start = bytes.len() as u32;
                let local_name = entry.local_name.as_ref().unwrap_or(&entry.name);
                bytes.extend(b"PK\x03\x04");
                bytes.extend(fields(local_name));
                bytes.extend(local_name.as_bytes());
                bytes.extend(&packed);
                starts.insert(entry.name.clone(), start);
                start
            }
        };
        if entry.is_hidden {
            continue;
        }
        n_rows += 1;
        rows.extend(b"PK\x01\x02");
        rows.extend([20, 3]);
        rows.extend(fields(&entry.name));
        // Comment, disk, internal attributes.
        rows.extend([0; 6]);
        rows.extend((entry.mode << 16).to_le_bytes());
        rows.extend(start.to_le_bytes());
        rows.extend(entry.name.as_bytes());
    }
    let (directory, length) = (bytes.len() as u32, rows.len() as u32);
    bytes.extend(rows);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(n_rows.to_le_bytes());
    bytes.extend(n_rows.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(directory.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}
