//! Takes a kernel out of its distribution's packing: the uncompressed ELF inside an x86 bzImage
//! (which saves the guest the decompression, seconds under software emulation) or arm64's Image.
//! It owns boot formats; it must not know about packages or recipes.

use crate::{Error, KernelError};
use host_platform::Arch;
use std::{io::Read as _, path::Path};

/// The ELF note by which a kernel says where QEMU may enter it directly (PVH).
/// <https://xenbits.xen.org/docs/unstable/misc/pvh.html>
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
const PT_NOTE: u32 = 4;
/// No kernel is larger; a bound against a payload that inflates without end.
const MAX_KERNEL: u64 = 512 << 20;

/// What a kernel file was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An uncompressed ELF with a PVH entry.
    Vmlinux,
    /// The distribution's own compressed file, because it holds nothing that can start directly.
    BzImage,
    /// arm64's uncompressed image.
    Image,
}

/// The fastest form of a kernel that QEMU can start directly. `path` is for messages alone.
pub fn bootable(bytes: &[u8], arch: Arch, path: &Path) -> Result<(Vec<u8>, Form), Error> {
    match arch {
        Arch::Amd64 => match vmlinux(bytes, path)? {
            vmlinux if has_pvh_entry(&vmlinux) => Ok((vmlinux, Form::Vmlinux)),
            _ => Ok((bytes.to_vec(), Form::BzImage)),
        },
        Arch::Arm64 => {
            let inner = match zboot_payload(bytes) {
                Some(payload) => payload.ok_or_else(|| {
                    bad(path, "it is an EFI zboot image whose payload lies outside of the file")
                })?,
                None => bytes,
            };
            let image = match decompress(inner) {
                Some(image) => image.map_err(|_| bad(path, "its compressed part is broken"))?,
                None if inner.len() < bytes.len() => {
                    let name = zboot_compression(bytes);
                    let known = "gzip, zstd and xz are known";
                    let detail = format!("it is an EFI zboot image packed with `{name}`; {known}");
                    return Err(bad(path, detail));
                }
                None => bytes.to_vec(),
            };
            // <https://docs.kernel.org/arch/arm64/booting.html>: the magic at offset 56.
            match image.get(56..60) {
                Some(b"ARM\x64") => Ok((image, Form::Image)),
                _ => Err(bad(path, "it is not an arm64 image")),
            }
        }
    }
}

/// What an EFI zboot image has packed: a program of EFI's form that unpacks the kernel, which firmware
/// starts and QEMU's own loader of older versions does not. `None` when it is no such image; without
/// a payload when that lies outside of the file. The form is that of Linux'
/// `drivers/firmware/efi/libstub/zboot-header.S`.
fn zboot_payload(bytes: &[u8]) -> Option<Option<&[u8]>> {
    if !bytes.starts_with(b"MZ") || bytes.get(4..8) != Some(b"zimg") {
        return None;
    }
    let number = |at: usize| {
        let word = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]) as usize)
    };
    let payload = || {
        let (start, length) = (number(8)?, number(12)?);
        bytes.get(start..start.checked_add(length)?)
    };
    Some(payload())
}

