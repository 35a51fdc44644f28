//! Where a find came from, and what was tried before it.

use serde::Serialize;
use std::{fmt, path::PathBuf};

/// The kind of place that something was found in, in the order of looking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Source {
    /// A path that the caller gave, in the configuration or as the image's name.
    Configuration,
    /// An environment variable, with its name.
    Environment(&'static str),
    /// A save below the working folder.
    WorkingFolder,
    /// A save below the home folder.
    HomeFolder,
    /// An installed Python package, with its distribution's name.
    Wheel(String),
    /// The user's data folder.
    DataFolder,
    /// A folder of PATH.
    Path,
    /// A folder in which the system's usual installers put it, though PATH lacks it.
    WellKnown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("configuration"),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::WorkingFolder => f.write_str("working folder"),
            Self::HomeFolder => f.write_str("home folder"),
            Self::Wheel(distribution) => write!(f, "Python package {distribution}"),
            Self::DataFolder => f.write_str("data folder"),
            Self::Path => f.write_str("PATH"),
            Self::WellKnown => f.write_str("well-known folder"),
        }
    }
}

/// One place that was looked at and why it was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The kind of place.
    pub source: Source,
    /// The folder or file that was looked at.
    pub path: PathBuf,
    /// What was there instead, as a phrase like `no such folder`.
    pub outcome: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.source, self.path.display(), self.outcome)
    }
}
