//! Why packages are not installed or removed, each with what to do next.

use std::{io, path::PathBuf};

/// Whose mistake an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An argument of the call is wrong.
    Argument,
    /// Something else is in the way.
    Installation,
}

/// An error of this crate. Unless it is [`Error::CannotStart`], the environment is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A word that names nothing of ours.
    #[error("Unknown name `{name}`")]
    UnknownName {
        name: String,
        /// The nearest known words, or all of them, as a sentence.
        near: String,
    },

    /// A version that PEP 440 does not allow.
    #[error("Invalid version in `{word}`")]
    InvalidVersion {
        /// The word with the version.
        word: String,
    },

    /// A wheel that was named by its path and is not there.
    #[error("There is no file `{path}`")]
    NoFile { path: PathBuf },

    /// An index that is no address.
    #[error("Invalid index `{index}`: an http(s) address is needed")]
    InvalidIndex {
        /// What was given.
        index: String,
    },

    /// A `file:` address that is no path of this host.
    #[error("Invalid address of a folder `{link}`")]
    InvalidFolderUrl {
        /// What was given.
        link: String,
    },

    /// Nothing is there to install into.
    #[error("There is neither a Python environment nor a home folder to install into")]
    NoPlace,

    /// An environment that the system does not let others change.
    #[error("The packages of `{python}` are managed by the system (PEP 668)")]
    Managed { python: PathBuf },

    /// An interpreter that does not say what an installation needs to know.
    #[error("`{python}` does not tell its {what}")]
    Untold {
        python: PathBuf,
        /// What is missing.
        what: String,
    },

    /// No markers can be made for this host.
    #[error("The host cannot be described")]
    UnknownHost,

    /// A folder without an interpreter.
    #[error("There is no Python in `{folder}`")]
    NoPython { folder: PathBuf },

    /// An interpreter that does not answer.
    #[error("Failed to ask `{python}` for its folders: {reason}")]
    Interpreter {
        python: PathBuf,
        /// What went wrong.
        reason: String,
    },

    /// pip's configuration cannot be read.
    #[error("Failed to read `{path}`: {reason}")]
    PipConfiguration {
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// There is no index and no folder to take wheels from.
    #[error("There is no index to install from")]
    Nowhere,

    /// An index below which no project can be addressed.
    #[error("Invalid index `{index}`: {reason}")]
    IndexAddress {
        /// Its address, without a password.
        index: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Two indexes offer one name with different files: whoever may publish on one could replace what the other is trusted for.
    #[error(
        "Two indexes offer `{distribution}`, and not the same files: `{earlier}` and `{later}`"
    )]
    Disagree {
        distribution: String,
        /// The first index.
        earlier: String,
        /// The second one.
        later: String,
    },

    /// A page of an index that cannot be understood.
    #[error("Failed to read the index's page `{url}`: {reason}")]
    Page {
        /// Its address, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The certificates that pip trusts cannot be used.
    #[error("Failed to read `{path}`: {reason}")]
    Certificates {
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The proxy of pip's configuration cannot be used.
    #[error("Failed to use the proxy of pip's configuration: {reason}")]
    Proxy {
        /// What is wrong with it.
        reason: String,
    },

    /// No client can be made.
    #[error("Failed to set up TLS: {reason}")]
    Tls {
        /// What went wrong.
        reason: String,
    },

    /// An address without TLS, whose answer everybody on the way can change.
    #[error("`{url}` is not asked without TLS")]
    Insecure {
        /// The address, without a password.
        url: String,
    },

    /// A server cannot be reached, or its answer is not usable.
    #[error("Failed to fetch `{url}`: {reason}")]
    Fetch {
        /// The address, without a password.
        url: String,
        /// What went wrong.
        reason: String,
    },

    /// A server that refuses.
    #[error("Failed to fetch `{url}`: the server said {status}")]
    Refused {
        /// The address, without a password.
        url: String,
        status: String,
        /// Whether it wants to know who asks.
        wants_login: bool,
    },

    /// An index that does not say what a file must be.
    #[error("The index gives no sha256 for `{file_name}`")]
    NoHash { file_name: String },

    /// A wheel of the cache that is no longer what was fetched.
    #[error("`{file_name}` was damaged in the cache")]
    Damaged { file_name: String },

    /// A download that is not what the index says.
    #[error(
        "`{file_name}` is not what the index promises: sha256 {found} instead of {promised} (from `{url}`)"
    )]
    NotAsPromised {
        file_name: String,
        /// Its sha256.
        found: String,
        /// The index's sha256.
        promised: String,
        /// Where it came from.
        url: String,
    },

    /// A wheel that installers would refuse.
    #[error("`{file_name}` is not a sound wheel:{findings}")]
    Unsound {
        file_name: String,
        /// What was found, a line each.
        findings: String,
    },

    /// A wheel without METADATA.
    #[error("`{wheel}` has no METADATA")]
    NoMetadata { wheel: PathBuf },

    /// No wheel of a distribution fits.
    #[error("No wheel of {distribution}{by}: {reason}")]
    NotOffered {
        distribution: String,
        /// Who needs it, in parentheses; empty where it was asked for.
        by: String,
        /// Why there is none.
        reason: String,
    },

    /// Two requirements that no version meets.
    #[error("{wanted}, but {chosen} (version {version} was chosen)")]
    Conflict {
        /// The later requirement.
        wanted: String,
        /// The earlier one.
        chosen: String,
        /// What was chosen for it.
        version: String,
    },

    /// A requirement that cannot be read.
    #[error("{by} needs `{requirement}`: {reason}")]
    Requirement {
        by: String,
        requirement: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A requirement that names an address.
    #[error("{by} needs {distribution} from `{url}`, which is not fetched")]
    UrlRequirement {
        /// The distribution that needs it.
        by: String,
        /// What it needs.
        distribution: String,
        /// From where.
        url: String,
    },

    /// Nothing of what was asked for is offered.
    #[error("Nothing to install:{reasons}")]
    Nothing {
        /// Why, a line each.
        reasons: String,
    },

    /// What is to be removed is not there.
    #[error("{distribution} is not installed")]
    NotInstalled { distribution: String },

    /// Files of a wheel for a place that is not known.
    #[error("Files for `{scheme}` are not supported (`{file}`)")]
    Scheme {
        /// The place, in the wheel's word.
        scheme: String,
        file: String,
    },

    /// A script of a wheel, where there is no interpreter to run it.
    #[error("`{script}` needs a Python")]
    NeedsPython { script: PathBuf },

    /// A wheel whose commands installers make.
    #[error("`{file_name}` brings commands that have to be generated")]
    GeneratedCommands { file_name: String },

    /// A file of another distribution is in the way.
    #[error("`{path}` belongs to {owner}")]
    Taken {
        path: PathBuf,
        /// The other distribution.
        owner: String,
    },

    /// Something is where a file has to go.
    #[error("`{path}` is in the way")]
    InTheWay { path: PathBuf },

    /// An installation that does not say which files it has.
    #[error("{distribution} has no RECORD")]
    NoRecord { distribution: String },

    /// A RECORD that cannot be read.
    #[error("Failed to read `{path}`: {reason}")]
    Record {
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A RECORD that names files which are not its to remove.
    #[error("RECORD of {distribution} names `{file}`, which is outside of the environment")]
    Outside { distribution: String, file: PathBuf },

    /// What an interrupted installation left cannot be read.
    #[error("Failed to read `{path}`: {reason}")]
    Journal {
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// An image was installed that lies on another disk than the one that is there.
    #[error("{distribution} is installed and cannot start")]
    CannotStart {
        distribution: String,
        /// What is wrong with its base.
        #[source]
        source: Box<runtime_locator::Error>,
    },

    /// Whoever asked for it wants it no longer.
    #[error("The installation was cancelled")]
    Cancelled,

    /// A wheel cannot be read.
    #[error(transparent)]
    Wheel(#[from] wheel_retag::Error),

    /// A file cannot be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether an argument of the call is wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownName { .. }
            | Self::InvalidVersion { .. }
            | Self::NoFile { .. }
            | Self::InvalidIndex { .. }
            | Self::InvalidFolderUrl { .. } => ErrorKind::Argument,
            _ => ErrorKind::Installation,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownName { near, .. } => near,
            Self::CannotStart { source, .. } => return source.hint(),
            Self::Wheel(error) => return error.hint(),
            Self::Refused { wants_login: true, .. } => {
                "put the name and password into the index's address: https://NAME:PASSWORD@…"
            }
            Self::InvalidVersion { .. } => "write it as in `debian==0.1.0` or `debian>=0.1`",
            Self::InvalidIndex { .. } => "for a folder of wheels use --find-links",
            Self::NoPlace => "name an environment with --python",
            Self::Managed { .. } => {
                "make an environment with `python3 -m venv FOLDER` and name it with --python"
            }
            Self::NoPython { .. } => "name an interpreter or a virtual environment",
            Self::Interpreter { .. } => "--python takes an interpreter or an environment",
            Self::Nowhere => {
                "name an index with --index-url (or PIP_INDEX_URL, or pip's configuration), or a folder of wheels with --find-links"
            }
            Self::Disagree { .. } => "name the one to trust with --index-url",
            Self::Insecure { .. } => {
                "use https, or name the host in PIP_TRUSTED_HOST if you trust the way to it"
            }
            Self::NoHash { .. } => "fetch it yourself and install it with --find-links FOLDER",
            Self::Damaged { .. } => "it was removed: install again",
            Self::NotAsPromised { .. } => "nothing was installed",
            Self::Unsound { .. } => "nothing was installed; tell its maker",
            Self::Conflict { .. } => "ask for versions that fit each other, as in `debian==0.1.0`",
            Self::UrlRequirement { .. } => "install it with pip",
            Self::NotInstalled { .. } => "`quicksand list --all` shows what is",
            Self::Scheme { .. } | Self::GeneratedCommands { .. } => "install this wheel with pip",
            Self::NeedsPython { .. } => "name one with --python",
            Self::Taken { .. } => "uninstall one of the two first",
            Self::NoRecord { .. } => "it was not installed from a wheel: use pip",
            Self::Journal { .. } => "remove the folder by hand and install again",
            Self::NoFile { .. }
            | Self::InvalidFolderUrl { .. }
            | Self::Untold { .. }
            | Self::UnknownHost
            | Self::PipConfiguration { .. }
            | Self::IndexAddress { .. }
            | Self::Page { .. }
            | Self::Certificates { .. }
            | Self::Proxy { .. }
            | Self::Tls { .. }
            | Self::Fetch { .. }
            | Self::Refused { wants_login: false, .. }
            | Self::NoMetadata { .. }
            | Self::NotOffered { .. }
            | Self::Requirement { .. }
            | Self::Nothing { .. }
            | Self::InTheWay { .. }
            | Self::Record { .. }
            | Self::Outside { .. }
            | Self::Cancelled
            | Self::Io(_) => return None,
        };
        Some(hint.to_owned())
    }
}
