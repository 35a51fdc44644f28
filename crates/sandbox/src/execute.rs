//! What a command is and what comes back: the types of `execute`, `stream` and `session`.
//!
//! Plain data; how it travels to the guest is `agent_client`'s business.

use agent_protocol::GuestText;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

/// The most bytes of each stream that a result keeps unless the request says otherwise.
pub const DEFAULT_MAX_OUTPUT: usize = 64 << 20;

/// A command for the guest's shell.
///
/// Command, folder, shell and variables are [`GuestText`]: strings fit, and so do bytes that are not UTF-8,
/// which the guest gets as they are.
///
/// ```
/// use sandbox::ExecuteRequest;
/// use std::time::Duration;
///
/// let request = ExecuteRequest::new("make test").cwd("/src").timeout(Duration::from_secs(600));
/// assert_eq!(request.shell, "/bin/sh");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ExecuteRequest {
    /// GuestText for the shell (`SHELL -c COMMAND`).
    pub command: GuestText,
    /// How long the command may run; then its whole process group is killed (30 s). `None` is no limit.
    pub timeout: Option<Duration>,
    /// The working directory (the user's home, or the agent's).
    pub cwd: Option<GuestText>,
    /// The shell's path (`/bin/sh`).
    pub shell: GuestText,
    /// The user to run as (root).
    pub user: Option<String>,
    /// Whether this command runs alone: no other may run beside it, interactive shells excepted.
    pub exclusive: bool,
    /// Variables added to the command's environment.
    pub env: BTreeMap<String, GuestText>,
    /// Bytes for the command's standard input; it is empty without them.
    pub stdin: Bytes,
    /// The most bytes of standard output, and of standard error, that the result keeps. What is
    /// beyond is still passed to an [`OutputSink`] and then dropped, and the result says so.
    pub max_output: usize,
}

impl ExecuteRequest {
    /// A command with the default for everything else.
    pub fn new(command: impl Into<GuestText>) -> Self {
        Self {
            command: command.into(),
            timeout: Some(Duration::from_secs(30)),
            cwd: None,
            shell: "/bin/sh".into(),
            user: None,
            exclusive: false,
            env: BTreeMap::new(),
            stdin: Bytes::new(),
            max_output: DEFAULT_MAX_OUTPUT,
        }
    }

    /// Sets the time limit; `None` is no limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, cwd: impl Into<GuestText>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Sets the shell.
    pub fn shell(mut self, shell: impl Into<GuestText>) -> Self {
        self.shell = shell.into();
        self
    }

    /// Sets the user.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Makes the command exclusive.
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Adds a variable to the environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<GuestText>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets the standard input.
    pub fn stdin(mut self, stdin: impl Into<Bytes>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Sets how many bytes of each stream the result keeps.
    pub fn max_output(mut self, max_output: usize) -> Self {
        self.max_output = max_output;
        self
    }
}

/// What a command left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecuteResult {
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Standard error, byte for byte.
    pub stderr: Vec<u8>,
    /// The exit code; 128 plus the signal's number when one ended it; -1 after a timeout.
    pub exit_code: i32,
    /// Whether the time limit ended it.
    pub timed_out: bool,
    /// How many bytes of standard output were dropped because of `max_output`.
    pub stdout_dropped: u64,
    /// How many bytes of standard error were dropped because of `max_output`.
    pub stderr_dropped: u64,
}

impl ExecuteResult {
    /// Standard output as text, with U+FFFD for what is not UTF-8.
    pub fn stdout_lossy(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text, with U+FFFD for what is not UTF-8.
    pub fn stderr_lossy(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Which of the command's two streams a chunk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives a command's output as it arrives.
///
/// The command is held back until the returned future is done: a slow receiver slows the command
/// and costs no memory. `ControlFlow::Break` ends the command ([`crate::Error::OutputRefused`]).
///
/// Functions of this shape are sinks:
/// `|stream, bytes| async move { ControlFlow::Continue(()) }`.
pub trait OutputSink: Send {
    /// Takes one chunk. Chunks of one stream come in order and may split characters anywhere.
    fn output(
        &mut self,
        stream: OutputStream,
        data: Bytes,
    ) -> impl Future<Output = ControlFlow<()>> + Send;
}

impl<F, Fut> OutputSink for F
where
    F: FnMut(OutputStream, Bytes) -> Fut + Send,
    Fut: Future<Output = ControlFlow<()>> + Send,
{
    fn output(
        &mut self,
        stream: OutputStream,
        data: Bytes,
    ) -> impl Future<Output = ControlFlow<()>> + Send {
        self(stream, data)
    }
}

/// A terminal for an interactive session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pty {
    /// Height in characters.
    pub rows: u16,
    /// Width in characters.
    pub cols: u16,
    /// The value of `TERM`.
    pub term: String,
}

/// What a running session sends to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// Bytes of standard output (all output when there is a terminal).
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The command has ended; nothing follows.
    Exit {
        /// As [`ExecuteResult::exit_code`].
        exit_code: i32,
        /// As [`ExecuteResult::timed_out`].
        timed_out: bool,
    },
}
