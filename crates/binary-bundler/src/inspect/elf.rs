//! ELF: the machine, the libraries with the symbol versions asked of each, the search paths.
//!
//! The format: the System V ABI, "Dynamic Section", and the symbol versions of the Linux Standard
//! Base (`.gnu.version_r`). Invariant: nothing is read through section headers. No loader looks at
//! them, so that they may be stripped or damaged, and may say something else than what is loaded.

mod notes;
mod versions;

use goblin::{
    elf::{Elf as Parsed, dynamic, header, program_header},
    error::Error,
};
use std::{borrow::Cow, collections::BTreeMap, path::Path};

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
    /// The libraries that it needs, in the file's order (`DT_NEEDED`, then `DT_FILTER`, without which the
    /// loader does not go on either).
    pub needed: Vec<String>,
    /// The libraries that it loads itself while it runs, as it says of itself (`.note.dlopen`,
    /// `DT_AUXILIARY`).
    pub dlopened: Vec<Dlopen>,
    /// The folders of `DT_RPATH`, as written. The loader ignores it beside `DT_RUNPATH`.
    pub rpath: Vec<String>,
    /// The folders of `DT_RUNPATH`, as written.
    pub runpath: Option<Vec<String>>,
    /// Whether one of the search paths has an empty element, which stands for the working folder.
    pub searches_working_folder: bool,
    /// `DF_1_NODEFLIB`: the loader does not look into the default folders.
    pub no_default_folders: bool,
    /// The versions asked of each library.
    pub versions: BTreeMap<String, Vec<Import>>,
    /// Imported symbols without a version; weak ones are left out: the loader lets them be absent.
    pub unversioned: Vec<String>,
    /// The smallest alignment of a loaded segment: 0x10000 where pages may be of 64 KiB. 0 without one.
    pub page_alignment: u64,
    /// Whether it asks for a stack that can be executed (`PT_GNU_STACK`); none when it does not say.
    pub executable_stack: Option<bool>,
    /// The processor that it needs: 2 to 4 for x86-64-v2 to v4, 1 for any
    /// (`GNU_PROPERTY_X86_ISA_1_NEEDED`).
    pub isa_level: u8,
    /// A calling convention other than that of the machine's platform tags, in words.
    pub foreign_abi: Option<&'static str>,
    /// The API level of Android that it is made for (`.note.android.ident`).
    pub android_api: Option<u32>,
}

/// A library that a file loads itself while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dlopen {
    /// The names that it tries, in this order.
    pub names: Vec<String>,
    /// How much it wants it.
    pub priority: Priority,
}

/// The priorities of the UAPI group's "ELF dlopen metadata".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The file is of no use without it.
    Required,
    /// Most of what the file is used for needs it.
    Recommended,
    /// It is good to have.
    Suggested,
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
    Musl,
    /// Android's.
    Bionic,
}

impl Libc {
    /// Its name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Bionic => "Android's bionic",
        }
    }
}

