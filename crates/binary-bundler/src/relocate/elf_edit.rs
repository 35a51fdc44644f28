//! Gives an ELF file a `DT_RPATH` without moving anything that is there, and takes folders out of the
//! names of the libraries that it needs.
//!
//! One loaded segment is appended. It holds the program headers (one more than before), the dynamic
//! string table with the new path, and the dynamic table when that had no free row. Nothing else
//! changes but the rows that name these three.
//!
//! Why not the crate `elb` 0.4.1, which was tried on Debian's libraries: it puts a program's headers
//! where file offset and address differ, and Linux before 5.18 computes `AT_PHDR` from the offset, so
//! that such a program dies at its start there. Why `DT_RPATH` and not `DT_RUNPATH`: only the former
//! also holds for what the libraries need, and cannot be overridden by `LD_LIBRARY_PATH`.

use crate::error::Error;
use std::path::Path;

const HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;
const SECTION_HEADER_LEN: usize = 64;
const ROW_LEN: usize = 16;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

const SHT_STRTAB: u32 = 3;
const SHT_DYNAMIC: u32 = 6;

const EM_AARCH64: u16 = 183;
const ET_EXEC: u16 = 2;

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

/// The file with `rpath` as its only search path; none when it has no dynamic table (a static file).
///
/// # Errors
/// When the file is not a 64-bit little-endian ELF file or is damaged.
pub fn set_rpath(path: &Path, bytes: &[u8], rpath: &str) -> Result<Option<Vec<u8>>, Error> {
    let damaged = |what: &'static str| Error::Edit { path: path.to_path_buf(), what };
    edit(bytes, rpath).map_err(damaged)
}

