//! What can go wrong when binaries are read and judged, each with what to do next.

use crate::libc_version::LibcVersion;
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
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: goblin::error::Error,
    },

    /// A file has the magic of ELF, Mach-O or PE and is damaged.
    #[error("Failed to read the binary `{path}`")]
    Damaged {
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: goblin::error::Error,
    },

    /// A file should be an executable or a library and is something else.
    #[error("`{path}` is no executable or library of Linux, macOS or Windows")]
    NoBinary { path: PathBuf },

    /// Files of different systems cannot be one bundle.
    #[error("`{path}` and `{other}` are for different systems")]
    MixedFormats {
        /// The file that differs.
        path: PathBuf,
        /// The first file.
        other: PathBuf,
    },

    /// A library that the loader would not find either.
    #[error("`{path}` needs `{library}`, which is in none of the folders that its loader searches")]
    NotFound {
        /// The file that asks for it.
        path: PathBuf,
        /// The name that it asks for.
        library: String,
    },

    /// Symbolic links that lead to each other.
    #[error("The links of `{path}` turn in a circle")]
    LinkLoop {
        /// The path that was to be resolved.
        path: PathBuf,
    },

    /// A file that cannot be edited.
    #[error("Failed to relocate `{path}`: {what}")]
    Edit {
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },

    /// A written file that is not as it should be.
    #[error("`{path}` is not relocatable: {what}")]
    Verify {
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// What was given is not a valid pattern for modules.
    #[error("`{pattern}` is no pattern for files")]
    Pattern {
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: glob::PatternError,
    },

    /// A pattern for modules that matches nothing.
    #[error("No file matches `{pattern}`")]
    NoMatch { pattern: String },

    /// Two files want one place in the bundle.
    #[error("Both `{one}` and `{other}` belong at `{place}` of the bundle")]
    Place {
        place: PathBuf,
        /// A file.
        one: PathBuf,
        /// Another file.
        other: PathBuf,
    },

    /// A place that leads out of the bundle.
    #[error("The place `{place}` lies outside the tree")]
    Outside { place: PathBuf },

    /// The tree is there already.
    #[error("`{path}` exists")]
    Exists { path: PathBuf },

    /// An ELF file for a machine or byte order that no wheel of ours is made for.
    #[error("`{path}` is for the machine `{machine}`, which no wheel of ours is made for")]
    Machine {
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
    Unversioned { path: PathBuf },

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
        found: host_platform::Arch,
        /// That of the files before it.
        expected: host_platform::Arch,
    },

    /// What was built for this hardware runs on another.
    #[error("The binaries are for `{proved}`, and a wheel that is built here is for `{claim}`")]
    OtherMachine {
        /// What the audit proved.
        proved: String,
        /// The tag of this hardware.
        claim: String,
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
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Library { library, .. } => {
                format!("link `{library}` statically, or put it into the bundle")
            }
            Self::Version { .. } | Self::Unversioned { .. } => {
                "link the file statically, or build it against an older toolchain".to_owned()
            }
            Self::Floor { symbol, needed, .. } => format!(
                "tag the wheel for glibc {needed} or later, or build on a system whose glibc is older, \
                 without `{symbol}`"
            ),
            Self::Mixed { .. } => "make one wheel for each architecture".to_owned(),
            Self::NotFound { library, .. } => {
                format!("install the package that has `{library}`, or name it as excluded")
            }
            Self::MixedFormats { .. } => "make one bundle for each system".to_owned(),
            Self::NoMatch { .. } => {
                "install the package with these modules, or leave the pattern out".to_owned()
            }
            Self::Outside { .. } => "name a path inside the tree, without `..`".to_owned(),
            Self::Exists { .. } => "remove it, or name another folder".to_owned(),
            Self::Place { .. } => "leave one of them out".to_owned(),
            Self::Edit { what, .. } if what.contains("-headerpad") => {
                "link the file again as the message says, or take a package manager's build"
                    .to_owned()
            }
            Self::OtherMachine { .. } => {
                "build or install what is for this machine's own processor, not for one that it emulates".to_owned()
            }
            Self::LinkMap { .. } => "link with GNU ld and -Wl,-Map".to_owned(),
            Self::Read(_)
            | Self::Parse { .. }
            | Self::Damaged { .. }
            | Self::NoBinary { .. }
            | Self::LinkLoop { .. }
            | Self::Edit { .. }
            | Self::Verify { .. }
            | Self::Pattern { .. }
            | Self::Machine { .. }
            | Self::Empty => {
                return None;
            }
        };
        Some(text)
    }
}
