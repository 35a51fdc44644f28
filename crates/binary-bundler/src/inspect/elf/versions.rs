//! The symbol versions that a file asks for, found as a loader finds them: through `DT_VERNEED` and
//! `DT_VERSYM` of the dynamic segment and the addresses of the loaded segments.
//!
//! The format: the Linux Standard Base, "Symbol Versioning". Must not look at section headers.

use super::Import;
use goblin::elf::{Elf as Parsed, dynamic, program_header::PT_LOAD, sym};
use std::collections::BTreeMap;

/// No real file asks for so many: a longer chain is a circle.
const MAX_VERSIONS: usize = 1 << 16;

/// The versions asked of each library, and the imported symbols that have none.
pub(super) fn imports(
    parsed: &Parsed<'_>,
    bytes: &[u8],
) -> (BTreeMap<String, Vec<Import>>, Vec<String>) {
    let image = Image { parsed, bytes };
    let versym = image.address_of(dynamic::DT_VERSYM);
    let mut witness: BTreeMap<u16, String> = BTreeMap::new();
    let mut unversioned = Vec::new();
    for (index, symbol) in parsed.dynsyms.iter().enumerate() {
        let bind = symbol.st_bind();
        // Invariant of the format: symbol 0 is empty. A program's import may have an address.
        if index == 0 || symbol.st_shndx != 0 || bind == sym::STB_LOCAL {
            continue;
        }
        let name = parsed.dynstrtab.get_at(symbol.st_name).unwrap_or_default();
        let version = versym.and_then(|at| image.u16(at.checked_add(2 * index as u64)?));
        match version.map(|version| version & 0x7fff) {
            // 0 is local and 1 global: neither names a version.
            None | Some(0 | 1) => {
                if bind != sym::STB_WEAK {
                    unversioned.push(name.to_owned());
                }
            }
            Some(version) => {
                witness.entry(version).or_insert_with(|| name.to_owned());
            }
        }
    }
    (asked(&image, &witness), unversioned)
}

/// The chain of libraries, each with its chain of versions. The counts beside them are ignored, as
/// glibc ignores them: a chain ends where its next offset is 0.
fn asked(image: &Image<'_, '_>, witness: &BTreeMap<u16, String>) -> BTreeMap<String, Vec<Import>> {
    let mut versions: BTreeMap<String, Vec<Import>> = BTreeMap::new();
    let mut library = image.address_of(dynamic::DT_VERNEED);
    let mut n_versions = 0;
    while let Some(at) = library {
        let name = image.u32(at.saturating_add(4)).and_then(|name| image.text(name));
        let mut version = offset(at, image.u32(at.saturating_add(8)));
        while let Some(at) = version {
            n_versions += 1;
            if n_versions > MAX_VERSIONS {
                return versions;
            }
            const VER_FLG_WEAK: u16 = 2;
            let flags = image.u16(at.saturating_add(4)).unwrap_or_default();
            let index = image.u16(at.saturating_add(6)).unwrap_or_default() & 0x7fff;
            let text = image.u32(at.saturating_add(8)).and_then(|name| image.text(name));
            if let (Some(library), Some(version)) = (name, text) {
                versions.entry(library.to_owned()).or_default().push(Import {
                    version: version.to_owned(),
                    symbol: witness.get(&index).cloned().unwrap_or_default(),
                    is_weak: flags & VER_FLG_WEAK != 0,
                });
            }
            version = offset(at, image.u32(at.saturating_add(12)));
        }
        n_versions += 1;
        if n_versions > MAX_VERSIONS {
            return versions;
        }
        library = offset(at, image.u32(at.saturating_add(12)));
    }
    versions
}

/// The next entry of a chain; none at its end.
fn offset(at: u64, by: Option<u32>) -> Option<u64> {
    at.checked_add(u64::from(by.filter(|by| *by != 0)?))
}

/// The file as it is loaded.
struct Image<'a, 'b> {
    parsed: &'a Parsed<'b>,
    bytes: &'a [u8],
}

impl<'b> Image<'_, 'b> {
    fn address_of(&self, tag: u64) -> Option<u64> {
        let entries = self.parsed.dynamic.iter().flat_map(|dynamic| &dynamic.dyns);
        entries.filter(|entry| entry.d_tag == tag).map(|entry| entry.d_val).next_back()
    }

    fn at<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let segment = self.parsed.program_headers.iter().find(|segment| {
            segment.p_type == PT_LOAD
                && address
                    .checked_sub(segment.p_vaddr)
                    .and_then(|within| within.checked_add(N as u64))
                    .is_some_and(|end| end <= segment.p_filesz)
        })?;
        let start = segment.p_offset.checked_add(address - segment.p_vaddr)?;
        let start = usize::try_from(start).ok()?;
        self.bytes.get(start..start.checked_add(N)?)?.try_into().ok()
    }

    fn u16(&self, address: u64) -> Option<u16> {
        let bytes = self.at(address)?;
        Some(match self.parsed.little_endian {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        })
    }

    fn u32(&self, address: u64) -> Option<u32> {
        let bytes = self.at(address)?;
        Some(match self.parsed.little_endian {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        })
    }

    fn text(&self, at: u32) -> Option<&'b str> {
        self.parsed.dynstrtab.get_at(at as usize)
    }
}
