//! Wheels of our own writer have exactly one form, so that any other byte is somebody else's.
//!
//! The archive is written again from its own entries, without recompressing, and compared while
//! it is written: header fields that nothing else reads cannot hide a change. Only the up to seven
//! bits that pad a deflate stream to a whole byte are free; they mean nothing to any reader.

use super::{Check, Findings};
use crate::{
    Error,
    archive::{Archive, Entry},
};
use fs_err::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use zip::{System, ZipWriter};

pub(super) fn check(
    archive: &mut Archive,
    info: Option<&str>,
    findings: &mut Findings,
) -> Result<(), Error> {
    let before = findings.0.len();
    let record = info.map(|info| format!("{info}/RECORD"));
    for entry in &archive.entries {
        let mut differs = |what: String| findings.add_for(&entry.name, Check::OwnForm, what);
        let permissions = entry.external_attributes >> 16;
        if entry.made_on != System::Unix || ![0o100_644, 0o100_755].contains(&permissions) {
            differs(format!("Its mode is {permissions:o}, not 100644 or 100755"));
        }
        let dos_attributes = entry.external_attributes & 0xFFFF;
        if dos_attributes != 0 {
            differs(format!("It has the DOS attributes {dos_attributes:#x}"));
        }
        if entry.has_extras {
            differs("It has extra fields or a comment".to_owned());
        }
        if !entry.has_fixed_time {
            differs("Its time stamp is not 1980-01-01".to_owned());
        }
    }
    let in_info =
        |entry: &Entry| info.is_some_and(|info| entry.name.starts_with(&format!("{info}/")));
    let place = |entry: &Entry| {
        (in_info(entry), record.as_deref() == Some(&entry.name), entry.name.clone())
    };
    if !archive.entries.is_sorted_by_key(place) {
        findings.add(Check::OwnForm, "Its entries are not in the writer's order");
    }
    if findings.0.len() == before
        && let Some(position) = first_difference(archive)?
    {
        let message = format!("Its bytes from {position} on are not the writer's");
        findings.add(Check::OwnForm, message);
    }
    Ok(())
}

/// Where the archive stops being what the writer makes of its entries.
fn first_difference(archive: &mut Archive) -> Result<Option<u64>, Error> {
    let path = archive.path.clone();
    let original = File::open(&path).map_err(Error::io("open", &path))?;
    let comparison = Comparison { original: BufReader::new(original), differs_at: None };
    let mut writer = ZipWriter::new(comparison);
    for index in 0..archive.entries.len() {
        let file = archive.zip.by_index_raw(index).map_err(Error::zip("read", &path))?;
        writer.raw_copy_file(file).map_err(Error::zip("compare", &path))?;
    }
    let mut comparison = writer.finish().map_err(Error::zip("compare", &path))?;
    let end = comparison.original.stream_position().map_err(Error::io("read", &path))?;
    Ok(comparison.differs_at.or((end != archive.length).then_some(end)))
}

/// A writer that keeps nothing and compares what it gets with a file.
struct Comparison {
    original: BufReader<File>,
    differs_at: Option<u64>,
}

impl Write for Comparison {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let start = self.original.stream_position()?;
        let mut original = Vec::with_capacity(bytes.len());
        (&mut self.original).take(bytes.len() as u64).read_to_end(&mut original)?;
        let same = bytes.iter().zip(&original).take_while(|(a, b)| a == b).count();
        if same < bytes.len() && self.differs_at.is_none() {
            self.differs_at = Some(start + same as u64);
        }
        // Seeking throws the buffer away, so it is done only where the original is too short.
        if original.len() < bytes.len() {
            self.original.seek(SeekFrom::Start(start + bytes.len() as u64))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Comparison {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.original.seek(position)
    }
}
