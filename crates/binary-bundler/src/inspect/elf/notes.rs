//! What the notes of an ELF file say: the processor that it needs, the libraries that it loads while
//! it runs, the Android that it is made for.
//!
//! The formats: the System V ABI, "Note Section"; "Linux Extensions to gABI", program properties;
//! "ELF dlopen metadata" of the UAPI group; Android's `.note.android.ident`.

use super::{Dlopen, Priority};
use goblin::elf::{Elf as Parsed, program_header::PT_NOTE};
use serde::Deserialize;

/// What the notes say.
pub(super) struct Notes {
    pub(super) isa_level: u8,
    pub(super) dlopened: Vec<Dlopen>,
    pub(super) android_api: Option<u32>,
}

/// The segment of properties, which some linkers write without a note segment around it.
const PT_GNU_PROPERTY: u32 = 0x6474_e553;

const NT_GNU_PROPERTY_TYPE_0: u32 = 5;
const NT_ANDROID_IDENT: u32 = 1;
const NT_FDO_DLOPEN: u32 = 0x407c_0c0a;

pub(super) fn read(parsed: &Parsed<'_>, bytes: &[u8]) -> Notes {
    let mut found = Notes { isa_level: 1, dlopened: Vec::new(), android_api: None };
    for segment in &parsed.program_headers {
        if !matches!(segment.p_type, PT_NOTE | PT_GNU_PROPERTY) {
            continue;
        }
        let range = usize::try_from(segment.p_offset).ok().zip(
            segment
                .p_offset
                .checked_add(segment.p_filesz)
                .and_then(|end| usize::try_from(end).ok()),
        );
        let Some(data) = range.and_then(|(start, end)| bytes.get(start..end.min(bytes.len())))
        else {
            continue;
        };
        let alignment = if segment.p_align == 8 { 8 } else { 4 };
        notes(data, alignment, parsed.little_endian, |owner, kind, text| match (owner, kind) {
            (b"GNU", NT_GNU_PROPERTY_TYPE_0) if parsed.is_x86() => {
                found.isa_level = found.isa_level.max(isa_level(text, parsed.is_64));
            }
            (b"Android", NT_ANDROID_IDENT) => {
                found.android_api = found.android_api.or(u32_at(text, 0, parsed.little_endian));
            }
            (b"FDO", NT_FDO_DLOPEN) => {
                for library in dlopened(text) {
                    if !found.dlopened.contains(&library) {
                        found.dlopened.push(library);
                    }
                }
            }
            _ => {}
        });
    }
    found
}

trait IsX86 {
    fn is_x86(&self) -> bool;
}

impl IsX86 for Parsed<'_> {
    fn is_x86(&self) -> bool {
        use goblin::elf::header::{EM_386, EM_X86_64};
        matches!(self.header.e_machine, EM_386 | EM_X86_64)
    }
}

/// Calls `each` with the owner (without its zero), the type and the description of each note.
fn notes(data: &[u8], alignment: usize, is_little: bool, mut each: impl FnMut(&[u8], u32, &[u8])) {
    let mut at = 0_usize;
    while let (Some(name_len), Some(text_len), Some(kind)) = (
        u32_at(data, at, is_little),
        u32_at(data, at + 4, is_little),
        u32_at(data, at + 8, is_little),
    ) {
        let name_at = at + 12;
        let Some(text_at) = name_at
            .checked_add(name_len as usize)
            .and_then(|end| end.checked_next_multiple_of(alignment))
        else {
            return;
        };
        let Some(end) = text_at.checked_add(text_len as usize) else { return };
        let (Some(name), Some(text)) =
            (data.get(name_at..name_at + name_len as usize), data.get(text_at..end))
        else {
            return;
        };
        each(name.strip_suffix(b"\0").unwrap_or(name), kind, text);
        let Some(next) = end.checked_next_multiple_of(alignment) else { return };
        at = next;
    }
}

fn u32_at(data: &[u8], at: usize, is_little: bool) -> Option<u32> {
    let bytes: [u8; 4] = data.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
}