/// How it says that it is packed: `gzip`, `zstd`, `xzkern`, `lz4`, `lzma`, `lzo`.
fn zboot_compression(bytes: &[u8]) -> String {
    let name = bytes.get(24..56).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// The ELF inside a bzImage. <https://docs.kernel.org/arch/x86/boot.html>
fn vmlinux(bytes: &[u8], path: &Path) -> Result<Vec<u8>, Error> {
    let u32_at = |offset: usize| {
        let bytes = bytes.get(offset..offset + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    if bytes.get(0x202..0x206) != Some(b"HdrS") {
        return Err(bad(path, "it has no x86 setup header"));
    }
    let n_setup_sectors = match bytes[0x1f1] {
        0 => 4,
        n => usize::from(n),
    };
    let payload = u32_at(0x248)
        .zip(u32_at(0x24c))
        .and_then(|(offset, length)| {
            let start = (n_setup_sectors + 1) * 512 + offset;
            bytes.get(start..start.checked_add(length)?)
        })
        .ok_or_else(|| bad(path, "its payload lies outside of the file"))?;
    match decompress(payload) {
        Some(Ok(vmlinux)) if vmlinux.starts_with(b"\x7fELF") => Ok(vmlinux),
        Some(Ok(_)) => Err(bad(path, "its payload is not an ELF file")),
        Some(Err(_)) => Err(bad(path, "its payload is broken")),
        None => Err(bad(path, "its payload's compression is unknown")),
    }
}

/// Decompresses by magic; `None` when there is no known one.
pub fn decompress(bytes: &[u8]) -> Option<std::io::Result<Vec<u8>>> {
    let reader: Box<dyn std::io::Read + '_> = match bytes {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => match zstd::Decoder::new(bytes) {
            // The build appends the length of the output; the frame ends before it.
            Ok(decoder) => Box::new(decoder.single_frame()),
            Err(error) => return Some(Err(error)),
        },
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(lzma_rust2::XzReader::new(std::io::Cursor::new(bytes), false))
        }
        [0x1f, 0x8b, ..] => Box::new(flate2::read::GzDecoder::new(bytes)),
        _ => return None,
    };
    let mut out = Vec::new();
    Some(reader.take(MAX_KERNEL).read_to_end(&mut out).map(|_| out))
}

