//! Reads the oldest system that an ELF file runs on out of the file itself: the architecture, the
//! libraries that it asks for, and the highest glibc that its symbols are bound to.
//!
//! The format: the ELF part of the System V ABI, and the symbol versions of the Linux Standard
//! Base (`.gnu.version_r`). Nothing here believes a file name or a build setting.

use crate::{error::Error, libc_version::LibcVersion};
use goblin::elf::{Elf, header, note};
use host_platform::Arch;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// How a file finds its libraries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// No loader and no library: the kernel alone runs it.
    Static,
    /// The sonames that the loader must find, in the file's order.
    Dynamic(Vec<String>),
}

/// The highest version of one name space (`GLIBC`, `GCC`, ...) and a symbol that is bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The version's whole name, for example `GLIBC_2.38`.
    pub version: String,
    pub symbol: String,
}

/// What an ELF file asks of the system below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfFloor {
    /// The file, for messages.
    pub path: PathBuf,
    /// The machine that it runs on.
    pub arch: Arch,
    /// Static, or the libraries that it asks for.
    pub linkage: Linkage,
    /// The oldest kernel that the file's own note names, as (major, minor, patch).
    pub kernel: Option<(u32, u32, u32)>,
    /// The highest glibc version that a symbol is bound to; none for a static file.
    pub glibc: Option<LibcVersion>,
    /// The highest version in each name space, with a symbol as witness.
    pub bounds: BTreeMap<String, Bound>,
}

impl ElfFloor {
    /// The symbol that sets the glibc floor.
    pub fn glibc_witness(&self) -> Option<&Bound> {
        let is_it = |bound: &&Bound| libc_version(&bound.version) == self.glibc;
        self.glibc.and_then(|_| self.bounds.values().find(is_it))
    }
}

/// Reads the floor of the file at `path`.
///
/// # Errors
/// When the file cannot be read or is not a 64-bit little-endian ELF file of x86_64 or aarch64.
pub fn audit_elf(path: &Path) -> Result<ElfFloor, Error> {
    audit_elf_bytes(path, &fs_err::read(path)?)
}

/// Reads the floor of a file's bytes; `path` only names it in messages.
///
/// # Errors
/// As [`audit_elf`], but for reading.
pub fn audit_elf_bytes(path: &Path, bytes: &[u8]) -> Result<ElfFloor, Error> {
    let parse = |source| Error::Parse { path: path.to_path_buf(), source };
    let elf = Elf::parse(bytes).map_err(parse)?;
    let arch = match (elf.header.e_machine, elf.is_64, elf.little_endian) {
        (header::EM_X86_64, true, true) => Arch::Amd64,
        (header::EM_AARCH64, true, true) => Arch::Arm64,
        (machine, ..) => {
            let machine = header::machine_to_str(machine).to_owned();
            return Err(Error::Machine { path: path.to_path_buf(), machine });
        }
    };
    let needed: Vec<String> = elf.libraries.iter().map(|name| (*name).to_owned()).collect();
    let linkage = if needed.is_empty() && elf.interpreter.is_none() {
        Linkage::Static
    } else {
        Linkage::Dynamic(needed)
    };
    let bounds = bounds(&elf);
    let glibc = bounds.values().filter_map(|bound| libc_version(&bound.version)).max();
    Ok(ElfFloor {
        path: path.to_path_buf(),
        arch,
        linkage,
        kernel: kernel_floor(&elf, bytes),
        glibc,
        bounds,
    })
}

