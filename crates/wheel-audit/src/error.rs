//! What can go wrong when wheels and their binaries are judged, each with what to do next.

use std::{io, path::PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A wheel cannot be read.
    #[error("Failed to audit the wheel `{path}`")]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: wheel_retag::Error,
    },

    /// A file that is nothing to audit.
    #[error("`{path}` is neither a wheel nor an executable or library")]
    NotAuditable {
        /// The file.
        path: PathBuf,
    },

    /// A folder cannot be read.
    #[error("Failed to walk `{folder}`")]
    Walk {
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: walkdir::Error,
    },

    /// The binaries of a wheel are for several machines or systems, or for none.
    #[error("The binaries of `{name}` bear no one tag:\n{report}")]
    NoOneTag {
        /// What they belong to.
        name: String,
        /// What was found, as text.
        report: String,
    },

    /// One half of a fat wheel would not run.
    #[error("The {half} half in `{wheel}` cannot be merged: {problem}")]
    Half {
        /// The half's folder.
        half: String,
        /// The wheel that it comes from.
        wheel: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A folder that has to hold wheels.
    #[error("`{folder}` has no wheels in it")]
    NoWheels { folder: PathBuf },

    /// Wheels that installers would refuse, or install otherwise than they say.
    #[error("{n_unsound} of {n_wheels} wheels are not sound")]
    Unsound {
        /// How many of them.
        n_unsound: usize,
        /// How many were verified.
        n_wheels: usize,
    },

    /// A binary cannot be read.
    #[error(transparent)]
    Binary(#[from] binary_bundler::Error),

    /// A wheel cannot be retagged, merged or found.
    #[error(transparent)]
    Change(#[from] wheel_retag::Error),

    /// A file cannot be read; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Wheel { source, .. } | Self::Change(source) => return source.hint(),
            Self::Binary(source) => return source.hint(),
            Self::Walk { .. } | Self::Io(_) => return None,
            Self::NotAuditable { .. } => {
                "audit reads .whl files, folders, and binaries of Linux, macOS and Windows"
            }
            Self::NoOneTag { .. } => "`cargo xtask audit` on each file says why",
            Self::Half { .. } => {
                "build that wheel again on its own runner; both files are as they were"
            }
            Self::NoWheels { .. } => "name files that end with .whl, or a folder with such files",
            Self::Unsound { .. } => {
                "make them again; a wheel that was changed by hand needs RECORD and WHEEL made anew"
            }
        };
        Some(hint.to_owned())
    }
}