/// Whether an ELF file has the note that lets QEMU start it.
fn has_pvh_entry(elf: &[u8]) -> bool {
    let number = |offset: usize, length: usize| -> Option<usize> {
        let bytes = elf.get(offset..offset + length)?;
        Some(bytes.iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    let notes = || -> Option<bool> {
        if elf.get(4) != Some(&2) {
            return None; // Not a 64-bit ELF.
        }
        let (table, size, n) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        for header in (0..n).map(|i| table + i * size) {
            if number(header, 4)? != PT_NOTE as usize {
                continue;
            }
            let start = number(header + 8, 8)?;
            let mut notes = elf.get(start..start.checked_add(number(header + 32, 8)?)?)?;
            while notes.len() >= 12 {
                let field = |at: usize| {
                    u32::from_le_bytes([notes[at], notes[at + 1], notes[at + 2], notes[at + 3]])
                };
                let (n_name, n_value, kind) = (field(0) as usize, field(4) as usize, field(8));
                let name = notes.get(12..12 + n_name)?;
                if kind == XEN_ELFNOTE_PHYS32_ENTRY && name == b"Xen\0" {
                    return Some(true);
                }
                let length = 12 + n_name.next_multiple_of(4) + n_value.next_multiple_of(4);
                notes = notes.get(length..)?;
            }
        }
        Some(false)
    };
    notes().unwrap_or(false)
}

fn bad(path: &Path, detail: impl Into<String>) -> Error {
    Error::Kernel(KernelError::BadKernel { path: path.to_owned(), detail: detail.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit ELF with one note segment.
    fn elf(note_kind: u32, note_name: &[u8; 4]) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[0x20..0x28].copy_from_slice(&64_u64.to_le_bytes());
        elf[0x36..0x38].copy_from_slice(&56_u16.to_le_bytes());
        elf[0x38..0x3a].copy_from_slice(&1_u16.to_le_bytes());
        let mut note = Vec::new();
        for number in [4, 8, note_kind] {
            note.extend_from_slice(&number.to_le_bytes());
        }
        note.extend_from_slice(note_name);
        note.extend_from_slice(&0x100_0000_u64.to_le_bytes());
        elf[64..68].copy_from_slice(&PT_NOTE.to_le_bytes());
        elf[72..80].copy_from_slice(&120_u64.to_le_bytes());
        elf[96..104].copy_from_slice(&(note.len() as u64).to_le_bytes());
        elf.extend(note);
        elf
    }

    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&0_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn the_elf_inside_is_taken_out_whatever_its_packing() {
        let elf = elf(XEN_ELFNOTE_PHYS32_ENTRY, b"Xen\0");
        let mut zstd = zstd::encode_all(elf.as_slice(), 3).unwrap();
        zstd.extend_from_slice(&(elf.len() as u32).to_le_bytes());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut gzip, &elf).unwrap();
        for payload in [zstd, gzip.finish().unwrap()] {
            let (kernel, form) =
                bootable(&bz_image(&payload), Arch::Amd64, Path::new("k")).unwrap();
            assert_eq!(form, Form::Vmlinux);
            assert!(kernel == elf);
        }
    }

    #[test]
    fn a_kernel_without_the_entry_stays_as_it_is() {
        for elf in [elf(17, b"Xen\0"), elf(XEN_ELFNOTE_PHYS32_ENTRY, b"GNU\0")] {
            let image = bz_image(&zstd::encode_all(elf.as_slice(), 3).unwrap());
            let (kernel, form) = bootable(&image, Arch::Amd64, Path::new("k")).unwrap();
            assert_eq!(form, Form::BzImage);
            assert!(kernel == image);
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for bytes in [&b"short"[..], &bz_image(b"no known packing"), &vec![0; 2000]] {
            let error = bootable(bytes, Arch::Amd64, Path::new("vmlinuz-9")).unwrap_err();
            assert!(error.to_string().contains("vmlinuz-9"), "{error}");
        }
        let error = bootable(&[0; 64], Arch::Arm64, Path::new("Image")).unwrap_err();
        assert!(error.to_string().contains("arm64"), "{error}");
    }

    #[test]
    fn an_arm64_image_is_unpacked() {
        let mut image = vec![0; 4096];
        image[56..60].copy_from_slice(b"ARM\x64");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut gzip, &image).unwrap();
        let (kernel, form) =
            bootable(&gzip.finish().unwrap(), Arch::Arm64, Path::new("Image")).unwrap();
        assert_eq!((kernel.len(), form), (4096, Form::Image));
    }

    /// As Linux packs it: a program of EFI's form whose header says where the kernel is.
    fn zboot(payload: &[u8], compression: &str) -> Vec<u8> {
        let start = 4096_u32;
        let mut file = vec![0; start as usize];
        file[..2].copy_from_slice(b"MZ");
        file[4..8].copy_from_slice(b"zimg");
        file[8..12].copy_from_slice(&start.to_le_bytes());
        file[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file[24..24 + compression.len()].copy_from_slice(compression.as_bytes());
        file[56..60].copy_from_slice(&0x8182_23cd_u32.to_le_bytes());
        file.extend(payload);
        // The size of the kernel and the rest of the program follow.
        file.extend([7; 512]);
        file
    }

    #[test]
    fn a_kernel_in_an_efi_program_is_taken_out() {
        let mut image = vec![1; 100_000];
        image[56..60].copy_from_slice(b"ARM\x64");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut gzip, &image).unwrap();
        let zstd = zstd::encode_all(image.as_slice(), 3).unwrap();
        let path = Path::new("vmlinuz-virt");
        for (payload, name) in [(gzip.finish().unwrap(), "gzip"), (zstd, "zstd")] {
            let (kernel, form) = bootable(&zboot(&payload, name), Arch::Arm64, path).unwrap();
            assert!(kernel == image && form == Form::Image, "{name}");
        }
        let error = bootable(&zboot(b"\x04\x22\x4d\x18", "lz4"), Arch::Arm64, path).unwrap_err();
        assert!(error.to_string().contains("`lz4`"), "{error}");
        let mut cut = zboot(&[0; 64], "gzip");
        cut[12..16].fill(0xff);
        let error = bootable(&cut, Arch::Arm64, path).unwrap_err();
        assert!(error.to_string().contains("outside of the file"), "{error}");
    }
}
