//! What can go wrong when binaries are read and judged, each with what to do next.

use crate::elf::LibcVersion;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read; the source names it.
    #[error("Failed to read a binary")]
    Read(#[from] std::io::Error),

    /// A file is not the ELF file that it should be.
    #[error("Failed to parse `{path}` as ELF")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: goblin::error::Error,
    },

    /// A file has the magic of ELF, Mach-O or PE and is damaged.
    #[error("Failed to read the binary `{path}`")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: goblin::error::Error,
    },

    /// An ELF file for a machine or byte order that no wheel of ours is made for.
    #[error("`{path}` is for the machine `{machine}`, which no wheel of ours is made for")]
    Machine {
        /// The file.
        path: PathBuf,
        /// ELF's word for it.
        machine: String,
    },

    /// A library that neither the platform promises nor the bundle carries.
    #[error("`{path}` needs `{library}`, which the manylinux platforms do not promise")]
    Library {
        /// The file that asks for it.
        path: PathBuf,
        /// The library's soname.
        library: String,
    },

    /// A symbol version whose platform floor is not known.
    #[error("`{path}` needs `{symbol}` at version `{version}`, whose floor is not known")]
    Version {
        /// The file that asks for it.
        path: PathBuf,
        /// One symbol that is bound to the version.
        symbol: String,
        /// The version's name, for example `GCC_14.0.0`.
        version: String,
    },

    /// A dynamically linked file without symbol versions: its floor cannot be proved.
    #[error("`{path}` is linked dynamically but has no symbol versions")]
    Unversioned {
        /// The file.
        path: PathBuf,
    },

    /// The tag that was asked for is lower than what a file needs.
    #[error("`{path}` needs `{symbol}` of glibc {needed}, which forbids a tag for glibc {wanted}")]
    Floor {
        /// The file that forbids it.
        path: PathBuf,
        /// The symbol that forbids it.
        symbol: String,
        /// What the file needs.
        needed: LibcVersion,
        /// What the tag would promise.
        wanted: LibcVersion,
    },

    /// The files of one wheel are for different machines.
    #[error("`{path}` is for {found}, the other files of the wheel are for {expected}")]
    Mixed {
        /// The file that differs.
        path: PathBuf,
        /// Its architecture.
        found: host_platform::Arch,
        /// That of the files before it.
        expected: host_platform::Arch,
    },

    /// No file to derive a tag from.
    #[error("Failed to derive a platform tag: the bundle holds no binary")]
    Empty,

    /// A linker map without the part that lists what was linked.
    #[error("`{path}` is not a linker map of GNU ld: it has no memory map")]
    LinkMap {
        /// The map file.
        path: PathBuf,
    },

    /// A component of the bundle whose licence is not an SPDX expression.
    #[error("The component `{component}` has the licence `{license}`, which is no SPDX expression")]
    License {
        /// The component's name.
        component: String,
        /// What was given as its licence.
        license: String,
        /// Where the expression goes wrong.
        #[source]
        source: spdx::ParseError,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Library { library, .. } => {
                format!("link `{library}` statically, or put it into the bundle")
            }
            Error::Version { .. } | Error::Unversioned { .. } => {
                "link the file statically, or build it against an older toolchain".to_owned()
            }
            Error::Floor { symbol, needed, .. } => format!(
                "tag the wheel for glibc {needed} or later, or build on a system whose glibc is older, \
                 without `{symbol}`"
            ),
            Error::Mixed { .. } => "make one wheel for each architecture".to_owned(),
            Error::License { .. } => {
                "write identifiers of spdx.org/licenses joined by AND, OR and WITH".to_owned()
            }
            Error::LinkMap { .. } => "link with GNU ld and -Wl,-Map".to_owned(),
            Error::Read(_)
            | Error::Parse { .. }
            | Error::Damaged { .. }
            | Error::Machine { .. }
            | Error::Empty => {
                return None;
            }
        };
        Some(text)
    }
}
