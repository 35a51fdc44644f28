//! What the agent answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Answer to `POST /authenticate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthenticateResponse {
    /// Always true: a wrong token is an error.
    pub authenticated: bool,
}

/// Answer to `GET /ping`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PingResponse {
    /// Always true.
    pub pong: bool,
    /// Process number of the agent in the guest.
    pub pid: u32,
    /// Release of the agent; agents made elsewhere have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which requests to begin the connection anew the agent takes ([`crate::resync::VERSION`]);
    /// agents of earlier releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync: Option<u32>,
    /// Whether the agent takes a new identity (`POST /identity`); agents of earlier releases do not say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub identity: bool,
}

/// Answer to a request that has nothing to say but success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OkResponse {
    /// Always true: a failure is an error.
    pub ok: bool,
}

/// Answer to `POST /clock` and `POST /identity`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClockResponse {
    /// Always true: a failure is an error.
    pub ok: bool,
    /// The guest's clock as it answers, in nanoseconds since 1970; agents of earlier releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix_nanos: Option<u64>,
}

/// Answer to `POST /freeze`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FreezeResponse {
    /// Whether the file system stands still; one that cannot was only written to the disk.
    pub frozen: bool,
}

/// Answer to `POST /grow`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrowResponse {
    /// The size of the file system now, in bytes.
    pub bytes: u64,
}

/// Answer to `POST /create_user`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserResponse {
    pub name: String,
    /// Number of the user.
    pub uid: u32,
    /// Number of the user's own group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// Body of every answer that is not 2xx.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// What is wrong, naming the offending value.
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Answer to `POST /execute`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecuteResponse {
    /// Standard output; bytes that are not UTF-8 are replaced here and complete in `stdout_base64`.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Exit code; 128+N after signal N, -1 after a timeout.
    pub exit_code: i32,
    /// Whether the timeout ended the command.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// All bytes of standard output, only when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// All bytes of standard error, only when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
    /// Bytes of standard output over the limit, which were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stdout_dropped_bytes: u64,
    /// Bytes of standard error over the limit, which were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stderr_dropped_bytes: u64,
}

impl ExecuteResponse {
    /// An answer from raw bytes.
    pub fn from_bytes(stdout: Vec<u8>, stderr: Vec<u8>, exit: &ExitReport) -> Self {
        let (stdout, stdout_base64) = encode(stdout);
        let (stderr, stderr_base64) = encode(stderr);
        Self {
            stdout,
            stderr,
            exit_code: exit.exit_code,
            timed_out: exit.timed_out,
            stdout_base64,
            stderr_base64,
            stdout_dropped_bytes: 0,
            stderr_dropped_bytes: 0,
        }
    }

    /// The raw bytes of both streams. Base64 that does not decode falls back to the text.
    pub fn into_bytes(self) -> (Vec<u8>, Vec<u8>) {
        (decode(self.stdout, self.stdout_base64), decode(self.stderr, self.stderr_base64))
    }
}

/// Payload of a session's exit frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Exit code; 128+N after signal N, -1 after a timeout.
    pub exit_code: i32,
    /// Whether the timeout ended the command.
    #[serde(default)]
    pub timed_out: bool,
    /// The signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// The exit code that a shell reports for a command that `signal` ended.
pub fn exit_code_of_signal(signal: i32) -> i32 {
    128 + signal
}

/// The line that standard error gets when a command runs into its timeout.
pub fn timeout_message(seconds: f64) -> String {
    format!("Command timed out after {seconds} s\n")
}

fn encode(bytes: Vec<u8>) -> (String, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let bytes = error.as_bytes();
            (String::from_utf8_lossy(bytes).into_owned(), Some(STANDARD.encode(bytes)))
        }
    }
}

fn decode(text: String, encoded: Option<String>) -> Vec<u8> {
    match encoded.map(|encoded| STANDARD.decode(encoded)) {
        Some(Ok(bytes)) => bytes,
        _ => text.into_bytes(),
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_whether_they_are_text_or_not() {
        for bytes in [b"plain".to_vec(), "äöü".into(), vec![0, 159, 146, 150, 255], vec![]] {
            let exit = ExitReport { exit_code: 3, ..ExitReport::default() };
            let response = ExecuteResponse::from_bytes(bytes.clone(), bytes.clone(), &exit);
            let json = serde_json::to_string(&response).unwrap();
            assert_eq!(json.contains("base64"), std::str::from_utf8(&bytes).is_err());
            let back: ExecuteResponse = serde_json::from_str(&json).unwrap();
            assert_eq!(back.exit_code, 3);
            assert_eq!(back.into_bytes(), (bytes.clone(), bytes));
        }
    }
}
