//! The errors of this crate, with a hint for each that a person can act on.
//!
//! Invariant: `Display` of an error never repeats its source; text from the guest is bounded and
//! has its control characters removed before it gets here.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a caller in another language would sort it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An option or argument that the caller gave is wrong (`ValueError` in Python).
    Value,
    /// The sandbox is in the wrong state for the call (`RuntimeError` in Python).
    State,
    /// Something failed while running (`RuntimeError` in Python).
    Runtime,
}

/// An error of the sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields without a sentence are what their names say")]
pub enum Error {
    /// An option has a value that cannot be used.
    #[error("Invalid value `{value}` for `{option}`: allowed is {allowed}")]
    InvalidValue {
        /// The option's name.
        option: &'static str,
        /// The offending value as it was given.
        value: String,
        /// What would have been allowed.
        allowed: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// An option of this name does not exist.
    #[error("Unknown option `{option}`")]
    UnknownOption {
        /// The name as it was given.
        option: String,
        /// The existing name that is nearest to it.
        nearest: Option<String>,
    },
    /// The configuration is not a JSON object.
    #[error("The configuration is not a JSON object of options")]
    NotAnObject {
        /// The parser's complaint, when it was no JSON at all.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// An option that belongs to the interface but that this version cannot honour.
    #[error("This version does not have `{option}` yet")]
    NotYet {
        /// The option's or method's name.
        option: &'static str,
    },
    /// QEMU or the image was not found.
    #[error(transparent)]
    Locate(#[from] runtime_locator::Error),
    /// An accelerator was asked for by name and does not work on this host.
    #[error("The accelerator `{accelerator}` does not work here: {reason}")]
    AcceleratorUnusable {
        /// The accelerator's name.
        accelerator: String,
        /// Why it was refused.
        reason: String,
    },
    /// `start` was called on a sandbox that runs.
    #[error("The sandbox is already running")]
    AlreadyRunning,
    /// A call needs a running machine.
    #[error("Cannot {action} on a non-running sandbox: the machine is not running")]
    NotRunning {
        /// What was asked for.
        action: &'static str,
    },
    /// The sandbox was stopped while the call was under way.
    #[error("The sandbox was stopped during {action}")]
    Stopped {
        /// What was under way.
        action: &'static str,
    },
    /// An image file cannot be used as a disk.
    #[error("The disk image `{path}` is damaged or not a qcow2 file: {reason}")]
    BadImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or descriptor that a machine needs could not be made.
    #[error("Failed to {action} `{}`", shown(path))]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A system call that has no file failed.
    #[error("Failed to {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// QEMU could not be executed.
    #[error("Failed to run `{program}`")]
    Spawn {
        /// The emulator.
        program: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A host port of a forward is taken.
    #[error("Host port {port} is already in use")]
    PortInUse {
        /// The TCP port.
        port: u16,
        /// The host address of the forward.
        address: String,
    },
    /// QEMU ended by itself.
    #[error(
        "QEMU exited ({status}){}{}{}",
        section("QEMU said", stderr),
        section("the console's last lines", console),
        section("the command was", command)
    )]
    QemuExited {
        /// The exit code or signal in words.
        status: String,
        /// The end of QEMU's standard error.
        stderr: String,
        /// The end of the serial console.
        console: String,
        /// The command line, without the token.
        command: String,
    },
    /// The guest's agent did not answer in time.
    #[error(
        "Failed to connect to guest agent: no answer within {} s{}{}",
        timeout.as_secs_f64(),
        section("QEMU said", stderr),
        section("the console's last lines", console)
    )]
    BootTimeout {
        /// The effective boot timeout.
        timeout: Duration,
        /// The end of QEMU's standard error.
        stderr: String,
        /// The end of the serial console.
        console: String,
    },
    /// The guest's kernel or agent gave up while booting.
    #[error(
        "Failed to connect to guest agent: {reason}{}",
        section("the console's last lines", console)
    )]
    BootFailed {
        /// The line that says so.
        reason: String,
        /// The end of the serial console.
        console: String,
    },
    /// The agent refused a request.
    #[error("The guest agent refused the request ({status}): {message}")]
    AgentRefused {
        /// The HTTP status.
        status: u16,
        /// The agent's words.
        message: String,
        /// The agent's hint.
        hint: Option<String>,
    },
    /// A path or argument of a call about files cannot be used.
    #[error("Invalid path: {message}")]
    InvalidPath {
        /// The path and what is allowed.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// A file of the guest could not be read or written.
    #[error("{message} (in the guest)")]
    GuestFile {
        /// The agent's words, which name the file.
        message: String,
        /// Whether there is no such file.
        is_missing: bool,
        /// The agent's hint.
        hint: Option<String>,
    },
    /// What the guest sent does not go where it was to go.
    #[error("Failed to write `{}`: {reason}", shown(path))]
    Transfer {
        /// The place on the host.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A transfer is larger than the caller allows.
    #[error("The guest's `{path}` is larger than {limit} bytes")]
    TooLarge {
        /// The file or folder of the guest.
        path: String,
        /// The caller's limit.
        limit: u64,
    },
    /// A download has more files, folders and links than the caller allows.
    #[error("The guest's `{path}` has more than {limit} files, folders and links")]
    TooManyEntries {
        /// The folder of the guest.
        path: String,
        /// The caller's limit.
        limit: u64,
    },
    /// The guest has a folder where a file was asked for, or a file where a folder was.
    #[error("The guest's `{path}` is {found}, and {wanted} was asked for")]
    WrongKind {
        /// The path in the guest.
        path: String,
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Something of the host is in the way of a download.
    #[error("Failed to write `{}`: {reason}", shown(path))]
    HostExists {
        /// The place on the host.
        path: PathBuf,
        reason: &'static str,
        /// Whether the caller may ask for it to be replaced.
        can_overwrite: bool,
    },
    /// A share could not be mounted or unmounted.
    #[error("Failed to {action} shares: `{share}`: {reason}")]
    Mount {
        /// `mount` or `unmount`.
        action: &'static str,
        /// The folder of the host or the guest.
        share: String,
        /// Why not.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A command's options cannot be used.
    #[error("Invalid command: {message}")]
    InvalidRequest {
        /// The option, its value and what is allowed.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// The connection to the agent broke or carried nonsense.
    #[error("The connection to the guest agent failed: {reason}")]
    AgentBroken {
        /// What happened.
        reason: String,
    },
    /// The guest did not answer a command in time, not even with the news of a timeout.
    #[error("The guest did not answer within {} s", timeout.as_secs_f64())]
    GuestSilent {
        /// The command's timeout plus the grace that the guest gets.
        timeout: Duration,
    },
    /// The host's disk is full: the machine stands still at a write that cannot be done.
    #[error("The machine is paused: no space left on the host's disk for its overlay")]
    HostDiskFull,
    /// The machine's overlay is larger than its limit: the machine stands still.
    #[error(
        "The machine is paused: its disk and checkpoints take more than {limit} bytes on the host"
    )]
    DiskLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// The receiver of output asked to end.
    #[error("The receiver of the command's output ended the command")]
    OutputRefused,
    /// The machine has no display.
    #[error("The sandbox has no display")]
    NoDisplay,
    /// A character that no key of a US keyboard types.
    #[error(
        "Cannot type `{}` (U+{:04X}) at position {position}: no key of a US keyboard types it",
        character.escape_debug(),
        u32::from(*character)
    )]
    Untypable {
        character: char,
        /// Its place in the text, in characters from 0.
        position: usize,
    },
    /// No picture of the screen could be had.
    #[error("The screen cannot be read: {reason}")]
    Screen {
        /// QEMU's words, or what is wrong with its picture.
        reason: String,
    },
    /// The screen cannot be given a size.
    #[error("Failed to make the screen {width}x{height}: {reason}")]
    DisplaySize {
        /// The width in pixels.
        width: u32,
        /// The height in pixels.
        height: u32,
        /// What is missing in the guest, or the X server's words.
        reason: String,
    },
    /// There is no save at that place.
    #[error("Save not found: `{path}`")]
    SaveNotFound {
        /// The folder of the save.
        path: PathBuf,
    },
    /// A folder is not a save, or a damaged one.
    #[error("`{path}` is not a save: {reason}")]
    NotASave {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// Something is in the way of a new save.
    #[error("Cannot write to `{path}`: {reason}")]
    SaveInTheWay {
        /// The folder or file.
        path: PathBuf,
        reason: String,
    },
    /// A save could not be made. What was there before is untouched.
    #[error("Failed to save to `{path}`")]
    SaveFailed {
        /// The folder of the save.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<Self>,
    },
    /// A save lies on another version of its image than the one that is installed.
    #[error(
        "The save `{path}` was made on another version of the image `{base}`{}",
        version.as_ref().map(|version| format!(": {version}")).unwrap_or_default()
    )]
    BaseChanged {
        /// The folder of the save.
        path: PathBuf,
        /// The image's name.
        base: String,
        /// The version of the image that it was made on.
        version: Option<String>,
    },
    /// A file is not an exported save.
    #[error("`{path}` is not an exported save: {reason}")]
    BadArchive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no checkpoint of that name.
    #[error("There is no checkpoint `{tag}`")]
    UnknownCheckpoint {
        /// The name as it was given.
        tag: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A checkpoint could not be made, restored or removed.
    #[error("Failed to {action} the checkpoint `{tag}`: {reason}")]
    CheckpointFailed {
        /// What was tried.
        action: &'static str,
        /// The checkpoint's name.
        tag: String,
        /// QEMU's words.
        reason: String,
    },
    /// Nothing can go on from this machine.
    #[error("This sandbox's memory cannot be kept or forked: {reason}")]
    CannotFork {
        /// What is in the way.
        reason: String,
    },
    /// The sandbox went back to a checkpoint while the call was under way.
    #[error("The sandbox went back to a checkpoint during {action}")]
    Reverted {
        /// What was under way.
        action: &'static str,
    },
    /// QEMU's control connection failed or refused a command.
    #[error("QEMU's control connection failed at `{command}`: {reason}")]
    Qmp {
        /// The QMP command.
        command: String,
        /// QEMU's words, or what broke.
        reason: String,
    },
}

