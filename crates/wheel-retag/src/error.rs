//! Everything that can go wrong with a wheel.

use std::{io, path::PathBuf};

/// An error while reading, writing or changing a wheel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that goes into the wheel, or the folder that gets it, cannot be used.
    #[error("Failed to {action} `{path}`")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The archive cannot be read or written.
    #[error("Failed to {action} the archive `{path}`")]
    Zip {
        /// What was tried, as a verb.
        action: &'static str,
        /// The wheel.
        path: PathBuf,
        /// What the archive's reader or writer says.
        #[source]
        source: zip::result::ZipError,
    },
    /// One file of a wheel cannot be read.
    #[error("Failed to read `{entry}` in `{path}`")]
    Entry {
        /// The wheel.
        path: PathBuf,
        /// The path inside the archive.
        entry: String,
        /// What the archive's reader, or who read, says.
        #[source]
        source: io::Error,
    },
    /// A name that no installer would accept.
    #[error("Distribution name `{name}` is not valid")]
    DistributionName {
        /// The name as it was given.
        name: String,
    },
    /// A version that PEP 440 does not allow.
    #[error("Version `{version}` is not valid: {reason}")]
    Version {
        /// The version as it was given.
        version: String,
        /// What the parser says.
        reason: String,
    },
    /// A tag with an empty or impossible part.
    #[error("Tag `{tag}` is not valid: {reason}")]
    Tag {
        /// The tag as it was given.
        tag: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A file name that is not a wheel's.
    #[error("`{file_name}` is not the file name of a wheel: {reason}")]
    FileName {
        /// The file name as it was given.
        file_name: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A value that would change the meaning of the file that it is written to.
    #[error("Metadata field `{field}` is not valid: {reason}")]
    MetadataField {
        /// The field's name in METADATA or entry_points.txt.
        field: &'static str,
        /// Which rule the value breaks, with the value.
        reason: String,
    },
    /// A path inside the wheel that is unsafe, ambiguous or already taken.
    #[error("Path `{entry}` cannot be in a wheel: {reason}")]
    EntryPath {
        /// The path inside the archive.
        entry: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A file or archive that would need the zip64 extension.
    #[error("`{path}` is too large for a wheel: {size} bytes")]
    TooLarge {
        /// The file that goes in, or the wheel itself.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// A word that names none of the release's runners.
    #[error("Unknown runner `{name}`")]
    Runner {
        /// The word as it was given.
        name: String,
    },
    /// A wheel of that name is there already, with other contents.
    #[error("`{path}` is there already, with other contents")]
    Taken {
        /// The wheel.
        path: PathBuf,
    },
    /// Two wheels would get one name.
    #[error("Both `{one}` and `{other}` would become `{name}`")]
    SameName {
        /// A wheel.
        one: PathBuf,
        /// Another wheel.
        other: PathBuf,
        /// The name that both would get.
        name: String,
    },
    /// A wheel, or a folder of wheels, that cannot become a fat one.
    #[error("Failed to merge `{wheel}`: {reason}")]
    Merge {
        /// The wheel or the folder.
        wheel: PathBuf,
        /// What is in the way.
        reason: String,
    },
    /// A wheel whose own files contradict each other, so that it cannot be changed safely.
    #[error("`{path}` is not a sound wheel: {reason}")]
    NotAWheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { .. } | Self::Zip { .. } | Self::Entry { .. } => return None,
            Self::DistributionName { .. } => {
                "use letters, digits, `-`, `_` and `.`, with a letter or digit at both ends"
            }
            Self::Version { .. } => {
                "use a version of PEP 440, for example `1.2.3`, `1.2rc1` or `1.2+local`"
            }
            Self::Tag { .. } => "write it as python-abi-platform, for example `py3-none-win_amd64`",
            Self::FileName { .. } => {
                "a wheel is named NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl"
            }
            Self::MetadataField { .. } => return None,
            Self::EntryPath { .. } => {
                "use relative paths with `/`, each once, that differ by more than case"
            }
            Self::TooLarge { .. } => {
                "files and wheels stay below 4 GiB (indexes accept far less): split or compress it"
            }
            Self::Runner { .. } => {
                "use linux-x64, linux-arm64, macos-arm64, windows-x64 or windows-arm64"
            }
            Self::Taken { .. } => "remove it, or write into another folder",
            Self::SameName { .. } => "leave one of the two in the folder",
            Self::Merge { .. } => {
                "the folder needs the win_amd64 and the win_arm64 wheel of one version, as their runners built them"
            }
            Self::NotAWheel { .. } => "run `cargo xtask verify` on it for the full list",
        };
        Some(hint.to_owned())
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn zip(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(zip::result::ZipError) -> Self {
        let path = path.into();
        move |source| Self::Zip { action, path, source }
    }
}
