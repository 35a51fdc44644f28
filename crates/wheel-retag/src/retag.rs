//! Gives a wheel another tag without recompressing anything.
//!
//! Differences from `python -m wheel tags`: that one unpacks and packs the whole wheel; this one
//! copies the bytes up to the first entry that changes as they are, then writes WHEEL and RECORD
//! again. For wheels of our writer the result is what the writer makes for that tag, bit for bit.

use crate::{
    Error, RecordRow, WheelFileName, WheelTag,
    archive::{Archive, Entry, SIZE_LIMIT},
    format_record, parse_record, verify,
    verify::dist_info::belongs,
    write::{S_IFREG, deflated, publish_verified},
};
use fs_err::File;
use sha2::{Digest, Sha256};
use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use zip::{System, ZipWriter};

/// Writes a copy of `wheel` with `tag` into `out_dir` and returns its path. The wheel itself stays. It is
/// verified before, and the copy before it gets its name. A signature of the old RECORD is left out.
///
/// # Errors
/// When the wheel is not sound, and when a wheel of the new name with other contents is there already.
pub fn retag(wheel: &Path, tag: &WheelTag, out_dir: &Path) -> Result<PathBuf, Error> {
    tag.check()?;
    let (name, mut archive) = open_sound(wheel)?;
    let new_name = WheelFileName { tag: tag.clone(), ..name.clone() };
    let info = dist_info_of(&archive, &name)?;
    if let Some(finding) = verify(wheel)?.first() {
        return Err(unsound(wheel, &finding.to_string()));
    }
    let wheel_entry = format!("{info}/WHEEL");
    let record_entry = format!("{info}/RECORD");
    let wheel_text = with_tags(&read_utf8(&mut archive, &wheel_entry)?, tag);
    let signatures = [".jws", ".p7s"].map(|end| format!("{record_entry}{end}"));
    let mut rows = read_rows(&mut archive, &record_entry)?;
    rows.retain(|row| !signatures.contains(&row.path));
    let row = RecordRow::new(
        &wheel_entry,
        &Sha256::digest(wheel_text.as_bytes()),
        wheel_text.len() as u64,
    );
    match rows.iter_mut().find(|known| known.path == wheel_entry) {
        Some(known) => *known = row,
        None => return Err(unsound(wheel, "RECORD has no row for WHEEL")),
    }
    let changed = vec![
        (wheel_entry, wheel_text.into_bytes()),
        (record_entry, format_record(&rows).into_bytes()),
    ];
    let path = out_dir.join(new_name.to_string());
    fs_err::create_dir_all(out_dir).map_err(Error::io("make the folder", out_dir))?;
    publish_verified(&path, |file, part| {
        copy_with(&mut archive, &changed, &signatures, part, file)
    })?;
    Ok(path)
}

/// Opens a wheel whose archive has one reading, so that a raw copy keeps all of it.
pub(crate) fn open_sound(wheel: &Path) -> Result<(WheelFileName, Archive), Error> {
    let file_name = wheel.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name: WheelFileName = file_name.parse()?;
    let mut archive = Archive::open(wheel)?;
    if archive.zip.offset() != 0 || !archive.zip.comment().is_empty() {
        return Err(unsound(wheel, "it is not a plain archive from its first to its last byte"));
    }
    if let Err(error) = archive.zip.validate_header_consistency() {
        return Err(unsound(wheel, &error.to_string()));
    }
    Ok((name, archive))
}

pub(crate) fn unsound(wheel: &Path, reason: &str) -> Error {
    Error::NotAWheel { path: wheel.to_owned(), reason: reason.to_owned() }
}

/// The dist-info folder, which must be the only one and belong to the file name.
pub(crate) fn dist_info_of(archive: &Archive, name: &WheelFileName) -> Result<String, Error> {
    let mut folders: Vec<&str> = archive
        .entries
        .iter()
        .filter_map(|entry| Some(entry.name.split_once('/')?.0))
        .filter(|folder| folder.ends_with(".dist-info"))
        .collect();
    folders.dedup();
    match folders[..] {
        [folder] if folder.strip_suffix(".dist-info").is_some_and(|f| belongs(f, name)) => {
            Ok(folder.to_owned())
        }
        [folder] => Err(unsound(
            &archive.path,
            &format!("its folder `{folder}` does not belong to its file name"),
        )),
        _ => Err(unsound(&archive.path, "it does not have one dist-info folder")),
    }
}

pub(crate) fn read_utf8(archive: &mut Archive, entry: &str) -> Result<String, Error> {
    let path = archive.path.clone();
    let failed = |source| Error::Entry { path, entry: entry.to_owned(), source };
    let Some(index) = archive.position(entry) else {
        return Err(unsound(&archive.path, &format!("`{entry}` is missing")));
    };
    match archive.read_text(index).map(String::from_utf8) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(failed(io::Error::other(error))),
        Err(error) => Err(failed(error)),
    }
}

pub(crate) fn read_rows(archive: &mut Archive, record: &str) -> Result<Vec<RecordRow>, Error> {
    let text = read_utf8(archive, record)?;
    parse_record(text.as_bytes()).map_err(|reason| unsound(&archive.path, &reason))
}

/// WHEEL's text with other Tag lines in the place of its own; everything else stays.
fn with_tags(text: &str, tag: &WheelTag) -> String {
    let tags: String = tag.expanded().iter().map(|member| format!("Tag: {member}\n")).collect();
    let mut result = String::new();
    let mut placed = false;
    for line in text.lines() {
        let is_tag = line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("tag:"));
        if !is_tag {
            result.push_str(line);
            result.push('\n');
        } else if !placed {
            result.push_str(&tags);
            placed = true;
        }
    }
    if !placed {
        // Some makers end the file with an empty line, which ends the fields, too.
        result = format!("{}\n{tags}", result.trim_end());
    }
    result
}