fn edit(bytes: &[u8], rpath: &str) -> Result<Option<Vec<u8>>, &'static str> {
    if bytes.len() < HEADER_LEN || !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Err("it is no 64-bit little-endian ELF file");
    }
    let mut segments = segments(bytes)?;
    let Some(dynamic_at) = segments.iter().position(|segment| segment.kind == PT_DYNAMIC) else {
        return Ok(None);
    };
    let dynamic = segments[dynamic_at];
    let table =
        slice(bytes, dynamic.offset, dynamic.file_size).ok_or("its dynamic table is cut off")?;
    let rows: Vec<(u64, u64)> =
        table.chunks_exact(ROW_LEN).map(|row| (u64_at(row, 0), u64_at(row, 8))).collect();
    // Some linkers leave the closing row out when asked for no free rows; the segment's end closes.
    let n_used = rows.iter().position(|(tag, _)| *tag == DT_NULL).unwrap_or(rows.len());
    let value = |wanted: u64| rows[..n_used].iter().find(|row| row.0 == wanted).map(|row| row.1);
    let strings_address = value(DT_STRTAB).ok_or("it has no dynamic strings")?;
    let strings_len = value(DT_STRSZ).ok_or("it has no dynamic strings")?;
    let strings_offset =
        offset_of(&segments, strings_address).ok_or("its dynamic strings are in no segment")?;
    let old_strings =
        slice(bytes, strings_offset, strings_len).ok_or("its dynamic strings are cut off")?;
    let mut strings = old_strings.to_vec();
    let rpath_at = strings.len() as u64;
    strings.extend(rpath.as_bytes());
    strings.push(0);

    // The rows that stay, with the path where its predecessor was, or at the end.
    let is_path = |tag: u64| matches!(tag, DT_RPATH | DT_RUNPATH);
    let mut kept: Vec<(u64, u64)> =
        rows[..n_used].iter().copied().filter(|row| !is_path(row.0)).collect();
    for row in kept.iter_mut().filter(|row| row.0 == DT_NEEDED) {
        row.1 += folder_len(old_strings, row.1);
    }
    kept.push((DT_RPATH, rpath_at));
    let moves_table = kept.len() + 1 > rows.len();

    let program_headers_len = (segments.len() + 1) * PROGRAM_HEADER_LEN;
    let table_len = if moves_table { (kept.len() + 1) * ROW_LEN } else { 0 };
    let content_len = program_headers_len + table_len + strings.len();
    let (offset, address) = place(bytes, &segments)?;
    let table_delta = program_headers_len as u64;
    let strings_delta = (program_headers_len + table_len) as u64;

    for row in &mut kept {
        match row.0 {
            DT_STRTAB => row.1 = address + strings_delta,
            DT_STRSZ => row.1 = strings.len() as u64,
            _ => {}
        }
    }
    if moves_table {
        let segment = &mut segments[dynamic_at];
        segment.offset = offset + table_delta;
        segment.address = address + table_delta;
        segment.file_size = table_len as u64;
        segment.memory_size = table_len as u64;
    }
    for segment in segments.iter_mut().filter(|segment| segment.kind == PT_PHDR) {
        segment.offset = offset;
        segment.address = address;
        segment.file_size = program_headers_len as u64;
        segment.memory_size = program_headers_len as u64;
    }
    // Loaded segments stand in the order of their addresses, and this is the highest.
    let after_last =
        segments.iter().rposition(|segment| segment.kind == PT_LOAD).map_or(0, |at| at + 1);
    const READ: u32 = 4;
    const WRITE: u32 = 2;
    // The loader writes into the dynamic table (`DT_DEBUG`).
    let flags = if moves_table { READ | WRITE } else { READ };
    let size = content_len as u64;
    segments.insert(
        after_last,
        Segment {
            kind: PT_LOAD,
            flags,
            offset,
            address,
            file_size: size,
            memory_size: size,
            alignment: page(bytes),
        },
    );

    let mut edited = bytes.to_vec();
    if !moves_table {
        let start = dynamic.offset as usize;
        let whole = kept.iter().copied().chain(std::iter::repeat((DT_NULL, 0))).take(rows.len());
        write_rows(&mut edited[start..start + rows.len() * ROW_LEN], whole);
    }
    edited.resize(offset as usize, 0);
    for segment in &segments {
        edited.extend(header_bytes(segment));
    }
    if moves_table {
        let start = edited.len();
        edited.resize(start + table_len, 0);
        write_rows(&mut edited[start..], kept.iter().copied());
    }
    edited.extend(&strings);
    edited[32..40].copy_from_slice(&offset.to_le_bytes());
    let n_segments = u16::try_from(segments.len()).map_err(|_| "it has too many segments")?;
    edited[56..58].copy_from_slice(&n_segments.to_le_bytes());
    let moved_table =
        moves_table.then_some((address + table_delta, offset + table_delta, table_len as u64));
    let moved_strings = (address + strings_delta, offset + strings_delta, strings.len() as u64);
    update_sections(&mut edited, strings_address, moved_strings, moved_table);
    Ok(Some(edited))
}

/// How much of a library's name is a folder: a library without a soname is recorded by the path that it
/// was linked by, which no search path changes. The name's end is a string of its own in the table.
fn folder_len(strings: &[u8], at: u64) -> u64 {
    let text = usize::try_from(at).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
    let name = text.split(|byte| *byte == 0).next().unwrap_or_default();
    name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash as u64 + 1)
}

/// File offset and address of the new segment.
fn place(bytes: &[u8], segments: &[Segment]) -> Result<(u64, u64), &'static str> {
    let page = page(bytes);
    let loaded = || segments.iter().filter(|segment| segment.kind == PT_LOAD);
    let first = loaded().next().ok_or("it has no loaded segment")?;
    let end = loaded().map(|segment| segment.address.saturating_add(segment.memory_size)).max();
    let end = end.unwrap_or(0).checked_next_multiple_of(page).ok_or("its addresses overflow")?;
    let offset = (bytes.len() as u64).next_multiple_of(page);
    let is_program =
        u16_at(bytes, 16) == ET_EXEC || segments.iter().any(|segment| segment.kind == PT_INTERP);
    if !is_program {
        return Ok((offset, end));
    }
    // Invariant: in a program the headers' address is their offset plus what the first segment has
    // between the two; Linux before 5.18 takes it to be so. The file is padded with a hole for that.
    let distance =
        first.address.checked_sub(first.offset).ok_or("its first segment is misplaced")?;
    let offset = offset.max(end.saturating_sub(distance));
    /// Uninitialised data of more than this would make the file absurdly long.
    const MAX_PADDING: u64 = 256 << 20;
    if offset - bytes.len() as u64 > MAX_PADDING {
        return Err("its uninitialised data is too large");
    }
    Ok((offset, offset + distance))
}

