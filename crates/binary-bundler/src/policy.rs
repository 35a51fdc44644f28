//! What each platform tag promises, as data: `manylinux.toml`, `musllinux.toml`, `linux-system.toml`, `windows.toml`.
//!
//! Owns the tables and the questions put to them. Must not know about files. Differences from
//! auditwheel: the tables are our own, with the PEP or the distribution behind each row, and maxima
//! instead of lists of versions.

use crate::libc_version::LibcVersion;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::LazyLock};

/// One platform of PEP 600 with the highest symbol versions that it has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    #[serde(deserialize_with = "libc_version")]
    pub(crate) glibc: LibcVersion,
    glibcxx: String,
    cxxabi: String,
    gcc: String,
    zlib: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manylinux {
    platform: Vec<Platform>,
    library: Vec<Libraries>,
    first: BTreeMap<String, Text>,
    alias: BTreeMap<String, String>,
    hidden: Vec<Hidden>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Libraries {
    names: Vec<String>,
    #[serde(default)]
    since: BTreeMap<String, Text>,
    #[serde(default, rename = "pep")]
    _pep: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hidden {
    library: String,
    symbols: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Musllinux {
    lowest: String,
    libraries: Vec<String>,
    since: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinuxSystem {
    glibc: Vec<String>,
    functions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Windows {
    prefixes: Vec<String>,
    names: Vec<String>,
    python: Vec<String>,
}

/// A glibc version as it stands in the tables.
#[derive(Clone, Copy, Deserialize)]
struct Text(#[serde(deserialize_with = "libc_version")] LibcVersion);

fn libc_version<'de, D: serde::Deserializer<'de>>(from: D) -> Result<LibcVersion, D::Error> {
    let text = String::deserialize(from)?;
    parse_libc(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no version")))
}

pub(crate) fn parse_libc(text: &str) -> Option<LibcVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(LibcVersion { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

// A test parses each table, so that the messages below are never seen.
static MANYLINUX: LazyLock<Manylinux> = LazyLock::new(|| {
    toml::from_str(include_str!("policy/manylinux.toml")).expect("our own table parses")
});
static MUSLLINUX: LazyLock<Musllinux> = LazyLock::new(|| {
    toml::from_str(include_str!("policy/musllinux.toml")).expect("our own table parses")
});
static LINUX: LazyLock<LinuxSystem> = LazyLock::new(|| {
    toml::from_str(include_str!("policy/linux-system.toml")).expect("our own table parses")
});
static WINDOWS: LazyLock<Windows> = LazyLock::new(|| {
    toml::from_str(include_str!("policy/windows.toml")).expect("our own table parses")
});

/// The platforms of PEP 600 that distributions really have, oldest first.
pub fn platforms() -> &'static [Platform] {
    &MANYLINUX.platform
}

/// The lowest glibc of any platform with this machine; none for a machine without platforms.
pub fn first_glibc(arch: &str) -> Option<LibcVersion> {
    MANYLINUX.first.get(arch).map(|text| text.0)
}

/// The lowest named platform that has at least this glibc.
pub fn named_platform(glibc: LibcVersion) -> Option<&'static Platform> {
    platforms().iter().find(|platform| platform.glibc >= glibc)
}

/// The name under PEP 600 of a tag that is older than it (`manylinux2014` is `manylinux_2_17`).
pub fn modern_name(tag: &str) -> &str {
    MANYLINUX.alias.get(tag).map_or(tag, String::as_str)
}

/// From which glibc on a wheel may leave a library to the system; none when it never may.
pub fn library_since(name: &str, arch: &str) -> Option<LibcVersion> {
    let row = MANYLINUX.library.iter().find(|row| row.names.iter().any(|other| other == name))?;
    if row.since.is_empty() {
        return Some(platforms()[0].glibc);
    }
    row.since.get(arch).map(|text| text.0)
}

/// What a symbol version asks of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// This glibc, or a platform that has at least this glibc.
    Glibc(LibcVersion),
    /// Something that no platform has.
    Never,
    /// Nothing: the name space is not bounded by the policy.
    Nothing,
}

/// What the version of a symbol, such as `GLIBCXX_3.4.29`, asks of the platform.
pub fn version_needs(version: &str) -> Needs {
    // glibc's own names first: the loader of 2.36 knows packed relocations, that of 2.42 the mark for
    // TLS descriptors; GLIBC_PRIVATE ties a file to one build.
    match version {
        "GLIBC_ABI_DT_RELR" => return Needs::Glibc(LibcVersion { major: 2, minor: 36 }),
        "GLIBC_ABI_GNU2_TLS" | "GLIBC_ABI_GNU_TLS" => {
            return Needs::Glibc(LibcVersion { major: 2, minor: 42 });
        }
        // Transactional memory came with GCC 4.7's library, __float128 with that of GCC 5.
        "CXXABI_TM_1" => return Needs::Glibc(LibcVersion { major: 2, minor: 17 }),
        "CXXABI_FLOAT128" => return Needs::Glibc(LibcVersion { major: 2, minor: 24 }),
        _ => {}
    }
    let Some((space, text)) = version.split_once('_') else { return Needs::Nothing };
    let column: fn(&Platform) -> &str = match space {
        "GLIBC" => {
            return crate::elf::libc_version(version).map_or(Needs::Never, Needs::Glibc);
        }
        "GLIBCXX" => |platform| &platform.glibcxx,
        "CXXABI" => |platform| &platform.cxxabi,
        "GCC" => |platform| &platform.gcc,
        "ZLIB" => |platform| &platform.zlib,
        _ => return Needs::Nothing,
    };
    let Some(asked) = numbers(text) else { return Needs::Never };
    platforms()
        .iter()
        .find(|platform| numbers(column(platform)).is_some_and(|has| has >= asked))
        .map_or(Needs::Never, |platform| Needs::Glibc(platform.glibc))
}

/// Whether a library hides this symbol on some platforms.
pub fn is_hidden(library: &str, symbol: &str) -> bool {
    MANYLINUX.hidden.iter().filter(|row| row.library == library).flat_map(|row| &row.symbols).any(
        |pattern| match pattern.strip_suffix('*') {
            Some(start) => symbol.starts_with(start),
            None => symbol == pattern,
        },
    )
}

/// The names that a file of ours asks of zlib and its kin: libraries with hidden symbols.
pub fn libraries_with_hidden_symbols() -> impl Iterator<Item = &'static str> {
    MANYLINUX.hidden.iter().map(|row| row.library.as_str())
}

/// The musl version that a tag names at least: what can be proved without symbol versions.
pub fn lowest_musl() -> &'static str {
    &MUSLLINUX.lowest
}

/// Whether a wheel for musl may leave a library to the system.
pub fn is_beside_musl(name: &str) -> bool {
    MUSLLINUX.libraries.iter().any(|library| library == name)
}

/// The musl release that brought a function, when it is younger than the lowest tag's.
pub fn musl_since(symbol: &str) -> Option<&'static str> {
    MUSLLINUX.since.get(symbol).map(String::as_str)
}

/// Whether a function is the C library's, whoever's that is: the ISO C and POSIX names that most
/// programs use.
pub fn is_of_every_libc(symbol: &str) -> bool {
    LINUX.functions.iter().any(|function| function == symbol)
}

/// Whether a library belongs to the C library itself (glibc or musl) or is its loader.
pub fn is_libc_part(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    crate::inspect::is_glibc_loader(file)
        || file.starts_with("ld-musl-")
        || file.starts_with("libc.musl-")
        || file == "libc.so"
        || LINUX.glibc.iter().any(|part| part == file)
}

/// Whether a DLL comes with Windows (names are compared without case).
pub fn is_windows_dll(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WINDOWS.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
        || WINDOWS.names.binary_search(&name).is_ok()
}

/// Whether a DLL comes with Python: its own, such as `python313.dll`, and its C runtime's.
pub fn is_python_dll(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_versioned = || {
        let version = name.strip_prefix("python3")?.strip_suffix(".dll")?;
        version.trim_end_matches(['t', 'd', '_']).parse::<u32>().ok()
    };
    WINDOWS.python.contains(&name) || is_versioned().is_some()
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    text.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_order() {
        assert!(platforms().is_sorted_by_key(|platform| platform.glibc));
        let columns: [fn(&Platform) -> &String; 4] =
            [|p| &p.glibcxx, |p| &p.cxxabi, |p| &p.gcc, |p| &p.zlib];
        for column in columns {
            assert!(platforms().is_sorted_by_key(|p| numbers(column(p)).unwrap()));
        }
        assert!(WINDOWS.names.is_sorted(), "is_windows_dll searches by halving");
        assert_eq!(MUSLLINUX.lowest, "1.2");
        assert!(is_libc_part("libc.so.6") && is_libc_part("/lib64/ld-linux-x86-64.so.2"));
        assert!(!is_libc_part("libcrypt.so.1") && !is_libc_part("libgcc_s.so.1"));
    }

    #[test]
    fn versions_ask_for_platforms() {
        let check = |version: &str, expect: &str| {
            let needs = match version_needs(version) {
                Needs::Glibc(glibc) => glibc.to_string(),
                other => format!("{other:?}"),
            };
            assert_eq!(needs, expect, "{version}");
        };
        check("GLIBC_2.2.5", "2.2");
        check("GLIBC_2.38", "2.38");
        check("GLIBC_PRIVATE", "Never");
        check("GLIBC_ABI_DT_RELR", "2.36");
        check("GLIBCXX_3.4.8", "2.5");
        check("GLIBCXX_3.4.9", "2.12");
        check("GLIBCXX_3.4.21", "2.24");
        check("GLIBCXX_3.4.99", "Never");
        check("CXXABI_1.3.9", "2.24");
        check("CXXABI_TM_1", "2.17");
        check("GCC_4.2.0", "2.5");
        check("GCC_7.0.0", "2.27");
        check("ZLIB_1.2.9", "2.27");
        check("OPENSSL_3.0.0", "Nothing");
    }

    #[test]
    fn libraries_have_their_rows() {
        let check = |name: &str, arch: &str, expect: Option<&str>| {
            let since = library_since(name, arch).map(|version| version.to_string());
            assert_eq!(since.as_deref(), expect, "{name} {arch}");
        };
        check("libc.so.6", "x86_64", Some("2.5"));
        check("libmvec.so.1", "x86_64", Some("2.24"));
        check("libmvec.so.1", "s390x", None);
        check("libssl.so.3", "x86_64", None);
        assert!(is_hidden("libz.so.1", "_tr_init"));
        assert!(is_hidden("libz.so.1", "inflate_table"));
        assert!(!is_hidden("libz.so.1", "inflate"));
        assert!(!is_hidden("libc.so.6", "_exit"));
    }

    #[test]
    fn dlls_of_windows_and_python_are_known() {
        let check = |name: &str, windows: bool, python: bool| {
            assert_eq!((is_windows_dll(name), is_python_dll(name)), (windows, python), "{name}");
        };
        check("KERNEL32.dll", true, false);
        check("api-ms-win-crt-heap-l1-1-0.dll", true, false);
        check("WinHvPlatform.dll", true, false);
        check("libglib-2.0-0.dll", false, false);
        check("python313.dll", false, true);
        check("python313t.dll", false, true);
        check("VCRUNTIME140.dll", false, true);
        check("pythonium.dll", false, false);
    }
}
