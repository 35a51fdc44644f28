//! Hostile binaries: read, judged, and edited.

use crate::{audit_elf_bytes, inspect, macho, relocate};
use fuzz_driver::Target;
use std::path::Path;

fn read(name: &'static str, words: &[&[u8]]) {
    let path = Path::new("fuzzed");
    Target::new(name).max_input(1 << 15).words(words).run(|input| {
        let _ = inspect::may_be_binary(input);
        let _ = inspect::inspect(path, input);
        let _ = audit_elf_bytes(path, input);
    });
}

#[test]
fn fuzz_elf() {
    read(
        "elf",
        &[b"\x7fELF\x02\x01\x01", b"GLIBC_2.17", b"libc.so.6\0", b"\x02\0\x3e\0", b"GNU\0"],
    );
}

#[test]
fn fuzz_macho() {
    read(
        "macho",
        &[b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\x0c\0\0\0", b"__TEXT", b"__LINKEDIT"],
    );
}

#[test]
fn fuzz_pe() {
    read("pe", &[b"MZ", b"PE\0\0", b"\x0b\x02", b"KERNEL32.dll\0", b".text\0"]);
}

#[test]
fn fuzz_elf_edit() {
    headers_of_elf_files_at_their_limits();
    let path = Path::new("fuzzed");
    Target::new("elf_edit").max_input(1 << 15).run(|input| {
        for rpath in ["", "$ORIGIN", "$ORIGIN/../../a/rather/long/folder/that/needs/room"] {
            if let Ok(Some(edited)) = relocate::set_rpath(path, input, rpath) {
                // Nothing that existed moves, so that the file only grows.
                assert!(edited.len() >= input.len());
                let _ = inspect::inspect(path, &edited);
            }
        }
    });
}

#[test]
fn fuzz_macho_edit() {
    let path = Path::new("fuzzed");
    Target::new("macho_edit").max_input(1 << 15).run(|input| {
        let change = macho::Change::default();
        if let Ok(edited) = macho::change(path, input, &change) {
            let _ = inspect::inspect(path, &edited);
        }
    });
}

/// Offsets and sizes of program headers at the limits of their types: every sum in the editor may
/// overflow.
fn headers_of_elf_files_at_their_limits() {
    let numbers =
        [0u64, 1, 55, 56, 64, 0xfff, 0x1000, 1 << 31, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
    let seed = include_bytes!("../tests/fixtures/static-pie");
    let table = usize::try_from(u64::from_le_bytes(seed[32..40].try_into().unwrap())).unwrap();
    let path = Path::new("fuzzed");
    // Of the file's header: entry, program headers, sections. Of each program header: offset,
    // address, sizes, alignment.
    let of_file = [24usize, 32, 40];
    let of_headers = (0..4).flat_map(|n| [8, 16, 32, 40, 48].map(|field| table + n * 56 + field));
    for at in of_file.into_iter().chain(of_headers) {
        for number in numbers {
            let mut bytes = seed.to_vec();
            if let Some(field) = bytes.get_mut(at..at + 8) {
                field.copy_from_slice(&number.to_le_bytes());
            }
            let _ = inspect::inspect(path, &bytes);
            let _ = relocate::set_rpath(path, &bytes, "$ORIGIN/lib");
        }
    }
    for at in [52usize, 54, 56, 58, 60, 62] {
        for number in [0u16, 1, 55, 57, 0x7fff, 0xffff] {
            let mut bytes = seed.to_vec();
            bytes[at..at + 2].copy_from_slice(&number.to_le_bytes());
            let _ = inspect::inspect(path, &bytes);
            let _ = relocate::set_rpath(path, &bytes, "$ORIGIN/lib");
        }
    }
}
