//! What keeps the source of a release from being whole, each with what to do next.

use std::{io, path::PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A wheel that does not say what it is made of.
    #[error("`{wheel}` has no bill of materials")]
    NoBill { wheel: String },

    /// Parts whose source cannot be had.
    #[error("The source of {} cannot be had", parts.join(", "))]
    NoSource {
        /// The parts, each with its wheel.
        parts: Vec<String>,
    },

    /// Source packages that no mirror has.
    #[error("No mirror has the source of {}", packages.join(", "))]
    Gone { packages: Vec<String> },

    /// A distribution whose archives are not known.
    #[error("The source packages of `{distribution}` are not known; those of {} are", known.join(", "))]
    Distribution {
        distribution: String,
        /// Those that are.
        known: Vec<String>,
    },

    /// Packages hold parts of others, and which ones is not known.
    #[error("Nothing says what {} was built from", packages.join(", "))]
    BuiltUsing { packages: Vec<String> },

    /// A file of the tree of this repository that git does not list.
    #[error("The files of `{root}` cannot be listed")]
    Tree {
        root: PathBuf,
        /// What git says.
        #[source]
        source: io::Error,
    },

    /// A table of pins that cannot be read.
    #[error("Failed to read `{file}`")]
    Pins {
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<toml::de::Error>,
    },

    /// A file whose content is not what its bill says.
    #[error("`{path}` has the sha256 {found}, expected {expected}")]
    WrongHash {
        path: PathBuf,
        found: String,
        /// The hash of the bill.
        expected: String,
    },

    /// apt cannot be asked.
    #[error(transparent)]
    Apt(#[from] image_builder::Error),

    /// A wheel cannot be read.
    #[error(transparent)]
    Wheel(#[from] wheel_retag::Error),

    /// A file cannot be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Apt(source) => return source.hint(),
            Self::Wheel(source) => return source.hint(),
            Self::Io(_) | Self::Pins { .. } => return None,
            Self::NoBill { .. } => {
                "only wheels of this project's own tasks have one; take the others out of the folder"
            }
            Self::NoSource { .. } => {
                "its bill must name the source's files with their hashes, or a source package of Debian or Ubuntu; \
                 what has no source to give may not be published"
            }
            Self::Gone { .. } => {
                "say where the archive's past is: QUICKSAND_SNAPSHOT_DEBIAN=URL; or move the images' locks to what \
                 the mirror has: cargo xtask bake --renew"
            }
            Self::Distribution { .. } => "bake the image from one of these, or do not publish it",
            Self::BuiltUsing { .. } => {
                "name a mirror that still has the package: QUICKSAND_MIRROR_DEBIAN_SECURITY=URL, or \
                 QUICKSAND_MIRROR_UBUNTU=URL"
            }
            Self::Tree { .. } => "run it in a checkout of the repository, with git installed",
            Self::WrongHash { .. } => {
                "delete the file, it is fetched again; or build the wheel anew"
            }
        };
        Some(hint.to_owned())
    }
}
