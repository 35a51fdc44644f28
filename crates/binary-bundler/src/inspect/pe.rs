//! PE: the machine and the DLLs of the import and delay-import tables.
//!
//! The format: Microsoft's "PE Format", sections "The .idata Section" and "Delay-Load Import
//! Tables". The tables are walked here, because the parser knows no delayed imports; every offset is
//! checked against the file, and the walk ends at a bound.

use goblin::{error::Error, pe::PE as Parsed};

/// What a Windows executable or DLL says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pe {
    /// `amd64`, `arm64` or `x86`; other machines as `machine-<hexadecimal>`.
    pub arch: String,
    /// Whether it is a DLL.
    pub is_dll: bool,
    /// The DLLs of the import table, in the file's order, as written.
    pub imports: Vec<String>,
    /// The DLLs that are loaded at the first call into them, as written.
    pub delayed: Vec<String>,
    /// Major and minor version of the oldest Windows that the file asks for.
    pub windows: (u16, u16),
    /// Whether it holds managed code (.NET), whose machine is not its header's.
    pub is_managed: bool,
}

/// No real file imports from so many DLLs: a longer table is damage or malice.
const MAX_DLLS: usize = 4096;

pub(super) fn read(bytes: &[u8]) -> Result<Option<Pe>, Error> {
    // An MZ stub without a PE header is a DOS program (or a text that starts with MZ).
    let Some(signature) = read_u32(bytes, 0x3c).and_then(|at| bytes.get(at as usize..)?.get(..4))
    else {
        return Ok(None);
    };
    if signature != b"PE\0\0" {
        return Ok(None);
    }
    let mut options = goblin::pe::options::ParseOptions::default();
    // What is read here needs neither; both may be damaged by signing tools without harm.
    options.parse_attribute_certificates = false;
    options.parse_tls_data = false;
    let parsed = Parsed::parse_with_opts(bytes, &options)?;
    let Some(optional) = parsed.header.optional_header else { return Ok(None) };
    let arch = match parsed.header.coff_header.machine {
        0x8664 => "amd64".to_owned(),
        0xaa64 => "arm64".to_owned(),
        0x014c => "x86".to_owned(),
        other => format!("machine-{other:04x}"),
    };
    let directories = &optional.data_directories;
    let at = |rva: u32| offset_of(&parsed, rva);
    let text = |rva: u32| -> Option<String> {
        let rest = bytes.get(at(rva)?..)?;
        let end = rest.iter().take(512).position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    let names = |table: u32, row_len: usize, name_at: usize| -> Vec<String> {
        let Some(start) = at(table) else { return Vec::new() };
        (0..MAX_DLLS)
            .map_while(|row| {
                let name = read_u32(bytes, start + row * row_len + name_at)?;
                (name != 0).then(|| text(name)).flatten()
            })
            .collect()
    };
    let imports = directories.get_import_table().map(|table| names(table.virtual_address, 20, 12));
    let delayed =
        directories.get_delay_import_descriptor().map(|table| names(table.virtual_address, 32, 4));
    Ok(Some(Pe {
        arch,
        is_dll: parsed.is_lib,
        imports: imports.unwrap_or_default(),
        delayed: delayed.unwrap_or_default(),
        windows: (
            optional.windows_fields.major_subsystem_version,
            optional.windows_fields.minor_subsystem_version,
        ),
        is_managed: directories.get_clr_runtime_header().is_some_and(|table| table.size > 0),
    }))
}

/// Where in the file the byte with a relative virtual address is.
fn offset_of(parsed: &Parsed<'_>, rva: u32) -> Option<usize> {
    let section = parsed.sections.iter().find(|section| {
        let size = section.virtual_size.max(section.size_of_raw_data);
        (section.virtual_address..section.virtual_address.saturating_add(size)).contains(&rva)
    })?;
    let within = rva - section.virtual_address;
    (within < section.size_of_raw_data)
        .then_some(section.pointer_to_raw_data as usize + within as usize)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
