//! PE: the machine and the DLLs of the import and delay-import tables.
//!
//! The format: Microsoft's "PE Format", sections "The .idata Section" and "Delay-Load Import
//! Tables". The headers are read here and not by a general parser, which refuses files for parts that
//! Windows' loader never looks at; every offset is checked against the file, and each walk ends at a
//! bound.

use goblin::error::Error;

/// What a Windows executable or DLL says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pe {
    /// `amd64`, `arm64` or `x86`; `arm64ec` for code that emulated processes of an Arm machine alone can
    /// load, whatever its header says; other machines as `machine-<hexadecimal>`.
    pub arch: String,
    /// Whether it is a DLL.
    pub is_dll: bool,
    /// The DLLs of the import table, in the file's order, as written.
    pub imports: Vec<String>,
    /// The DLLs that are loaded at the first call into them, as written.
    pub delayed: Vec<String>,
    /// Major and minor version of the oldest Windows that the file asks for.
    pub windows: (u16, u16),
    /// Whether it is a program or library of Windows, and not one of a machine's firmware (EFI).
    pub is_for_windows: bool,
    /// Whether it holds managed code (.NET), whose machine is not its header's.
    pub is_managed: bool,
}

/// No real file imports from so many DLLs: a longer table is damage or malice.
const MAX_DLLS: usize = 4096;

pub(super) fn read(bytes: &[u8]) -> Result<Option<Pe>, Error> {
    // An MZ stub without a PE header is a DOS program (or a text that starts with MZ).
    let Some(at) = read_u32(bytes, 0x3c).map(|at| at as usize) else { return Ok(None) };
    if bytes.get(at..).and_then(|rest| rest.get(..4)) != Some(b"PE\0\0") {
        return Ok(None);
    }
    let cut_off = || Error::Malformed("the headers are cut off".to_owned());
    let half = |at: usize| read_u16(bytes, at).ok_or_else(cut_off);
    let word = |at: usize| read_u32(bytes, at).ok_or_else(cut_off);
    let coff = at + 4;
    let (n_sections, optional_len) = (half(coff + 2)?, usize::from(half(coff + 16)?));
    if optional_len == 0 {
        return Ok(None);
    }
    let characteristics = half(coff + 18)?;
    let optional = coff + 20;
    // PE32 has its directories 16 bytes earlier than PE32+.
    let is_plus = match half(optional)? {
        0x10b => false,
        0x20b => true,
        other => return Err(Error::Malformed(format!("the optional header is {other:#x}"))),
    };
    let directories = optional + if is_plus { 112 } else { 96 };
    let n_directories = word(directories - 4)?.min(16) as usize;
    let directory = |index: usize| -> Option<(u32, u32)> {
        let at = directories + index * 8;
        let is_there = index < n_directories && at + 8 <= optional + optional_len;
        let (rva, size) = (read_u32(bytes, at)?, read_u32(bytes, at + 4)?);
        (is_there && rva != 0).then_some((rva, size))
    };
    let sections = Sections { bytes, table: optional + optional_len, n: usize::from(n_sections) };
    let windows = (half(optional + 48)?, half(optional + 50)?);
    // Subsystems 10 to 13 are EFI's; 16 is that of Windows' own boot programs.
    let is_for_windows = !matches!(half(optional + 68)?, 10..=13 | 16);
    let imports = directory(1).map(|(table, _)| sections.names(table, 20, 12));
    let delayed = directory(13).map(|(table, _)| sections.names(table, 32, 4));
    let is_hybrid = is_plus && directory(10).is_some_and(|(table, _)| sections.is_hybrid(table));
    let arch = match half(coff)? {
        // Hybrid code says it is x86_64 and runs in emulated processes of Arm machines alone; where the
        // header says arm64 the file holds both kinds.
        0x8664 if is_hybrid => "arm64ec".to_owned(),
        0xa641 => "arm64ec".to_owned(),
        0x8664 => "amd64".to_owned(),
        0xaa64 | 0xa64e => "arm64".to_owned(),
        0x014c => "x86".to_owned(),
        other => format!("machine-{other:04x}"),
    };
    Ok(Some(Pe {
        arch,
        is_dll: characteristics & 0x2000 != 0,
        imports: imports.unwrap_or_default(),
        delayed: delayed.unwrap_or_default(),
        windows,
        is_for_windows,
        is_managed: directory(14).is_some_and(|(_, size)| size > 0),
    }))
}

/// The section table, by which addresses are found in the file.
struct Sections<'a> {
    bytes: &'a [u8],
    table: usize,
    n: usize,
}

impl Sections<'_> {
    /// Where in the file the byte with a relative virtual address is.
    fn at(&self, rva: u32) -> Option<usize> {
        // The headers are loaded as they are; no section begins among them.
        const ROW: usize = 40;
        for row in 0..self.n {
            let at = self.table + row * ROW;
            let word = |field: usize| read_u32(self.bytes, at + field);
            let (virtual_size, start) = (word(8)?, word(12)?);
            let (raw_size, raw_at) = (word(16)?, word(20)?);
            let size = virtual_size.max(raw_size);
            if (start..start.saturating_add(size)).contains(&rva) {
                let within = rva - start;
                return (within < raw_size).then_some(raw_at as usize + within as usize);
            }
        }
        None
    }

    fn text(&self, rva: u32) -> Option<String> {
        let rest = self.bytes.get(self.at(rva)?..)?;
        let end = rest.iter().take(512).position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    /// The names of a table of imports, until its empty row.
    fn names(&self, table: u32, row_len: usize, name_at: usize) -> Vec<String> {
        let Some(start) = self.at(table) else { return Vec::new() };
        (0..MAX_DLLS)
            .map_while(|row| {
                let name = read_u32(self.bytes, start + row * row_len + name_at)?;
                (name != 0).then(|| self.text(name)).flatten()
            })
            .collect()
    }

    /// Whether the load configuration leads to hybrid metadata (`CHPEMetadataPointer` of
    /// `IMAGE_LOAD_CONFIG_DIRECTORY64`).
    fn is_hybrid(&self, table: u32) -> bool {
        const CHPE_METADATA_AT: usize = 200;
        let Some(at) = self.at(table) else { return false };
        let size = read_u32(self.bytes, at).unwrap_or_default() as usize;
        let field = self.bytes.get(at + CHPE_METADATA_AT..at + CHPE_METADATA_AT + 8);
        size >= CHPE_METADATA_AT + 8 && field.is_some_and(|f| f.iter().any(|byte| *byte != 0))
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let half = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(half.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
