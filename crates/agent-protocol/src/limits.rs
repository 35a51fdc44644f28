//! The limits that both sides keep, in one place so that neither is surprised by the other.

/// Largest request body with a length that the agent reads into memory, in bytes.
pub const MAX_BODY: usize = 16 << 20;
/// Largest total size of a request's header fields, in bytes.
pub const MAX_HEADERS: usize = 64 << 10;
/// Largest payload of one `/session` frame, in bytes.
pub const MAX_FRAME_PAYLOAD: usize = 1 << 20;
/// Bytes of each output stream that `/execute` keeps when the request names no limit.
pub const DEFAULT_MAX_OUTPUT: u64 = 64 << 20;
/// Bytes of input to a command that the agent holds before it stops to read more.
pub const STDIN_QUEUE: usize = 1 << 20;
/// Most concurrent HTTP/2 streams of one connection.
pub const MAX_STREAMS: u32 = 1024;
/// HTTP/2 flow-control window of one stream, in bytes: both sides announce it. More than the wire
/// holds, and small beside the window of the connection: a stream that nobody reads from takes this
/// much of what all streams share.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// HTTP/2 flow-control window of the whole connection, in bytes: both sides announce it.
pub const CONNECTION_WINDOW: u32 = 64 << 20;
/// Largest HTTP/2 frame, in bytes: both sides announce it.
pub const MAX_HTTP2_FRAME: u32 = 1 << 20;
/// Longest command, shell, directory or environment entry, in bytes (the kernel's MAX_ARG_STRLEN).
///
/// See <https://man7.org/linux/man-pages/man2/execve.2.html>.
pub const MAX_ARGUMENT: usize = 128 << 10;
/// Longest timeout in seconds that a request may name. From a year on the agent sets no timer.
pub const MAX_TIMEOUT_SECONDS: f64 = u32::MAX as f64;
/// Longest user name.
///
/// See <https://man7.org/linux/man-pages/man8/useradd.8.html>.
pub const MAX_USER_NAME: usize = 32;
/// Longest path of a file, in bytes (the kernel's PATH_MAX without its NUL).
///
/// See <https://man7.org/linux/man-pages/man3/pathconf.3.html>.
pub const MAX_PATH: usize = 4095;
/// Longest name of a file, in bytes (the kernel's NAME_MAX).
pub const MAX_NAME: usize = 255;
/// Bytes of a file in one frame.
pub const FILE_CHUNK: usize = 256 << 10;
