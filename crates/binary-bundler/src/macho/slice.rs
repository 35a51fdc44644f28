//! One slice: its load commands are written again with the new names, then it is signed.
//!
//! The format: `mach-o/loader.h`. The commands may grow into the free room before the first section
//! (`-headerpad_max_install_names` makes it large); nothing after them moves.

use super::{Change, le_u32, le_u64, sign};

const MH_MAGIC_64: u32 = 0xfeed_facf;
const HEADER_LEN: usize = 32;
const MH_EXECUTE: u32 = 2;
const CPU_TYPE_ARM64: u32 = 0x0100_000c;

const LC_SEGMENT_64: u32 = 0x19;
const LC_ID_DYLIB: u32 = 0xd;
const LC_LOAD_DYLIB: u32 = 0xc;
const LC_LOAD_WEAK_DYLIB: u32 = 0x8000_0018;
const LC_REEXPORT_DYLIB: u32 = 0x8000_001f;
const LC_LAZY_LOAD_DYLIB: u32 = 0x20;
const LC_LOAD_UPWARD_DYLIB: u32 = 0x8000_0023;
const LC_RPATH: u32 = 0x8000_001c;
const LC_CODE_SIGNATURE: u32 = 0x1d;

const CUT_OFF: &str = "its load commands are cut off";

/// What of a slice's segments the signature must know.
pub(super) struct Layout {
    pub(super) text_offset: u64,
    pub(super) text_size: u64,
    pub(super) is_program: bool,
    linkedit: Option<usize>,
    first_section: usize,
}

#[cfg(test)]
impl Layout {
    pub(super) fn from_text_segment(text_offset: u64, text_size: u64, is_program: bool) -> Self {
        Self { text_offset, text_size, is_program, linkedit: None, first_section: 0 }
    }
}

pub(super) fn change(bytes: &[u8], change: &Change) -> Result<Vec<u8>, &'static str> {
    if le_u32(bytes, 0) != Some(MH_MAGIC_64) {
        return Err("it is no 64-bit little-endian Mach-O file");
    }
    let mut commands: Vec<Vec<u8>> = Vec::new();
    for command in commands_of(bytes)? {
        let kind = le_u32(command, 0).ok_or(CUT_OFF)?;
        match kind {
            LC_RPATH | LC_CODE_SIGNATURE => {}
            LC_ID_DYLIB => match &change.install_name {
                Some(name) => commands.push(with_name(command, name)?),
                None => commands.push(command.to_vec()),
            },
            LC_LOAD_DYLIB | LC_LOAD_WEAK_DYLIB | LC_REEXPORT_DYLIB | LC_LAZY_LOAD_DYLIB
            | LC_LOAD_UPWARD_DYLIB => {
                let old = name_of(command)?;
                match change.libraries.iter().find(|(from, _)| from.as_bytes() == old) {
                    Some((_, new)) => commands.push(with_name(command, new)?),
                    None => commands.push(command.to_vec()),
                }
            }
            _ => commands.push(command.to_vec()),
        }
    }
    let code_limit = code_limit(bytes)?;
    let layout = layout(bytes, &commands)?;
    let signature_len = sign::len(code_limit, &change.identifier, &change.entitlements);
    let linkedit = layout.linkedit.ok_or("it has no __LINKEDIT segment")?;
    grow_linkedit(bytes, &mut commands[linkedit], code_limit + signature_len)?;
    let mut signature = LC_CODE_SIGNATURE.to_le_bytes().to_vec();
    for word in [16, code_limit, signature_len] {
        signature.extend(u32::try_from(word).map_err(|_| "it is larger than 4 GB")?.to_le_bytes());
    }
    commands.push(signature);

    let written: Vec<u8> = commands.concat();
    let end = HEADER_LEN + written.len();
    if end > layout.first_section {
        return Err(
            "its load commands have no room for longer names; link it with -headerpad_max_install_names",
        );
    }
    let mut edited = bytes.get(..code_limit.min(bytes.len())).unwrap_or(bytes).to_vec();
    edited.resize(code_limit, 0);
    let old_end = HEADER_LEN + le_u32(bytes, 20).ok_or(CUT_OFF)? as usize;
    // A signature that begins within the load commands would leave nothing of them.
    if end.max(old_end) > code_limit {
        return Err(CUT_OFF);
    }
    edited[HEADER_LEN..end].copy_from_slice(&written);
    if old_end > end {
        edited[end..old_end].fill(0);
    }
    edited[16..20].copy_from_slice(&(commands.len() as u32).to_le_bytes());
    edited[20..24].copy_from_slice(&(written.len() as u32).to_le_bytes());
    let signature = sign::sign(&edited, &layout, &change.identifier, &change.entitlements);
    edited.extend(signature);
    Ok(edited)
}

/// Each load command with its whole length.
pub(super) fn commands_of(bytes: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let n_commands = le_u32(bytes, 16).ok_or(CUT_OFF)?;
    let mut at = HEADER_LEN;
    let mut commands = Vec::new();
    for _ in 0..n_commands {
        let len = le_u32(bytes, at + 4).ok_or(CUT_OFF)? as usize;
        if len < 8 {
            return Err("a load command has no length");
        }
        commands.push(bytes.get(at..at.checked_add(len).ok_or(CUT_OFF)?).ok_or(CUT_OFF)?);
        at += len;
    }
    Ok(commands)
}

