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
    if archive.zip.has_duplicate_names() {
        findings.add(Check::Duplicate, "Two entries have the same name");
    }
    match archive.zip.has_overlapping_entries() {
        Ok(false) => {}
        Ok(true) => findings.add(Check::Overlap, "Two entries share bytes of the archive"),
        Err(error) => findings.add(Check::Archive, format!("An entry cannot be read: {error}")),
    }
    // Duplicates and overlaps were told already, in other words.
    let told = findings.0.iter().any(|f| matches!(f.check, Check::Duplicate | Check::Overlap));
    if let (false, Err(error)) = (told, archive.zip.validate_header_consistency()) {
        findings.add(Check::Archive, format!("The archive contradicts itself: {error}"));
    }
    Ok(())
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