/// The largest page of the machine: arm64 kernels may use 64 KiB.
fn page(bytes: &[u8]) -> u64 {
    if u16_at(bytes, 18) == EM_AARCH64 { 0x10000 } else { 0x1000 }
}

fn segments(bytes: &[u8]) -> Result<Vec<Segment>, &'static str> {
    let (start, n, len) = (u64_at(bytes, 32), u16_at(bytes, 56), u16_at(bytes, 54));
    if usize::from(len) != PROGRAM_HEADER_LEN {
        return Err("its program headers have an unknown length");
    }
    let table = slice(bytes, start, u64::from(n) * PROGRAM_HEADER_LEN as u64);
    let rows = table.ok_or("its program headers are cut off")?.chunks_exact(PROGRAM_HEADER_LEN);
    Ok(rows
        .map(|row| Segment {
            kind: u32_at(row, 0),
            flags: u32_at(row, 4),
            offset: u64_at(row, 8),
            address: u64_at(row, 16),
            file_size: u64_at(row, 32),
            memory_size: u64_at(row, 40),
            alignment: u64_at(row, 48),
        })
        .collect())
}

fn header_bytes(segment: &Segment) -> [u8; PROGRAM_HEADER_LEN] {
    let mut row = [0; PROGRAM_HEADER_LEN];
    row[0..4].copy_from_slice(&segment.kind.to_le_bytes());
    row[4..8].copy_from_slice(&segment.flags.to_le_bytes());
    let words = [
        segment.offset,
        segment.address,
        // The physical address, which nothing here uses.
        segment.address,
        segment.file_size,
        segment.memory_size,
        segment.alignment,
    ];
    for (index, word) in words.iter().enumerate() {
        row[8 + index * 8..16 + index * 8].copy_from_slice(&word.to_le_bytes());
    }
    row
}

fn offset_of(segments: &[Segment], address: u64) -> Option<u64> {
    let holds = |segment: &&Segment| {
        segment.kind == PT_LOAD
            && address.checked_sub(segment.address).is_some_and(|delta| delta < segment.file_size)
    };
    let segment = segments.iter().find(holds)?;
    segment.offset.checked_add(address - segment.address)
}

/// Section headers are for tools (readelf, gdb): kept true where they are.
fn update_sections(
    edited: &mut [u8],
    old_strings: u64,
    strings: (u64, u64, u64),
    table: Option<(u64, u64, u64)>,
) {
    let (start, n, len) = (u64_at(edited, 40), u16_at(edited, 60), u16_at(edited, 58));
    if start == 0 || usize::from(len) != SECTION_HEADER_LEN {
        return;
    }
    for index in 0..u64::from(n) {
        let at =
            start.checked_add(index * SECTION_HEADER_LEN as u64).and_then(|at| at.try_into().ok());
        let row = at.and_then(|at: usize| edited.get_mut(at..at.checked_add(SECTION_HEADER_LEN)?));
        let Some(row) = row else { return };
        let moved = match u32_at(row, 4) {
            SHT_DYNAMIC => table,
            SHT_STRTAB if u64_at(row, 16) == old_strings => Some(strings),
            _ => None,
        };
        if let Some((address, offset, size)) = moved {
            for (at, word) in [(16, address), (24, offset), (32, size)] {
                row[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

fn write_rows(place: &mut [u8], rows: impl Iterator<Item = (u64, u64)>) {
    for (place, (tag, value)) in place.chunks_exact_mut(ROW_LEN).zip(rows) {
        place[..8].copy_from_slice(&tag.to_le_bytes());
        place[8..].copy_from_slice(&value.to_le_bytes());
    }
}

fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(len)?).ok()?)
}

// The callers have checked the lengths: the header is whole and rows are whole.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