/// Copies the archive with other contents for some entries, each in its own place, and without others.
fn copy_with(
    archive: &mut Archive,
    changed: &[(String, Vec<u8>)],
    dropped: &[String],
    path: &Path,
    file: &mut std::fs::File,
) -> Result<(), Error> {
    let is_changed =
        |entry: &Entry| changed.iter().find(|(name, _)| *name == entry.name).map(|(_, new)| new);
    let is_dropped = |entry: &Entry| dropped.contains(&entry.name);
    let is_touched = |entry: &Entry| is_changed(entry).is_some() || is_dropped(entry);
    let first = archive.entries.iter().position(is_touched);
    let n_copied = if archive.is_in_order() { first.unwrap_or(0) } else { 0 };
    let mut writer = start_with(archive, n_copied, path, file)?;
    for index in n_copied..archive.entries.len() {
        let entry = archive.entries[index].clone();
        if is_dropped(&entry) {
            continue;
        }
        match is_changed(&entry) {
            Some(contents) => write_like(&mut writer, &entry, contents, path)?,
            None => copy_raw(&mut writer, archive, index, path)?,
        }
    }
    finish(writer, path)
}

/// A writer whose archive has the first `n_entries` of another one already, copied by the kernel
/// in one piece where it can do so (and without any copying on file systems that share blocks).
fn start_with<'f>(
    archive: &mut Archive,
    n_entries: usize,
    path: &Path,
    mut file: &'f std::fs::File,
) -> Result<ZipWriter<&'f std::fs::File>, Error> {
    if n_entries == 0 {
        return Ok(ZipWriter::new(file));
    }
    let read = |source| Error::io("read", &archive.path)(source);
    let write = |source| Error::io("write", path)(source);
    let data_end = archive.entries[n_entries].start;
    let directory = archive.entries[0].directory_start;
    let directory_length = archive.entries[n_entries].directory_start - directory;
    // The plain files inside the wrappers: only for those does the standard library ask the kernel
    // to copy.
    let original = File::open(&archive.path).map_err(read)?;
    let mut original = original.file();
    io::copy(&mut original.take(data_end), &mut file).map_err(write)?;
    original.seek(SeekFrom::Start(directory)).map_err(read)?;
    io::copy(&mut original.take(directory_length), &mut file).map_err(write)?;
    file.write_all(&end_record(n_entries, directory_length, data_end)).map_err(write)?;
    let writer = ZipWriter::new_append(file).map_err(Error::zip("write", path))?;
    // The writer has read the directory and keeps its entries; it goes on where the file stands,
    // which it shares with `file`. The old directory makes room.
    file.set_len(data_end).map_err(write)?;
    file.seek(SeekFrom::Start(data_end)).map_err(write)?;
    Ok(writer)
}

/// The record that ends an archive (APPNOTE 4.3.16) of that many entries.
fn end_record(n_entries: usize, directory_length: u64, directory_start: u64) -> Vec<u8> {
    let count = (n_entries as u16).to_le_bytes();
    let mut record = b"PK\x05\x06\0\0\0\0".to_vec();
    record.extend(count);
    record.extend(count);
    record.extend((directory_length as u32).to_le_bytes());
    record.extend((directory_start as u32).to_le_bytes());
    record.extend([0, 0]);
    record
}

/// Writes new contents with the attributes that the entry had.
fn write_like<W: Write + Seek>(
    writer: &mut ZipWriter<W>,
    entry: &Entry,
    contents: &[u8],
    path: &Path,
) -> Result<(), Error> {
    let attributes = match entry.made_on {
        System::Unix => entry.external_attributes,
        _ => (S_IFREG | 0o644) << 16,
    };
    writer
        .start_file(entry.name.as_str(), deflated(attributes))
        .map_err(Error::zip("write", path))?;
    writer.write_all(contents).map_err(Error::io("write", path))
}

pub(crate) fn copy_raw<W: Write + Seek>(
    writer: &mut ZipWriter<W>,
    archive: &mut Archive,
    index: usize,
    path: &Path,
) -> Result<(), Error> {
    let source = archive.path.clone();
    let file = archive.zip.by_index_raw(index).map_err(Error::zip("read", source))?;
    writer.raw_copy_file(file).map_err(Error::zip("write", path))
}

pub(crate) fn finish<W: Write + Seek>(writer: ZipWriter<W>, path: &Path) -> Result<(), Error> {
    let mut inner = writer.finish().map_err(Error::zip("finish", path))?;
    let size = inner.stream_position().map_err(Error::io("write", path))?;
    if size > SIZE_LIMIT {
        return Err(Error::TooLarge { path: path.to_owned(), size });
    }
    inner.flush().map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_lines_are_replaced_where_they_were() {
        let tag: WheelTag = "py3-none-win_amd64.win_arm64".parse().unwrap();
        let both = "Tag: py3-none-win_amd64\nTag: py3-none-win_arm64\n";
        let table = [
            (
                "Wheel-Version: 1.0\nTag: a-b-c\nTag: a-b-d\nBuild: 1\n",
                format!("Wheel-Version: 1.0\n{both}Build: 1\n"),
            ),
            ("Wheel-Version: 1.0\r\ntag: a-b-c\r\n", format!("Wheel-Version: 1.0\n{both}")),
            ("Wheel-Version: 1.0\n\n", format!("Wheel-Version: 1.0\n{both}")),
            ("Tagged: x\n", format!("Tagged: x\n{both}")),
        ];
        for (text, expect) in table {
            assert_eq!(with_tags(text, &tag), expect, "{text:?}");
        }
    }
}
