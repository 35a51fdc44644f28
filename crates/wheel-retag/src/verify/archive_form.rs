//! The archive as a whole: one reading of it, and nothing around it.

use super::{Check, Findings};
use crate::{Error, archive::Archive};
use std::io::{Read, Seek, SeekFrom};

/// The record at the archive's end, without its comment: 22 bytes that start with this.
const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const END_LENGTH: u64 = 22;

pub(super) fn check(archive: &mut Archive, findings: &mut Findings) -> Result<(), Error> {
    if archive.zip.offset() != 0 {
        let offset = archive.zip.offset();
        findings.add(Check::Archive, format!("{offset} bytes stand before the archive"));
    }
    let comment = archive.zip.comment().len() as u64;
    if comment != 0 {
        findings.add(Check::Archive, format!("The archive has a comment of {comment} bytes"));
    }
    if !ends_with_its_end(archive, comment)? {
        findings.add(Check::Archive, "Bytes stand after the archive's end");
    }
    check_end(archive, comment, findings)?;
    check_rows(archive, findings)?;
    if archive.zip.has_duplicate_names() {
        findings.add(Check::Duplicate, "Two entries have the same name");
    }
    match archive.zip.has_overlapping_entries() {
        Ok(false) => {}
        Ok(true) => findings.add(Check::Overlap, "Two entries share bytes of the archive"),
        Err(error) => findings.add(Check::Archive, format!("An entry cannot be read: {error}")),
    }
    // Duplicates and overlaps are findings already, in other words.
    let is_found = findings.0.iter().any(|f| matches!(f.check, Check::Duplicate | Check::Overlap));
    if let (false, Err(error)) = (is_found, archive.zip.validate_header_consistency()) {
        findings.add(Check::Archive, format!("The archive contradicts itself: {error}"));
    }
    Ok(())
}

/// Whether the record at the end says where the central directory really is: Python reads from the end.
fn check_end(archive: &mut Archive, comment: u64, findings: &mut Findings) -> Result<(), Error> {
    let Some(start) = archive.length.checked_sub(END_LENGTH + comment) else { return Ok(()) };
    let mut end = [0; END_LENGTH as usize];
    if !read_at(archive, start, &mut end)? || end[..4] != END_SIGNATURE {
        return Ok(());
    }
    let half = |at: usize| u16::from_le_bytes([end[at], end[at + 1]]);
    let word =
        |at: usize| u64::from(u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]));
    const ZIP64: u64 = 0xffff_ffff;
    let (size, offset) = (word(12), word(16));
    if size == ZIP64 || offset == ZIP64 || half(10) == u16::MAX {
        // The zip64 records have places of their own, which the reader has followed.
        return Ok(());
    }
    if offset + size != start {
        findings.add(
            Check::Archive,
            format!("Its end says that the directory has {size} bytes from {offset} on, and stands at {start}"),
        );
    }
    if half(4) != 0 || half(6) != 0 || half(8) != half(10) {
        findings
            .add(Check::Archive, "It is a part of an archive that is spread over several disks");
    }
    Ok(())
}

/// What Python's zipfile refuses by two fields of each header.
fn check_rows(archive: &mut Archive, findings: &mut Findings) -> Result<(), Error> {
    const LAST_VERSION: u16 = 63;
    const PATCHED: u16 = 1 << 5;
    const STRONGLY_ENCRYPTED: u16 = 1 << 6;
    const MASKED: u16 = 1 << 13;
    for index in 0..archive.entries.len() {
        let entry = archive.entries[index].clone();
        // The row of the directory has the version of its maker before the two fields.
        for (start, at) in [(entry.directory_start, 6), (entry.start, 4)] {
            let mut header = [0; 10];
            if !read_at(archive, start, &mut header)? {
                continue;
            }
            let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
            let (version, flags) = (half(at) & 0xff, half(at + 2));
            if version > LAST_VERSION {
                let message = format!(
                    "It asks for version {}.{} of the format, Python knows up to 6.3",
                    version / 10,
                    version % 10
                );
                findings.add_for(&entry.name, Check::Archive, message);
                break;
            }
            if flags & (PATCHED | STRONGLY_ENCRYPTED | MASKED) != 0 {
                let message = format!("Python refuses its flags ({flags:#06x})");
                findings.add_for(&entry.name, Check::Archive, message);
                break;
            }
        }
    }
    Ok(())
}

/// Fills `bytes` from a place of the file; false when the file ends before.
fn read_at(archive: &mut Archive, start: u64, bytes: &mut [u8]) -> Result<bool, Error> {
    if start.checked_add(bytes.len() as u64).is_none_or(|end| end > archive.length) {
        return Ok(false);
    }
    let failed = || Error::io("read", &archive.path);
    let mut file = fs_err::File::open(&archive.path).map_err(Error::io("open", &archive.path))?;
    file.seek(SeekFrom::Start(start)).map_err(failed())?;
    file.read_exact(bytes).map_err(failed())?;
    Ok(true)
}

fn ends_with_its_end(archive: &mut Archive, comment: u64) -> Result<bool, Error> {
    let Some(start) = archive.length.checked_sub(END_LENGTH + comment) else { return Ok(false) };
    let mut file = fs_err::File::open(&archive.path).map_err(Error::io("open", &archive.path))?;
    let mut signature = [0; 4];
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut signature))
        .map_err(Error::io("read", &archive.path))?;
    Ok(signature == END_SIGNATURE)
}
