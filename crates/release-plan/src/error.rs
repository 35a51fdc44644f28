//! What keeps wheels from being a release, each with what to do next.

use std::{io, path::PathBuf};
use wheel_retag::Runner;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tag of the repository that belongs to another version.
    #[error("The tag `{tag}` is not that of the version {version}: `v{version}` is")]
    OtherTag {
        /// The tag as it was given.
        tag: String,
        /// The version of this tree.
        version: String,
    },

    /// A runner made other wheels than planned.
    #[error("{runner} did not make {}; it made {}", missing.join(", "), made.join(", "))]
    NotMade {
        runner: Runner,
        /// Names of the plan for which it made no wheel.
        missing: Vec<String>,
        /// The names of what it made.
        made: Vec<String>,
    },

    /// Runners made different wheels of one name.
    #[error("`{name}` is another wheel on each of {runners}")]
    Different {
        name: String,
        /// The runners, in words.
        runners: String,
    },

    /// A folder that has to hold a release.
    #[error("`{folder}` has no wheels in it")]
    NoWheels { folder: PathBuf },

    /// A tag that promises more than the wheel's files hold.
    #[error("`{wheel}` claims {claim}, which is not true: {reason}")]
    Untrue {
        wheel: String,
        claim: String,
        /// What it does not hold.
        reason: String,
    },

    /// Wheels of the plan are missing, or others are there.
    #[error("The release is not the plan's: {} wheels are missing, {} are not planned", missing.len(), unplanned.len())]
    NotThePlan {
        /// Names of the plan without a wheel.
        missing: Vec<String>,
        /// Wheels that the plan does not know.
        unplanned: Vec<String>,
    },

    /// Wheels of one name are staged.
    #[error("Two wheels would be uploaded as `{name}`")]
    Twice { name: String },

    /// What is staged must not lie beside anything else, which would be uploaded with it.
    #[error("`{folder}` is not empty")]
    NotEmpty { folder: PathBuf },

    /// Wheels without an attestation where each has to have one.
    #[error("{} wheels have no attestation: {}", wheels.len(), wheels.join(", "))]
    Unattested { wheels: Vec<String> },

    /// An attestation that is not of the wheel beside it.
    #[error("`{file}` does not attest its wheel: {what}")]
    Attestation {
        /// The name of the attestation.
        file: String,
        /// What is wrong with it.
        what: String,
    },

    /// The index takes no files as large as these.
    #[error("The index takes files of {limit} bytes at most: {}", files.join(", "))]
    TooLarge {
        /// Its limit in bytes.
        limit: u64,
        /// The files with their sizes, in words.
        files: Vec<String>,
    },

    /// The public index would refuse a wheel's tag.
    #[error("The public index refuses the tag of `{wheel}`")]
    Refused {
        wheel: String,
        /// Whether the tags were replaced already, where that is possible.
        is_staged: bool,
    },

    /// The place of an index holds something else.
    #[error("`{place}` is no index, so it is not replaced")]
    NotAnIndex { place: PathBuf },

    /// An installer chose otherwise than the table of hosts says.
    #[error("On {host}, `{distribution}`: {what}")]
    Host {
        /// The row of the table.
        host: &'static str,
        /// What was asked for.
        distribution: String,
        /// What came of it.
        what: String,
    },

    /// A name of the plan that no stand-in can be made for.
    #[error("The plan has no machine for the platform `{platform}`")]
    Platform {
        /// The platform of the name.
        platform: String,
    },

    /// A wheel cannot be judged, or its fat form not be made.
    #[error(transparent)]
    Audit(#[from] wheel_audit::Error),

    /// A wheel cannot be read or written.
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
            Self::Audit(source) => return source.hint(),
            Self::Wheel(source) => return source.hint(),
            Self::Io(_) | Self::NotAnIndex { .. } => return None,
            Self::OtherTag { .. } => {
                "set the version in Cargo.toml and tag that commit, or remove the tag"
            }
            Self::NotMade { .. } => {
                "a tag that differs comes from the binaries: `cargo xtask audit` says which file sets it"
            }
            Self::Different { .. } => {
                "remove all but one of them, and look why two runners make the same name"
            }
            Self::NoWheels { .. } => {
                "make them with `cargo xtask release build`, or name their folder"
            }
            Self::Untrue { .. } => "`cargo xtask audit` names the tag that is true",
            Self::NotThePlan { .. } => "`cargo xtask release plan` says which runner makes each",
            Self::Twice { .. } => {
                "remove one of them: one was renamed before, by hand or by staging"
            }
            Self::NotEmpty { .. } => "name a new folder",
            Self::Unattested { .. } => {
                "attest the staged wheels (release.yml does), or leave out --attestations required"
            }
            Self::Attestation { .. } => {
                "remove it and attest the wheel anew: staging again can change a wheel"
            }
            Self::TooLarge { .. } => {
                "make them smaller, or ask the index for a higher limit and name it with --max-file-mib"
            }
            Self::Refused { is_staged: false, .. } => {
                "`cargo xtask release stage` gives what holds no program another one"
            }
            Self::Refused { is_staged: true, .. } => {
                "build those wheels with the tag that their audit proves"
            }
            Self::Host { .. } | Self::Platform { .. } => {
                "compare `cargo xtask release plan` with the installation document's table of hosts"
            }
        };
        Some(hint.to_owned())
    }
}
