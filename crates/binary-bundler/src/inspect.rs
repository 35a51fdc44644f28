//! What a binary says of itself, for all three formats: machine, libraries, symbols, search paths.
//!
//! Pure: bytes in, facts out. Owns the reading; must not know about platform tags (`verdict`), about
//! other files (`closure`) or how a file is changed (`relocate`).

mod elf;
mod macho;
mod pe;

pub(crate) use elf::is_glibc_loader;
pub use elf::{Dlopen, Elf, Import, Libc, Priority};
pub use macho::{MachO, MachOSlice, SystemVersion};
pub(crate) use macho::{PLATFORM_IOS, PLATFORM_IOS_SIMULATOR, PLATFORM_MACOS};
pub use pe::Pe;

use crate::error::Error;
use std::path::{Path, PathBuf};

/// A binary of one of the three formats.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The file's name in its wheel, tree or file system, for messages and for what refers to it.
    pub path: PathBuf,
    /// What it says of itself.
    pub format: Format,
}

/// The format of a binary with what was read from it.
#[derive(Clone, Debug)]
pub enum Format {
    /// Linux: an executable or a shared library.
    Elf(Elf),
    /// macOS: one slice or several.
    MachO(MachO),
    /// Windows: an executable or a DLL.
    Pe(Pe),
}

/// How many first bytes [`may_be_binary`] wants.
pub const N_MAGIC_BYTES: usize = 8;

/// Whether a file that starts so may be a binary. A Java class has the magic of a universal Mach-O;
/// its next word is a version over 40, where the other has its small number of slices.
pub fn may_be_binary(start: &[u8]) -> bool {
    match start {
        [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', ..] => true,
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => true,
        [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, n_slices, ..] => *n_slices < 20,
        _ => false,
    }
}

/// Reads a file's facts; none for what is not an executable or a library of the three formats
/// (object files, archives, core dumps, DOS programs).
///
/// # Errors
/// When the file has the magic of a format but is damaged.
pub fn inspect(path: &Path, bytes: &[u8]) -> Result<Option<Binary>, Error> {
    let start = &bytes[..bytes.len().min(N_MAGIC_BYTES)];
    if !may_be_binary(start) {
        return Ok(None);
    }
    let damaged = |source| Error::Damaged { path: path.to_path_buf(), source };
    let format = match start {
        [0x7f, ..] => elf::read(bytes).map_err(damaged)?.map(Format::Elf),
        [b'M', ..] => pe::read(bytes).map_err(damaged)?.map(Format::Pe),
        _ => macho::read(bytes).map_err(damaged)?.map(Format::MachO),
    };
    Ok(format.map(|format| Binary { path: path.to_path_buf(), format }))
}

/// Reads the facts of the file at `path`.
///
/// # Errors
/// When it cannot be read, or as [`inspect`].
pub fn inspect_file(path: &Path) -> Result<Option<Binary>, Error> {
    inspect(path, &fs_err::read(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_tells_binaries_from_the_rest() {
        let check =
            |bytes: &[u8], expect: bool| assert_eq!(may_be_binary(bytes), expect, "{bytes:x?}");
        check(b"\x7fELF\x02\x01\x01\0", true);
        check(b"MZ\x90\0", true);
        check(&[0xcf, 0xfa, 0xed, 0xfe, 7, 0, 0, 1], true);
        check(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 2], true);
        check(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52], false);
        check(b"#!/bin/sh", false);
        check(b"", false);
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        for bytes in [&b"\x7fELF\x02\x01\x01\0"[..], &[0xcf, 0xfa, 0xed, 0xfe, 7, 0, 0, 1]] {
            let error = inspect(Path::new("lib/x.so"), bytes).unwrap_err();
            assert_eq!(error.to_string(), "Failed to read the binary `lib/x.so`");
        }
    }

    #[test]
    fn other_files_are_nothing() {
        assert!(inspect(Path::new("a.py"), b"import os").unwrap().is_none());
        assert!(inspect(Path::new("empty"), b"").unwrap().is_none());
    }
}
