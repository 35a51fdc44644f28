//! Mach-O: for each slice the architecture, the oldest macOS, the libraries and search paths.
//!
//! The format: `mach-o/loader.h` of Apple's cctools. The oldest system is that of the load command
//! `LC_BUILD_VERSION`, or `LC_VERSION_MIN_MACOSX` in files of older linkers.

use goblin::{
    error::Error,
    mach::{
        Mach, MachO as Parsed, SingleArch, constants::cputype, header, load_command::CommandVariant,
    },
};
use std::fmt;

/// A Mach-O file: one slice, or several in a universal file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachO {
    /// The slices in the file's order.
    pub slices: Vec<MachOSlice>,
}

/// What one slice says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachOSlice {
    /// `x86_64` or `arm64`, as platform tags call them; other machines as `cpu-<number>`.
    pub arch: String,
    /// Whether it is a program (`MH_EXECUTE`) rather than a library or bundle.
    pub is_executable: bool,
    /// Its own install name (`LC_ID_DYLIB`).
    pub install_name: Option<String>,
    /// The install names of the libraries that it needs, in the file's order.
    pub needed: Vec<String>,
    /// Those of them that may be absent (`LC_LOAD_WEAK_DYLIB`).
    pub weak: Vec<String>,
    /// Its search paths (`LC_RPATH`), as written.
    pub rpaths: Vec<String>,
    /// The oldest macOS that it is made for; none when no load command says so.
    pub minimum: Option<SystemVersion>,
    /// The load command that says so.
    pub minimum_source: &'static str,
    /// The platform number of `LC_BUILD_VERSION`: 1 is macOS, 2 iOS, 7 iOS's simulator. A file for
    /// macOS and another system (zippered) counts as one for macOS.
    pub platform: u32,
    /// Whether it carries a code signature.
    pub is_signed: bool,
}

/// A version of macOS, for example 10.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemVersion {
    /// The number before the dot.
    pub major: u32,
    /// The number after it.
    pub minor: u32,
}

impl fmt::Display for SystemVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl SystemVersion {
    /// From the nibbles `xxxx.yy.zz` of a load command. A third number raises the second, so that
    /// the version is never lower than what the file asks for.
    fn from_nibbles(nibbles: u32) -> Self {
        let minor = ((nibbles >> 8) & 0xff) + u32::from(nibbles & 0xff != 0);
        Self { major: nibbles >> 16, minor }
    }
}

/// The platform numbers of `LC_BUILD_VERSION`.
pub(crate) const PLATFORM_MACOS: u32 = 1;
pub(crate) const PLATFORM_IOS: u32 = 2;
pub(crate) const PLATFORM_IOS_SIMULATOR: u32 = 7;

pub(super) fn read(bytes: &[u8]) -> Result<Option<MachO>, Error> {
    let mut slices = Vec::new();
    match Mach::parse(bytes)? {
        Mach::Binary(parsed) => slices.extend(slice(&parsed)),
        Mach::Fat(fat) => {
            for entry in fat.into_iter() {
                if let SingleArch::MachO(parsed) = entry? {
                    slices.extend(slice(&parsed));
                }
            }
        }
    }
    Ok((!slices.is_empty()).then_some(MachO { slices }))
}

fn slice(parsed: &Parsed<'_>) -> Option<MachOSlice> {
    if !matches!(parsed.header.filetype, header::MH_EXECUTE | header::MH_DYLIB | header::MH_BUNDLE)
    {
        return None;
    }
    const LC_LOAD_WEAK_DYLIB: u32 = 0x8000_0018;
    let arch = match parsed.header.cputype {
        cputype::CPU_TYPE_X86_64 => "x86_64".to_owned(),
        cputype::CPU_TYPE_ARM64 => "arm64".to_owned(),
        other => format!("cpu-{other}"),
    };
    let mut found = MachOSlice {
        arch,
        is_executable: parsed.header.filetype == header::MH_EXECUTE,
        install_name: parsed.name.map(str::to_owned),
        // The parser's list starts with the file itself.
        needed: parsed.libs.iter().skip(1).map(|name| (*name).to_owned()).collect(),
        weak: Vec::new(),
        rpaths: parsed.rpaths.iter().map(|path| (*path).to_owned()).collect(),
        minimum: None,
        minimum_source: "",
        platform: PLATFORM_MACOS,
        is_signed: false,
    };
    let mut n_libraries = 0;
    for command in &parsed.load_commands {
        match command.command {
            // A zippered file has one for macOS and one for Catalyst, in any order.
            CommandVariant::BuildVersion(build)
                if found.minimum_source == "LC_BUILD_VERSION"
                    && (found.platform == PLATFORM_MACOS || build.platform != PLATFORM_MACOS) => {}
            CommandVariant::BuildVersion(build) => {
                found.minimum = Some(SystemVersion::from_nibbles(build.minos));
                found.minimum_source = "LC_BUILD_VERSION";
                found.platform = build.platform;
            }
            CommandVariant::VersionMinMacosx(version) if found.minimum.is_none() => {
                found.minimum = Some(SystemVersion::from_nibbles(version.version));
                found.minimum_source = "LC_VERSION_MIN_MACOSX";
            }
            CommandVariant::VersionMinIphoneos(version) if found.minimum.is_none() => {
                found.minimum = Some(SystemVersion::from_nibbles(version.version));
                found.minimum_source = "LC_VERSION_MIN_IPHONEOS";
                found.platform = PLATFORM_IOS;
            }
            CommandVariant::CodeSignature(_) => found.is_signed = true,
            CommandVariant::LoadDylib(_)
            | CommandVariant::LoadUpwardDylib(_)
            | CommandVariant::ReexportDylib(_)
            | CommandVariant::LazyLoadDylib(_) => n_libraries += 1,
            CommandVariant::LoadWeakDylib(library) => {
                if library.cmd == LC_LOAD_WEAK_DYLIB {
                    found.weak.extend(found.needed.get(n_libraries).cloned());
                }
                n_libraries += 1;
            }
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_never_lower_than_what_is_asked() {
        let check = |nibbles: u32, expect: &str| {
            assert_eq!(SystemVersion::from_nibbles(nibbles).to_string(), expect);
        };
        check(0x000a_0d00, "10.13");
        check(0x000b_0000, "11.0");
        check(0x000a_0e06, "10.15");
    }
}
