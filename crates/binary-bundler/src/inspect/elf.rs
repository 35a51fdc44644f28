//! ELF: the machine, the libraries with the symbol versions asked of each, the search paths.
//!
//! The format: the System V ABI, "Dynamic Section", and the symbol versions of the Linux Standard
//! Base (`.gnu.version_r`). Only the dynamic segment is believed: section headers may be stripped.

use goblin::{
    elf::{Elf as Parsed, dynamic, header, program_header},
    error::Error,
};
use std::{collections::BTreeMap, path::Path};

/// What an ELF executable or shared library says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// The machine as platform tags call it (`x86_64`, `aarch64`, `i686`), or `e_machine` in words.
    pub arch: String,
    /// Whether it has an entry for the kernel or the loader to jump to, that is: an executable.
    pub is_executable: bool,
    /// The loader that it names (`PT_INTERP`).
    pub interpreter: Option<String>,
    /// Its own name (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries that it needs, in the file's order.
    pub needed: Vec<String>,
    /// The folders of `DT_RPATH`, as written. The loader ignores it beside `DT_RUNPATH`.
    pub rpath: Vec<String>,
    /// The folders of `DT_RUNPATH`, as written.
    pub runpath: Option<Vec<String>>,
    /// `DF_1_NODEFLIB`: the loader does not look into the default folders.
    pub no_default_folders: bool,
    /// The versions asked of each library.
    pub versions: BTreeMap<String, Vec<Import>>,
    /// Imported symbols without a version; weak ones are left out: the loader lets them be absent.
    pub unversioned: Vec<String>,
    /// The largest alignment of a loaded segment: 0x10000 where pages may be of 64 KiB.
    pub page_alignment: u64,
}

/// A version of a library's symbols with one symbol as witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The version's name, for example `GLIBC_2.34`.
    pub version: String,
    /// A symbol that is bound to it; empty when the file names the version without using it.
    pub symbol: String,
    /// The loader goes on when the library lacks it (`VER_FLG_WEAK`).
    pub is_weak: bool,
}

/// Which C library a file is linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Libc {
    /// GNU's.
    Glibc,
    /// musl.
    Musl,
}

impl Elf {
    /// The C library that the file is linked with, by its loader or by the name of the library; none
    /// for a static file, and for a library that needs none.
    pub fn libc(&self) -> Option<Libc> {
        let of_name = |name: &str| {
            if name.starts_with("ld-musl-") || name.starts_with("libc.musl-") || name == "libc.so" {
                Some(Libc::Musl)
            } else if name.starts_with("libc.so.") || is_glibc_loader(name) {
                Some(Libc::Glibc)
            } else {
                None
            }
        };
        let loader = self.interpreter.as_deref().map(file_name);
        loader.into_iter().chain(self.needed.iter().map(String::as_str)).find_map(of_name).or_else(
            || {
                let names = self.versions.values().flatten();
                names
                    .map(|import| &import.version)
                    .any(|v| v.starts_with("GLIBC_"))
                    .then_some(Libc::Glibc)
            },
        )
    }

    /// The folders that the loader searches for what this file needs, before its own: `DT_RUNPATH`,
    /// or `DT_RPATH` where there is none.
    pub fn own_search(&self) -> &[String] {
        self.runpath.as_deref().unwrap_or(&self.rpath)
    }
}

/// Whether a name is that of glibc's loader.
pub(crate) fn is_glibc_loader(name: &str) -> bool {
    name.starts_with("ld-linux") || name.starts_with("ld64.so.") || name == "ld.so.1"
}

fn file_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