impl Elf {
    /// The C library that the file is linked with, by its loader or by the name of the library; none
    /// for a static file, and for a library that needs none.
    pub fn libc(&self) -> Option<Libc> {
        let is_androids = |loader: &str| loader.starts_with("/system/bin/linker");
        // Both musl and bionic call their library `libc.so`.
        let has_its_versions = || self.versions.values().flatten().any(|v| v.version == "LIBC");
        if self.android_api.is_some()
            || self.interpreter.as_deref().is_some_and(is_androids)
            || has_its_versions()
        {
            return Some(Libc::Bionic);
        }
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
    let bytes = without_sections(bytes);
    let bytes = bytes.as_ref();
    let parsed = Parsed::parse(bytes)?;
    if !matches!(parsed.header.e_type, header::ET_DYN | header::ET_EXEC) {
        return Ok(None);
    }
    let values = |tag: u64| -> Vec<&str> {
        let entries = parsed.dynamic.iter().flat_map(|dynamic| &dynamic.dyns);
        entries
            .filter(|entry| entry.d_tag == tag)
            .filter_map(|entry| parsed.dynstrtab.get_at(usize::try_from(entry.d_val).ok()?))
            .collect()
    };
    let folders = |tag: u64| -> Vec<String> {
        let parts = values(tag).into_iter().flat_map(|text| text.split(':'));
        parts.filter(|folder| !folder.is_empty()).map(str::to_owned).collect()
    };
    let has =
        |tag: u64| parsed.dynamic.iter().flat_map(|d| &d.dyns).any(|entry| entry.d_tag == tag);
    let search_tag = if has(dynamic::DT_RUNPATH) { dynamic::DT_RUNPATH } else { dynamic::DT_RPATH };
    let flags_1 = parsed.dynamic.as_ref().map_or(0, |dynamic| dynamic.info.flags_1);
    let segments = |kind: u32| parsed.program_headers.iter().filter(move |ph| ph.p_type == kind);
    let (versions, unversioned) = versions::imports(&parsed, bytes);
    let notes = notes::read(&parsed, bytes);
    let mut needed: Vec<String> = parsed.libraries.iter().map(|name| (*name).to_owned()).collect();
    needed.extend(values(DT_FILTER).into_iter().map(str::to_owned));
    let mut dlopened = notes.dlopened;
    dlopened.extend(
        values(DT_AUXILIARY)
            .into_iter()
            .map(|name| Dlopen { names: vec![name.to_owned()], priority: Priority::Suggested }),
    );
    Ok(Some(Elf {
        arch: arch_name(&parsed),
        is_executable: parsed.interpreter.is_some()
            || parsed.header.e_type == header::ET_EXEC
            || flags_1 & dynamic::DF_1_PIE != 0,
        interpreter: parsed.interpreter.map(str::to_owned),
        soname: parsed.soname.map(str::to_owned),
        needed,
        dlopened,
        rpath: folders(dynamic::DT_RPATH),
        runpath: has(dynamic::DT_RUNPATH).then(|| folders(dynamic::DT_RUNPATH)),
        // An empty text as a whole is ignored by glibc; an empty element of a list is not.
        searches_working_folder: values(search_tag)
            .iter()
            .any(|text| !text.is_empty() && text.split(':').any(str::is_empty)),
        no_default_folders: flags_1 & dynamic::DF_1_NODEFLIB != 0,
        versions,
        unversioned,
        page_alignment: segments(program_header::PT_LOAD)
            .map(|segment| segment.p_align)
            .min()
            .unwrap_or(0),
        executable_stack: segments(program_header::PT_GNU_STACK)
            .next()
            .map(|stack| stack.p_flags & program_header::PF_X != 0),
        isa_level: notes.isa_level,
        foreign_abi: foreign_abi(&parsed),
        android_api: notes.android_api,
    }))
}

/// Libraries that are loaded in front of this one (System V ABI, "Filters"); not among the parser's
/// constants.
const DT_AUXILIARY: u64 = 0x7fff_fffd;
const DT_FILTER: u64 = 0x7fff_ffff;

/// The file without the three fields that lead to its section headers: a parser that is shown damaged
/// ones refuses a file that every loader takes.
fn without_sections(bytes: &[u8]) -> Cow<'_, [u8]> {
    let fields = match bytes.get(4) {
        Some(2) => [0x28..0x30, 0x3c..0x40],
        Some(1) => [0x20..0x24, 0x30..0x34],
        _ => return Cow::Borrowed(bytes),
    };
    let is_clear = |range: &std::ops::Range<usize>| {
        bytes.get(range.clone()).is_none_or(|field| field.iter().all(|byte| *byte == 0))
    };
    if fields.iter().all(is_clear) {
        return Cow::Borrowed(bytes);
    }
    let mut copy = bytes.to_vec();
    for range in fields {
        if let Some(field) = copy.get_mut(range) {
            field.fill(0);
        }
    }
    Cow::Owned(copy)
}

/// The names of PEP 425's platform tags, as `platform.machine()` gives them.
fn arch_name(parsed: &Parsed<'_>) -> String {
    match (parsed.header.e_machine, parsed.is_64, parsed.little_endian) {
        (header::EM_X86_64, true, true) => "x86_64",
        // Without a tag, and never to be taken for their 64-bit kin.
        (header::EM_X86_64, false, true) => "x32",
        (header::EM_AARCH64, false, true) => "aarch64_ilp32",
        (header::EM_AARCH64, true, false) => "aarch64_be",
        (header::EM_ARM, false, false) => "armv7b",
        (header::EM_386, false, true) => "i686",
        (header::EM_AARCH64, true, true) => "aarch64",
        (header::EM_ARM, false, true) => "armv7l",
        (header::EM_PPC64, true, true) => "ppc64le",
        (header::EM_PPC64, true, false) => "ppc64",
        (header::EM_S390, true, false) => "s390x",
        (header::EM_RISCV, true, true) => "riscv64",
        (header::EM_RISCV, false, true) => "riscv32",
        (EM_LOONGARCH, true, true) => "loongarch64",
        (machine, ..) => return header::machine_to_str(machine).to_ascii_lowercase(),
    }
    .to_owned()
}

/// Not among the parser's constants.
const EM_LOONGARCH: u16 = 258;

/// What `e_flags` says of the calling convention, where it is not the one that distributions of the
/// machine are made with: the loader refuses such a file, or it computes nonsense.
fn foreign_abi(parsed: &Parsed<'_>) -> Option<&'static str> {
    let flags = parsed.header.e_flags;
    match parsed.header.e_machine {
        // "ELF for the Arm Architecture", e_flags; the armhf of PEP 599's `manylinux2014_armv7l`.
        header::EM_ARM => {
            const VERSION: u32 = 0xff00_0000;
            const EABI5: u32 = 0x0500_0000;
            const SOFT: u32 = 0x200;
            if flags & VERSION != EABI5 {
                Some("an Arm ABI before EABI version 5")
            } else if flags & SOFT != 0 {
                Some("Arm's soft-float ABI")
            } else {
                None
            }
        }
        // "RISC-V ELF psABI": bits 1 and 2 are the float ABI (2 is double), bit 3 the small registers.
        header::EM_RISCV if flags & 0x6 != 0x4 || flags & 0x8 != 0 => {
            Some("a RISC-V ABI other than lp64d")
        }
        // "LoongArch ELF psABI": the low three bits; 3 is double.
        EM_LOONGARCH if flags & 0x7 != 3 => Some("a LoongArch ABI other than lp64d"),
        // "64-Bit ELF V2 ABI": the low two bits are the version; 0 is not said.
        header::EM_PPC64 if parsed.little_endian && flags & 3 == 1 => Some("PowerPC's ELFv1 ABI"),
        _ => None,
    }
}