/// The highest level that the property of needed instruction sets names; x86 is little-endian.
fn isa_level(properties: &[u8], is_64: bool) -> u8 {
    const GNU_PROPERTY_X86_ISA_1_NEEDED: u32 = 0xc000_8002;
    let alignment = if is_64 { 8 } else { 4 };
    let mut at = 0_usize;
    let mut level = 1;
    while let (Some(kind), Some(len)) =
        (u32_at(properties, at, true), u32_at(properties, at + 4, true))
    {
        if kind == GNU_PROPERTY_X86_ISA_1_NEEDED {
            let bits = u32_at(properties, at + 8, true).unwrap_or_default();
            // Bit 0 is the baseline, bit 1 x86-64-v2, and so on.
            for (bit, of_bit) in [(2, 2), (4, 3), (8, 4)] {
                if bits & bit != 0 {
                    level = level.max(of_bit);
                }
            }
        }
        let next = (at + 8).checked_add(len as usize);
        let Some(next) = next.and_then(|end| end.checked_next_multiple_of(alignment)) else {
            return level;
        };
        at = next;
    }
    level
}

#[derive(Deserialize)]
struct Row {
    soname: Vec<String>,
    #[serde(default)]
    priority: String,
}

/// The libraries of a note's JSON; a note that is not JSON says nothing.
fn dlopened(text: &[u8]) -> Vec<Dlopen> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let rows: Vec<Row> = serde_json::from_slice(&text[..end]).unwrap_or_default();
    rows.into_iter()
        .filter(|row| !row.soname.is_empty())
        .map(|row| Dlopen {
            names: row.soname,
            priority: match row.priority.as_str() {
                "required" => Priority::Required,
                "suggested" => Priority::Suggested,
                // "If not specified, recommended is assumed."
                _ => Priority::Recommended,
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_walked_by_their_alignment() {
        let note = |owner: &[u8], kind: u32, text: &[u8], alignment: usize| {
            let mut note = Vec::new();
            for word in [owner.len() as u32 + 1, text.len() as u32, kind] {
                note.extend(word.to_le_bytes());
            }
            note.extend(owner);
            note.push(0);
            note.resize(note.len().next_multiple_of(alignment), 0);
            note.extend(text);
            note.resize(note.len().next_multiple_of(alignment), 0);
            note
        };
        for alignment in [4, 8] {
            let data = [
                note(b"GNU", 3, b"build", alignment),
                note(b"FDO", 7, b"abcdefg", alignment),
                note(b"Android", 1, &[21, 0, 0, 0], alignment),
            ]
            .concat();
            let mut found = Vec::new();
            notes(&data, alignment, true, |owner, kind, text| {
                found.push((String::from_utf8_lossy(owner).into_owned(), kind, text.len()));
            });
            let expect = [("GNU", 3, 5), ("FDO", 7, 7), ("Android", 1, 4)]
                .map(|(owner, kind, len)| (owner.to_owned(), kind, len));
            assert_eq!(found, expect, "{alignment}");
        }
    }

    #[test]
    fn the_highest_needed_level_counts() {
        let property = |kind: u32, bits: u32| {
            [kind.to_le_bytes(), 4_u32.to_le_bytes(), bits.to_le_bytes(), [0; 4]].concat()
        };
        let check = |properties: &[u8], level| assert_eq!(isa_level(properties, true), level);
        check(&[], 1);
        check(&property(0xc000_8002, 1), 1);
        check(&[property(0xc000_0002, 3), property(0xc000_8002, 7)].concat(), 3);
        // What is used where the processor has it is not needed.
        check(&property(0xc001_0002, 0xf), 1);
    }

    #[test]
    fn what_is_loaded_while_running_has_a_priority() {
        let text =
            br#"[{"feature":"idn","priority":"required","soname":["libidn2.so.0","libidn.so.1"]},
            {"soname":["liba.so"]}]"#;
        let found = dlopened(&[&text[..], b"\0\0"].concat());
        assert_eq!(found[0].names, ["libidn2.so.0", "libidn.so.1"]);
        assert_eq!(found[0].priority, Priority::Required);
        assert_eq!(found[1].priority, Priority::Recommended);
        assert!(dlopened(b"[{").is_empty());
    }
}
