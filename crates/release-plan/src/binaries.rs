//! The smallest files that are programs of Linux, macOS and Windows to whoever reads headers.

/// A static executable for Linux (ELF, gABI): a header and one segment.
pub fn elf(machine: u16) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    // Entry, program headers, section headers, flags.
    for word in [0x40_0078_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable: offset, addresses, sizes, alignment.
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    for word in [0_u64, 0x40_0000, 0x40_0000, 0x80, 0x80, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.resize(0x80, 0xCC);
    file
}

/// ELF's number for x86_64.
pub const EM_X86_64: u16 = 62;
/// ELF's number for Arm.
pub const EM_AARCH64: u16 = 183;

/// An executable for macOS 11 on Arm (Mach-O): a header and LC_BUILD_VERSION.
pub fn mach_o() -> Vec<u8> {
    let header = [0xFEED_FACF_u32, 0x0100_000C, 0, 2, 1, 24, 0, 0];
    let build_version = [0x32_u32, 24, 1, 11 << 16, 11 << 16, 0];
    [&header[..], &build_version].concat().into_iter().flat_map(u32::to_le_bytes).collect()
}

/// An executable, or a DLL, for Windows that imports these DLLs (PE32+, Microsoft's "PE Format").
pub fn pe(machine: u16, is_dll: bool, imports: &[&str]) -> Vec<u8> {
    const SECTION: u32 = 0x1000;
    const IN_FILE: u32 = 0x200;
    // Descriptors, an empty lookup table that all of them use, names.
    let descriptors = (imports.len() as u32 + 1) * 20;
    let mut names = Vec::new();
    let mut table = Vec::new();
    for import in imports {
        let name = SECTION + descriptors + 8 + names.len() as u32;
        let lookup = SECTION + descriptors;
        table.extend([lookup, 0, 0, name, lookup].map(u32::to_le_bytes).concat());
        names.extend(import.as_bytes());
        names.push(0);
    }
    table.resize(descriptors as usize + 8, 0);
    table.extend(names);
    table.resize(0x400, 0);

    let mut file = b"MZ".to_vec();
    file.resize(0x3C, 0);
    file.extend(0x40_u32.to_le_bytes());
    file.extend(b"PE\0\0");
    file.extend([machine, 1].map(u16::to_le_bytes).concat());
    file.extend([0; 12]);
    let kind: u16 = if is_dll { 0x2022 } else { 0x0022 };
    file.extend([240, kind].map(u16::to_le_bytes).concat());
    let optional = file.len();
    file.extend(0x20B_u16.to_le_bytes());
    file.resize(optional + 24, 0);
    file.extend(0x1_4000_0000_u64.to_le_bytes());
    // Alignments, versions (Windows 6.0), sizes, a console program.
    file.extend([0x1000_u32, 0x200].map(u32::to_le_bytes).concat());
    file.extend([6_u16, 0, 0, 0, 6, 0].map(u16::to_le_bytes).concat());
    file.extend([0_u32, 0x2000, IN_FILE, 0].map(u32::to_le_bytes).concat());
    file.extend([3_u16, 0].map(u16::to_le_bytes).concat());
    file.resize(optional + 108, 0);
    file.extend(16_u32.to_le_bytes());
    // Exports, imports, and nothing else.
    file.extend([0, 0, SECTION, descriptors].map(u32::to_le_bytes).concat());
    file.resize(optional + 240, 0);
    file.extend(b".rdata\0\0");
    file.extend(
        [0x400, SECTION, 0x400, IN_FILE, 0, 0, 0, 0x4000_0040].map(u32::to_le_bytes).concat(),
    );
    file.resize(IN_FILE as usize, 0);
    file.extend(table);
    file
}

/// PE's number for x86_64.
pub const PE_AMD64: u16 = 0x8664;
/// PE's number for Arm.
pub const PE_ARM64: u16 = 0xAA64;