fn bounds(elf: &Elf<'_>) -> BTreeMap<String, Bound> {
    let mut highest: BTreeMap<String, Bound> = BTreeMap::new();
    let Some(verneed) = &elf.verneed else { return highest };
    let symbols = symbols_by_version(elf);
    for library in verneed.iter() {
        for version in library.iter() {
            let Some(name) = elf.dynstrtab.get_at(version.vna_name) else { continue };
            // A version without a number (`GLIBC_PRIVATE`) is a name space of its own, so that a
            // numbered one cannot hide it.
            let space = match version_key(name)[..] {
                [] => name,
                _ => name.split_once('_').map_or(name, |(space, _)| space),
            };
            let is_higher = highest
                .get(space)
                .is_none_or(|bound| version_key(name) > version_key(&bound.version));
            if is_higher {
                let symbol = symbols.get(&version.vna_other).cloned().unwrap_or_default();
                highest.insert(space.to_owned(), Bound { version: name.to_owned(), symbol });
            }
        }
    }
    highest
}

/// One symbol for each version index, the first in the file's order.
fn symbols_by_version(elf: &Elf<'_>) -> BTreeMap<u16, String> {
    let mut symbols = BTreeMap::new();
    let Some(versym) = &elf.versym else { return symbols };
    for (symbol, version) in elf.dynsyms.iter().zip(versym.iter()) {
        let name = elf.dynstrtab.get_at(symbol.st_name).unwrap_or_default();
        if symbol.is_import() && !name.is_empty() {
            symbols.entry(version.version()).or_insert_with(|| name.to_owned());
        }
    }
    symbols
}

/// Orders `GLIBC_2.9` before `GLIBC_2.17`: by numbers, never as text.
fn version_key(name: &str) -> Vec<u32> {
    let numbers = name.split_once('_').map_or("", |(_, numbers)| numbers);
    numbers.split('.').map_while(|part| part.parse().ok()).collect()
}

/// The glibc that a version's name stands for; none for the names of other libraries and for
/// `GLIBC_PRIVATE`, which ties a file to one build of glibc.
pub(crate) fn libc_version(name: &str) -> Option<LibcVersion> {
    // Packed relative relocations: the loader of glibc 2.36 was the first to know them.
    if name == "GLIBC_ABI_DT_RELR" {
        return Some(LibcVersion { major: 2, minor: 36 });
    }
    if !name.starts_with("GLIBC_") {
        return None;
    }
    match version_key(name)[..] {
        [major, minor, ..] => Some(LibcVersion { major, minor }),
        _ => None,
    }
}

/// The kernel of the note `NT_GNU_ABI_TAG` (System V ABI, "Note Section"; `.note.ABI-tag`).
fn kernel_floor(elf: &Elf<'_>, bytes: &[u8]) -> Option<(u32, u32, u32)> {
    let mut notes = elf.iter_note_headers(bytes)?;
    let tag = notes.find_map(|note| {
        note.ok().filter(|note| note.name == "GNU" && note.n_type == note::NT_GNU_ABI_TAG)
    })?;
    let word = |index: usize| {
        let word = tag.desc.get(index * 4..index * 4 + 4)?;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    };
    // The first word is the operating system: 0 is Linux.
    (word(0)? == 0).then_some(())?;
    Some((word(1)?, word(2)?, word(3)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let mut names = ["GLIBC_2.17", "GLIBC_2.2.5", "GLIBC_2.9", "GLIBC_2.38"];
        names.sort_by_key(|name| version_key(name));
        assert_eq!(names, ["GLIBC_2.2.5", "GLIBC_2.9", "GLIBC_2.17", "GLIBC_2.38"]);
        assert_eq!(libc_version("GLIBC_2.2.5"), Some(LibcVersion { major: 2, minor: 2 }));
        assert_eq!(libc_version("GLIBC_PRIVATE"), None);
        assert_eq!(libc_version("GCC_3.0"), None);
        assert_eq!(libc_version("GLIBC_ABI_DT_RELR"), Some(LibcVersion { major: 2, minor: 36 }));
    }

    #[test]
    fn what_is_not_elf_is_refused_by_name() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF"] {
            let error = audit_elf_bytes(Path::new("bin/tool"), bytes).unwrap_err();
            assert_eq!(error.to_string(), "Failed to parse `bin/tool` as ELF");
        }
    }
}