/// The bytes that the signature covers: all before the old signature, or the whole slice.
fn code_limit(bytes: &[u8]) -> Result<usize, &'static str> {
    for command in commands_of(bytes)? {
        if le_u32(command, 0) == Some(LC_CODE_SIGNATURE) {
            let at = le_u32(command, 8).ok_or(CUT_OFF)? as usize;
            return if at <= bytes.len() { Ok(at) } else { Err("its signature is cut off") };
        }
    }
    Ok(bytes.len().next_multiple_of(16))
}

fn layout(bytes: &[u8], commands: &[Vec<u8>]) -> Result<Layout, &'static str> {
    let mut layout = Layout {
        text_offset: 0,
        text_size: 0,
        is_program: le_u32(bytes, 12) == Some(MH_EXECUTE),
        linkedit: None,
        first_section: bytes.len(),
    };
    for (index, command) in commands.iter().enumerate() {
        if le_u32(command, 0) != Some(LC_SEGMENT_64) {
            continue;
        }
        let name = command.get(8..24).ok_or(CUT_OFF)?;
        let (offset, size) =
            (le_u64(command, 40).ok_or(CUT_OFF)?, le_u64(command, 48).ok_or(CUT_OFF)?);
        if name.starts_with(b"__TEXT\0") {
            (layout.text_offset, layout.text_size) = (offset, size);
        }
        if name.starts_with(b"__LINKEDIT\0") {
            layout.linkedit = Some(index);
        }
        const SECTION_LEN: usize = 80;
        let n_sections = le_u32(command, 64).ok_or(CUT_OFF)? as usize;
        for section in 0..n_sections {
            let at = 72 + section * SECTION_LEN;
            let start = le_u32(command, at + 48).ok_or(CUT_OFF)? as usize;
            // Sections without bytes in the file (zero-filled) have the offset 0.
            if start > 0 {
                layout.first_section = layout.first_section.min(start);
            }
        }
    }
    Ok(layout)
}

/// The segment of the symbol tables ends with the file, and with it the signature.
fn grow_linkedit(bytes: &[u8], command: &mut [u8], file_end: usize) -> Result<(), &'static str> {
    let start = le_u64(command, 40).ok_or(CUT_OFF)? as usize;
    let size = file_end.checked_sub(start).ok_or("its __LINKEDIT segment is not the last")?;
    let page = if le_u32(bytes, 4) == Some(CPU_TYPE_ARM64) { 0x4000 } else { 0x1000 };
    let memory = (size as u64).next_multiple_of(page).max(le_u64(command, 32).ok_or(CUT_OFF)?);
    command[32..40].copy_from_slice(&memory.to_le_bytes());
    command[48..56].copy_from_slice(&(size as u64).to_le_bytes());
    Ok(())
}

/// The name in a library command, whose offset stands in its third word.
fn name_of(command: &[u8]) -> Result<&[u8], &'static str> {
    let start = le_u32(command, 8).ok_or(CUT_OFF)? as usize;
    let text = command.get(start..).ok_or(CUT_OFF)?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    Ok(&text[..end])
}

/// The same command with another name, padded to eight bytes. What stands before the name stays: newer
/// linkers put flags there (`dylib_use_command`).
fn with_name(command: &[u8], name: &str) -> Result<Vec<u8>, &'static str> {
    const USUAL_LEN: usize = 24;
    const DYLIB_USE_LEN: usize = 28;
    const DYLIB_USE_MARKER: u32 = 0x1a74_1800;
    let is_use = le_u32(command, 12) == Some(DYLIB_USE_MARKER)
        && le_u32(command, 8) == Some(DYLIB_USE_LEN as u32);
    let fixed_len = if is_use { DYLIB_USE_LEN } else { USUAL_LEN };
    let mut new = command.get(..fixed_len).ok_or(CUT_OFF)?.to_vec();
    new.extend(name.as_bytes());
    new.push(0);
    new.resize(new.len().next_multiple_of(8), 0);
    let len = new.len() as u32;
    new[4..8].copy_from_slice(&len.to_le_bytes());
    new[8..12].copy_from_slice(&(fixed_len as u32).to_le_bytes());
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library whose only segment is `__LINKEDIT`, and whose signature begins at `signature`.
    fn library(signature: u32, commands_len: u32) -> Vec<u8> {
        let mut bytes = vec![];
        for word in [MH_MAGIC_64, CPU_TYPE_ARM64, 0, 6, 2, commands_len, 0, 0, LC_SEGMENT_64, 72] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(b"__LINKEDIT\0\0\0\0\0\0");
        bytes.extend([0; 48]);
        for word in [LC_CODE_SIGNATURE, 16, signature, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.resize(4096, 0);
        bytes
    }

    #[test]
    fn flags_before_a_name_stay() {
        let words = [LC_LOAD_DYLIB, 40, 28, 0x1a74_1800, 0x1_0000, 0x1_0000, 0x0d];
        let mut command: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        command.extend(b"/a/b.dylib\0\0");
        let new = with_name(&command, "@loader_path/b.dylib").unwrap();
        assert_eq!(name_of(&new).unwrap(), b"@loader_path/b.dylib");
        assert_eq!(le_u32(&new, 24), Some(0x0d));
        assert_eq!((le_u32(&new, 4), new.len() % 8), (Some(new.len() as u32), 0));
    }

    #[test]
    fn a_signature_within_the_load_commands_is_refused() {
        assert!(change(&library(4096, 88), &Change::default()).is_ok());
        for (signature, commands_len) in
            [(0, 88), (40, 88), (119, 88), (200, 4000), (200, u32::MAX)]
        {
            let edited = change(&library(signature, commands_len), &Change::default());
            assert_eq!(edited.err(), Some(CUT_OFF), "{signature} {commands_len}");
        }
    }
}
