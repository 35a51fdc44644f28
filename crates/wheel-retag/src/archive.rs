//! Reads a wheel's archive: the list of entries, and their contents with limits.

use crate::Error;
use fs_err::File;
use std::{
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, System, ZipArchive};

/// Texts of `dist-info` above this are not read: the largest RECORDs have a few megabytes.
pub(crate) const TEXT_LIMIT: u64 = 64 << 20;

/// Above this a file or an archive needs zip64, which not all installers' unpackers read.
pub(crate) const SIZE_LIMIT: u64 = u32::MAX as u64;

const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;

/// An opened wheel.
pub(crate) struct Archive {
    pub(crate) path: PathBuf,
    pub(crate) zip: ZipArchive<BufReader<File>>,
    /// The entries in the order of the central directory.
    pub(crate) entries: Vec<Entry>,
    /// The size of the file in bytes.
    pub(crate) length: u64,
}

/// What the central directory says about one entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) compressed_size: u64,
    pub(crate) compression: CompressionMethod,
    pub(crate) encrypted: bool,
    pub(crate) made_on: System,
    pub(crate) external_attributes: u32,
    /// Whether the time stamp is the fixed one of our writer.
    pub(crate) has_fixed_time: bool,
    /// Where its header and data start in the file.
    pub(crate) start: u64,
    /// Where its row of the central directory starts.
    pub(crate) directory_start: u64,
    /// Whether it has extra fields or a comment, which our writer never makes.
    pub(crate) has_extras: bool,
}

impl Entry {
    /// Folders are entries of their own in some wheels; they mean nothing to installers.
    pub(crate) fn is_dir(&self) -> bool {
        self.name.ends_with('/')
    }

    /// The unix mode. Zero where the maker gave none.
    pub(crate) fn mode(&self) -> u32 {
        if self.made_on == System::Unix { self.external_attributes >> 16 } else { 0 }
    }

    pub(crate) fn is_executable(&self) -> bool {
        self.mode() & 0o111 != 0
    }

    /// Neither a file nor a folder: a link, a device, a pipe.
    pub(crate) fn is_special(&self) -> bool {
        let kind = self.mode() & S_IFMT;
        kind != 0 && kind != S_IFREG && !(kind == S_IFDIR && self.is_dir())
    }
}

impl Archive {
    /// Opens a wheel and reads its central directory.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let reader = BufReader::with_capacity(1 << 18, file);
        let mut zip = ZipArchive::new(reader).map_err(Error::zip("read", path))?;
        let mut entries = Vec::with_capacity(zip.len());
        for index in 0..zip.len() {
            let file = zip.by_index_raw(index).map_err(Error::zip("read", path))?;
            entries.push(Entry {
                name: file.name().map_err(Error::zip("read", path))?.into_owned(),
                size: file.size(),
                compressed_size: file.compressed_size(),
                compression: file.compression(),
                encrypted: file.encrypted(),
                made_on: file.system(),
                external_attributes: file.external_attributes(),
                start: file.header_start(),
                directory_start: file.central_header_start(),
                has_extras: !file.comment().is_empty() || file.extra_data_fields().next().is_some(),
                has_fixed_time: file.last_modified() == Some(zip::DateTime::default()),
            });
        }
        Ok(Self { path: path.to_owned(), zip, entries, length })
    }

    /// Whether data and central directory have the same order, so that the first entries are the
    /// first bytes.
    pub(crate) fn is_in_order(&self) -> bool {
        self.entries.is_sorted_by_key(|entry| (entry.start, entry.directory_start))
            && self.entries.is_sorted_by_key(|entry| entry.directory_start)
            && self.entries.first().is_none_or(|entry| entry.start == 0)
            && self.length < SIZE_LIMIT
            && self.entries.len() < usize::from(u16::MAX)
    }

    /// The place of an entry in [`Self::entries`].
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// Reads an entry in pieces, and never more than it says it has. Returns the number of bytes;
    /// a checksum that does not fit is an error.
    pub(crate) fn read_pieces(
        &mut self,
        index: usize,
        mut piece: impl FnMut(&[u8]),
    ) -> io::Result<u64> {
        let declared = self.entries[index].size;
        let mut file = self.zip.by_index(index)?;
        let mut buffer = vec![0; 1 << 18];
        let mut total = 0_u64;
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            total += length as u64;
            if total > declared {
                return Err(io::Error::other(format!(
                    "more than the {declared} bytes it declares"
                )));
            }
            piece(&buffer[..length]);
        }
        if total < declared {
            return Err(io::Error::other(format!("{total} instead of {declared} bytes")));
        }
        Ok(total)
    }

    /// Reads a whole text of `dist-info`.
    pub(crate) fn read_text(&mut self, index: usize) -> io::Result<Vec<u8>> {
        let declared = self.entries[index].size;
        if declared > TEXT_LIMIT {
            return Err(io::Error::other(format!("{declared} bytes are too many for a text")));
        }
        let mut text = Vec::new();
        self.read_pieces(index, |piece| text.extend_from_slice(piece))?;
        Ok(text)
    }
}
