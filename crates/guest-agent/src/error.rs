//! Everything that can go wrong in the agent, and the HTTP status and hint that each becomes.

use std::io;
use std::path::PathBuf;

use agent_protocol::ErrorResponse;
use hyper::StatusCode;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was refused or the machine could not be brought up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A body or frame that is not of the protocol.
    #[error(transparent)]
    Protocol(#[from] agent_protocol::Error),
    /// No token, or a wrong one.
    #[error("Missing or wrong token")]
    Unauthorized,
    /// A path that the agent does not serve.
    #[error("No such path `{path}`")]
    UnknownPath {
        /// The path of the request.
        path: String,
    },
    /// A path with a method that it does not have.
    #[error("Method `{method}` does not fit `{path}`")]
    WrongMethod {
        /// The method of the request.
        method: String,
        /// The path of the request.
        path: String,
        /// The method that fits.
        allowed: &'static str,
    },
    /// A body over the limit.
    #[error("Body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A body that did not arrive in time.
    #[error("Body did not arrive within {seconds} s")]
    BodyTimeout {
        /// Seconds that were waited.
        seconds: u64,
    },
    /// A command's time was over while it waited for one that runs alone.
    #[error("Command timed out after {seconds} s while it waited for one that runs alone")]
    WaitTimeout {
        /// The timeout in seconds.
        seconds: f64,
    },
    /// A body that ended early.
    #[error("Body could not be read")]
    BodyLost {
        /// What the connection said.
        source: hyper::Error,
    },
    /// A working directory that cannot be entered.
    #[error("Working directory `{path}` cannot be entered: {source}")]
    Directory {
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A shell that cannot be run.
    #[error("Shell `{path}` cannot be run: {source}")]
    Shell {
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A user that the guest does not have.
    #[error("No such user `{name}`")]
    UnknownUser {
        /// The name or number.
        name: String,
        /// A near name.
        nearest: Option<String>,
    },
    /// A user that exists already.
    #[error("User `{name}` exists already")]
    UserExists { name: String },
    /// A name that no tool of the guest would accept.
    #[error("User name `{name}` is not allowed")]
    UserName { name: String },
    /// A user that must not be removed.
    #[error("User `{name}` belongs to the system")]
    SystemUser { name: String },
    /// A tool of the guest failed.
    #[error("`{tool}` failed: {output}")]
    Tool {
        tool: String,
        /// What it printed.
        output: String,
    },
    /// A process could not be started for want of resources.
    #[error("Failed to start a process ({stage}): {source}")]
    Spawn {
        /// Which step.
        stage: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the guest could not be used.
    #[error("Failed to {action} `{path}`: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path that the host named cannot be used as it asked.
    #[error("Failed to {action} `{}`: {source}", text(path))]
    Path {
        /// What was tried.
        action: &'static str,
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path that leads through a link of a user who is not root.
    #[error("Failed to write `{}`: a link on the way belongs to user {uid}", text(path))]
    ForeignLink {
        path: PathBuf,
        /// The owner of the link.
        uid: u32,
    },
    /// A folder of more names than the agent keeps in memory.
    #[error("Failed to read `{}`: it has too many files to be sent at once", text(path))]
    LongListing { path: PathBuf },
    /// A file system that the guest's kernel does not have.
    #[error("The guest's kernel has no file system `{kind}`")]
    NoFileSystem { kind: String },
    /// A user to remove that the guest does not have.
    #[error("No such user `{name}` to delete")]
    NoUserToDelete { name: String },
    /// A step of the boot failed.
    #[error("Failed to {step}: {source}")]
    Boot {
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A boot parameter that cannot be used.
    #[error("Kernel command line has `{key}={value}`, which is not {expected}")]
    Parameter {
        key: &'static str,
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// An argument of the agent's own command line.
    #[error("Unknown argument `{argument}`")]
    Argument { argument: String },
}

/// A path as a message shows it.
fn text(path: &std::path::Path) -> String {
    agent_protocol::shown(path.as_os_str().as_encoded_bytes())
}

impl Error {
    /// What the caller can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Protocol(error) => return error.hint(),
            Self::Unauthorized => "Send the header `Authorization: Bearer TOKEN`".into(),
            Self::WrongMethod { allowed, .. } => format!("Use {allowed}"),
            Self::BodyTooLarge { .. } => {
                "Send large data as standard input frames of /session".into()
            }
            Self::Directory { .. } => "Create the directory first, or leave `cwd` out".into(),
            Self::Shell { .. } => {
                "Name a shell that the guest has, or leave `shell` out for /bin/sh".into()
            }
            Self::UnknownUser { nearest: Some(nearest), .. } => {
                format!("Did you mean `{nearest}`?")
            }
            Self::UnknownUser { .. } => "Create the user first (POST /create_user)".into(),
            Self::UserName { .. } => {
                "Use a lower-case letter or `_`, then letters, digits, `_` or `-`; 32 at most"
                    .into()
            }
            Self::NoFileSystem { .. } => {
                "Use an image whose kernel has the module, such as `debian`".into()
            }
            Self::ForeignLink { .. } => {
                "Name the place that the link leads to, or have that user write it: \
                 execute(\"cat > FILE\", user=…, stdin=…)"
                    .into()
            }
            Self::LongListing { .. } => {
                "Pack it in the guest (tar), and download the archive".into()
            }
            Self::SystemUser { .. } => "Only users from number 1000 on can be removed".into(),
            Self::Argument { .. } => "See `quicksand-agent --help`".into(),
            _ => return None,
        };
        Some(hint)
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Protocol(agent_protocol::Error::Value { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::UnknownPath { .. } => StatusCode::NOT_FOUND,
            Self::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout { .. } | Self::WaitTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::UserExists { .. } => StatusCode::CONFLICT,
            Self::NoUserToDelete { .. } => StatusCode::NOT_FOUND,
            Self::Path { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
                io::ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::BAD_REQUEST,
            },
            Self::UserName { .. } | Self::SystemUser { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Spawn { .. }
            | Self::File { .. }
            | Self::Tool { .. }
            | Self::Boot { .. }
            | Self::Parameter { .. }
            | Self::Argument { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The body of the answer: the error with its causes, and the hint.
    pub fn response(&self) -> ErrorResponse {
        let mut error = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            let text = source.to_string();
            // The errors of this crate put a kernel error at the end of their own line.
            if !error.ends_with(&text) {
                error.push_str(": ");
                error.push_str(&text);
            }
            cause = source.source();
        }
        ErrorResponse { error, hint: self.hint() }
    }
}