pub(super) fn read(bytes: &[u8]) -> Result<Option<Elf>, Error> {
    let parsed = Parsed::parse(bytes)?;
    if !matches!(parsed.header.e_type, header::ET_DYN | header::ET_EXEC) {
        return Ok(None);
    }
    let texts = |tag: u64| -> Vec<String> {
        let entries = parsed.dynamic.iter().flat_map(|dynamic| &dynamic.dyns);
        entries
            .filter(|entry| entry.d_tag == tag)
            .filter_map(|entry| parsed.dynstrtab.get_at(usize::try_from(entry.d_val).ok()?))
            .flat_map(|text| text.split(':'))
            .filter(|folder| !folder.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let has =
        |tag: u64| parsed.dynamic.iter().flat_map(|d| &d.dyns).any(|entry| entry.d_tag == tag);
    let flags_1 = parsed.dynamic.as_ref().map_or(0, |dynamic| dynamic.info.flags_1);
    let loaded = parsed.program_headers.iter().filter(|ph| ph.p_type == program_header::PT_LOAD);
    let (versions, unversioned) = imports(&parsed);
    Ok(Some(Elf {
        arch: arch_name(&parsed),
        is_executable: parsed.interpreter.is_some()
            || parsed.header.e_type == header::ET_EXEC
            || flags_1 & dynamic::DF_1_PIE != 0,
        interpreter: parsed.interpreter.map(str::to_owned),
        soname: parsed.soname.map(str::to_owned),
        needed: parsed.libraries.iter().map(|name| (*name).to_owned()).collect(),
        rpath: texts(dynamic::DT_RPATH),
        runpath: has(dynamic::DT_RUNPATH).then(|| texts(dynamic::DT_RUNPATH)),
        no_default_folders: flags_1 & dynamic::DF_1_NODEFLIB != 0,
        versions,
        unversioned,
        page_alignment: loaded.map(|segment| segment.p_align).max().unwrap_or(0),
    }))
}

fn imports(parsed: &Parsed<'_>) -> (BTreeMap<String, Vec<Import>>, Vec<String>) {
    let mut witness: BTreeMap<u16, String> = BTreeMap::new();
    let mut unversioned = Vec::new();
    for (index, symbol) in parsed.dynsyms.iter().enumerate() {
        // Invariant of the format: symbol 0 is empty.
        if index == 0 || !symbol.is_import() {
            continue;
        }
        let name = parsed.dynstrtab.get_at(symbol.st_name).unwrap_or_default();
        let version = parsed.versym.as_ref().and_then(|table| table.get_at(index));
        match version.map(|version| version.version()) {
            // 0 is local and 1 global: neither names a version.
            None | Some(0 | 1) => {
                if symbol.st_bind() != goblin::elf::sym::STB_WEAK {
                    unversioned.push(name.to_owned());
                }
            }
            Some(version) => {
                witness.entry(version).or_insert_with(|| name.to_owned());
            }
        }
    }
    let mut versions: BTreeMap<String, Vec<Import>> = BTreeMap::new();
    for library in parsed.verneed.iter().flat_map(|verneed| verneed.iter()) {
        let Some(file) = parsed.dynstrtab.get_at(library.vn_file) else { continue };
        let asked = versions.entry(file.to_owned()).or_default();
        for version in library.iter() {
            let Some(name) = parsed.dynstrtab.get_at(version.vna_name) else { continue };
            let symbol = witness.get(&(version.vna_other & 0x7fff)).cloned().unwrap_or_default();
            const VER_FLG_WEAK: u16 = 2;
            let is_weak = version.vna_flags & VER_FLG_WEAK != 0;
            asked.push(Import { version: name.to_owned(), symbol, is_weak });
        }
    }
    (versions, unversioned)
}

/// The names of PEP 425's platform tags, as `platform.machine()` gives them.
fn arch_name(parsed: &Parsed<'_>) -> String {
    match (parsed.header.e_machine, parsed.is_64, parsed.little_endian) {
        (header::EM_X86_64, true, true) => "x86_64",
        (header::EM_386, false, true) => "i686",
        (header::EM_AARCH64, true, true) => "aarch64",
        (header::EM_ARM, false, true) => "armv7l",
        (header::EM_PPC64, true, true) => "ppc64le",
        (header::EM_PPC64, true, false) => "ppc64",
        (header::EM_S390, true, false) => "s390x",
        (header::EM_RISCV, true, true) => "riscv64",
        (EM_LOONGARCH, true, true) => "loongarch64",
        (machine, ..) => return header::machine_to_str(machine).to_ascii_lowercase(),
    }
    .to_owned()
}

/// Not among the parser's constants.
const EM_LOONGARCH: u16 = 258;