impl Error {
    /// What to do next, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InvalidValue { hint, .. }
            | Self::AgentRefused { hint, .. }
            | Self::InvalidPath { hint, .. }
            | Self::GuestFile { hint, .. }
            | Self::Mount { hint, .. }
            | Self::InvalidRequest { hint, .. } => hint.clone(),
            Self::UnknownOption { nearest, .. } => {
                nearest.as_ref().map(|nearest| format!("Did you mean `{nearest}`?"))
            }
            Self::NoDisplay => Some("Make the sandbox with enable_display=True".into()),
            Self::Untypable { .. } => Some(
                "Put other characters into the guest by a file or the clipboard: execute() can run \
                 `xclip` or `wl-copy` with them on standard input, then press Ctrl+V"
                    .into(),
            ),
            Self::DisplaySize { .. } => Some(
                "The size is set through the guest's X server: use an image with a desktop, such as \
                 debian-desktop, wait until it is up, and have `xrandr` installed in it"
                    .into(),
            ),
            Self::CannotFork { .. } => Some(
                "Start one on Linux with an image of this version for x86_64, without a display, \
                 shares by 9p and extra_qemu_args, with transport=\"socket\" or \"auto\""
                    .into(),
            ),
            Self::NotYet { option } => Some(format!("Leave `{option}` out")),
            Self::Locate(error) => error.hint(),
            Self::AcceleratorUnusable { .. } => {
                Some("Use accel=\"auto\", which takes the best that works".into())
            }
            Self::AlreadyRunning => Some("Stop it first, or make a second sandbox".into()),
            Self::NotRunning { .. } => Some("Call start() first, or use it as a context".into()),
            Self::BadImage { .. } => Some("Install or bake the image again".into()),
            Self::File { path, .. } if *path == std::env::temp_dir() => Some(
                "See that the folder for temporary files has space; TMPDIR names another one"
                    .into(),
            ),
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("Free space on that disk, or name a place on another one".into())
                }
                io::ErrorKind::PermissionDenied => {
                    Some("Name a place that this user may use".into())
                }
                _ => None,
            },
            Self::TooManyEntries { .. } => {
                Some("Raise max_entries, when so many are expected".into())
            }
            Self::WrongKind { wanted: "a file", .. } => Some(
                "For a folder with all that is in it say tree=True, and name a path that does not \
                 exist yet or an empty folder"
                    .into(),
            ),
            Self::WrongKind { .. } => Some("For a file leave tree=True out".into()),
            Self::HostExists { can_overwrite: true, .. } => {
                Some("Name a path that does not exist yet, or say overwrite=True".into())
            }
            Self::HostExists { .. } => Some("Name a path that does not exist yet".into()),
            Self::PortInUse { .. } => {
                Some("Choose another host port, or stop the program that listens there".into())
            }
            Self::BootTimeout { .. } => Some(
                "Raise boot_timeout, or look at the console lines for what the guest waits for"
                    .into(),
            ),
            Self::SaveNotFound { .. } => {
                Some("`quicksand save list` shows the saves that there are".into())
            }
            Self::NotASave { .. } => Some(
                "A save is a folder with manifest.json and overlays/0.qcow2, 1.qcow2, …".into(),
            ),
            Self::SaveInTheWay { .. } => {
                Some("Choose another name or folder; only saves are replaced".into())
            }
            Self::SaveFailed { source, .. } => source.hint(),
            Self::BaseChanged { base, version, .. } => Some(match version {
                Some(version) => format!("Install version {version} of `{base}` again"),
                None => format!("Install the version of `{base}` that it was made on"),
            }),
            Self::UnknownCheckpoint { known, .. } if known.is_empty() => {
                Some("There are none yet: make one with checkpoint(tag)".into())
            }
            Self::UnknownCheckpoint { known, .. } => {
                Some(format!("There are: {}", known.join(", ")))
            }
            Self::DiskLimit { .. } => Some(
                "Delete checkpoints, or start a new sandbox with limits=Limits(disk=\"...\")".into(),
            ),
            Self::HostDiskFull => Some(
                "Free space in the folder for temporary files: the next call lets the machine go on"
                    .into(),
            ),
            Self::GuestSilent { .. } => Some(
                "The guest may be paused, hang or lack memory: try again, or stop the sandbox and \
                 start it again"
                    .into(),
            ),
            Self::AgentBroken { .. } => Some(
                "Whether the call had its effect is not known; the next call opens the connection \
                 again"
                    .into(),
            ),
            Self::System { source, .. }
            | Self::Spawn { source, .. } if Self::is_exhaustion(source) => Some(
                "Too many files are open: close some, or raise the limit (`ulimit -n`)".into(),
            ),
            Self::TooLarge { .. } => Some("Raise max_bytes, or take a smaller part".into()),
            Self::QemuExited { .. }
            | Self::Transfer { .. }
            | Self::NotAnObject { .. }
            | Self::Stopped { .. }
            | Self::System { .. }
            | Self::Spawn { .. }
            | Self::BootFailed { .. }
            | Self::OutputRefused
            | Self::Screen { .. }
            | Self::BadArchive { .. }
            | Self::CheckpointFailed { .. }
            | Self::Reverted { .. }
            | Self::Qmp { .. } => None,
        }
    }

    /// Whether QEMU itself has failed: an assertion of its own, or an access to memory that it does not have.
    pub(crate) fn is_crash(&self) -> bool {
        const SIGNALS: [&str; 5] = ["signal 4", "signal 6", "signal 7", "signal 8", "signal 11"];
        matches!(self, Self::QemuExited { status, .. } if SIGNALS.contains(&status.as_str()))
    }

    /// Whether the system or this process has no descriptor left.
    pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        cfg!(unix) && matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
    }

    /// How a caller in another language sorts this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidValue { .. }
            | Self::InvalidRequest { .. }
            | Self::InvalidPath { .. }
            | Self::UnknownOption { .. }
            | Self::NotAnObject { .. }
            | Self::Untypable { .. }
            | Self::NotASave { .. }
            | Self::SaveInTheWay { .. }
            | Self::BadArchive { .. }
            | Self::UnknownCheckpoint { .. }
            | Self::CannotFork { .. }
            | Self::NotYet { .. } => ErrorKind::Value,
            Self::NoDisplay
            | Self::AlreadyRunning
            | Self::NotRunning { .. }
            | Self::Stopped { .. }
            | Self::Reverted { .. } => ErrorKind::State,
            _ => ErrorKind::Runtime,
        }
    }
}

/// A path for a message: the guest may have chosen its names.
fn shown(path: &std::path::Path) -> String {
    agent_protocol::shown(path.as_os_str().as_encoded_bytes())
}

/// A labelled block for the multi-line errors; empty when there is nothing to show.
fn section(label: &str, text: &str) -> String {
    if text.trim().is_empty() {
        return String::new();
    }
    let mut block = format!("\n{label}:");
    for line in text.trim_end().lines() {
        block.push_str("\n  ");
        block.push_str(line);
    }
    block
}
