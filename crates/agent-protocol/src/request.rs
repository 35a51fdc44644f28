//! What the host may ask for. Unknown fields are refused with the nearest known name, and a value
//! out of range is refused before anything is started.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, GuestText, limits};

/// Body of `POST /authenticate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticateRequest {
    /// The token to compare.
    pub token: String,
}

/// Body of `POST /execute` and `POST /execute_stream`, and of the start frame of `POST /session`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecuteRequest {
    /// The text that the shell runs (`SHELL -c COMMAND`). In a session with a terminal it may be
    /// empty: the shell is then interactive.
    pub command: GuestText,
    /// Seconds until the command and its descendants are killed. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Working directory. Absent: the home of the user, or `/` when that does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<GuestText>,
    /// Path or name of the shell. Absent: `/bin/sh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<GuestText>,
    /// Name or number of a user of the guest. Absent: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether no other command may run meanwhile. Sessions with a terminal are not waited for.
    #[serde(default)]
    pub exclusive: bool,
    /// Variables that are added to the default environment, or replace its values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, GuestText>,
    /// Standard input in base64. Absent: `/dev/null` (in a session: what the frames bring).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_base64: Option<String>,
    /// Bytes of each stream that `/execute` keeps; what is over is dropped and marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_bytes: Option<u64>,
    /// A terminal instead of pipes; only in a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pty: Option<PtyRequest>,
}

impl ExecuteRequest {
    /// A request for `command` with every default.
    pub fn new(command: impl Into<GuestText>) -> Self {
        Self { command: command.into(), ..Self::default() }
    }

    /// Decodes and checks a body.
    ///
    /// # Errors
    /// [`Error::Syntax`] when it is no JSON, [`Error::Value`] for anything else that is wrong.
    pub fn from_json(body: &[u8]) -> Result<Self, Error> {
        let request: Self = from_json(body)?;
        request.validate()?;
        Ok(request)
    }

    /// Checks ranges and the bytes that `execve` cannot pass on.
    ///
    /// # Errors
    /// [`Error::Value`] with the field and what is allowed.
    pub fn validate(&self) -> Result<(), Error> {
        if self.command.is_empty() && self.pty.is_none() {
            return Err(Error::value(
                "`command` is empty",
                Some("Give the text that the shell should run".into()),
            ));
        }
        text("command", self.command.as_bytes())?;
        let optional = [
            ("cwd", self.cwd.as_ref().map(GuestText::as_bytes)),
            ("shell", self.shell.as_ref().map(GuestText::as_bytes)),
            ("user", self.user.as_deref().map(str::as_bytes)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                if value.is_empty() {
                    return Err(Error::value(
                        format!("`{name}` is empty"),
                        Some("Leave the field out for the default".into()),
                    ));
                }
                text(name, value)?;
            }
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains('=') {
                return Err(Error::value(
                    format!(
                        "`env` has the name `{}`, which no environment can hold",
                        name.escape_debug()
                    ),
                    Some("A name has at least one character and no `=`".into()),
                ));
            }
            text("env", name.as_bytes())?;
            text("env", value.as_bytes())?;
        }
        if let Some(pty) = &self.pty {
            if pty.rows == 0 || pty.cols == 0 {
                return Err(Error::value("`pty` has no rows or no columns", None));
            }
            text("pty", pty.term.as_deref().unwrap_or_default().as_bytes())?;
        }
        self.timeout()?;
        self.stdin_bytes()?;
        Ok(())
    }

    /// The timeout as a duration.
    ///
    /// # Errors
    /// [`Error::Value`] when it is not a positive number of seconds.
    pub fn timeout(&self) -> Result<Option<Duration>, Error> {
        let Some(seconds) = self.timeout else { return Ok(None) };
        if seconds > 0.0 && seconds <= limits::MAX_TIMEOUT_SECONDS {
            return Ok(Some(Duration::from_secs_f64(seconds)));
        }
        Err(Error::value(
            format!("`timeout` is `{seconds}`, not a positive number of seconds"),
            Some(format!(
                "Use more than 0 and at most {} seconds, or leave it out for no limit",
                limits::MAX_TIMEOUT_SECONDS
            )),
        ))
    }

    /// The bytes of `stdin_base64`.
    ///
    /// # Errors
    /// [`Error::Value`] when it is no base64.
    pub fn stdin_bytes(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some(encoded) = &self.stdin_base64 else { return Ok(None) };
        STANDARD.decode(encoded).map(Some).map_err(|source| {
            Error::value(
                format!("`stdin_base64` is not base64: {source}"),
                Some("Use the standard alphabet with padding (RFC 4648, section 4)".into()),
            )
        })
    }
}

/// Size and type of a session's terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PtyRequest {
    /// Lines of text.
    pub rows: u16,
    /// Characters a line.
    pub cols: u16,
    /// Value of `TERM`. Absent: `xterm-256color`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
}

/// Body of a resize frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeRequest {
    /// Lines of text.
    pub rows: u16,
    /// Characters a line.
    pub cols: u16,
}

/// Body of a signal frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Number of the signal in Linux, 1 to 64.
    pub signal: i32,
}

/// Body of `POST /create_user`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    /// `[a-z_][a-z0-9_-]*`, at most 32 characters.
    pub name: String,
}

/// Body of `POST /delete_user`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteUserRequest {
    /// The user's name.
    pub name: String,
    /// Whether the home directory goes too.
    #[serde(default = "yes")]
    pub remove_home: bool,
}

/// Body of `POST /freeze`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// Seconds after which the agent thaws by itself.
    pub seconds: u32,
}

/// Body of `POST /clock`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockRequest {
    /// The host's clock: nanoseconds since 1970, to which the guest's is set.
    pub unix_nanos: u64,
}

/// Body of `POST /identity`: what a copy of a machine must not share with the other copies. Once it is
/// answered the agent takes the new token alone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRequest {
    /// The new token.
    pub token: String,
    /// Random bytes, 32 to 256, in base64: the kernel's generator is seeded with them.
    pub entropy_base64: String,
    /// The host's clock: nanoseconds since 1970, to which the guest's is set.
    pub unix_nanos: u64,
    /// The new machine id: 32 hexadecimal digits, small letters. It is written where the guest has one.
    /// See <https://www.freedesktop.org/software/systemd/man/latest/machine-id.html>.
    pub machine_id: String,
    /// The new boot id, a UUID.
    pub boot_id: String,
    /// The new address of the network device `eth0`, where there is one: six bytes.
    pub mac: [u8; 6],
}

impl IdentityRequest {
    /// The random bytes, when all values are what they should be.
    ///
    /// # Errors
    /// [`Error::Value`] that names the first that is not.
    pub fn check(&self) -> Result<Vec<u8>, Error> {
        let is_hex = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let refused = |field: &str, allowed: &str| {
            Err(Error::value(format!("`{field}` is not {allowed}"), None))
        };
        if !(32..=128).contains(&self.token.len())
            || !self.token.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return refused("token", "32 to 128 letters and digits");
        }
        if self.machine_id.len() != 32 || !is_hex(&self.machine_id) {
            return refused("machine_id", "32 hexadecimal digits in small letters");
        }
        let parts: Vec<&str> = self.boot_id.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        if lengths != [8, 4, 4, 4, 12] || !parts.into_iter().all(is_hex) {
            return refused("boot_id", "a UUID in small letters");
        }
        if self.mac[0] & 3 != 2 {
            return refused("mac", "a locally administered address of one device");
        }
        match STANDARD.decode(&self.entropy_base64) {
            Ok(bytes) if (32..=256).contains(&bytes.len()) => Ok(bytes),
            _ => refused("entropy_base64", "32 to 256 bytes in base64"),
        }
    }
}

impl std::fmt::Debug for IdentityRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityRequest")
            .field("unix_nanos", &self.unix_nanos)
            .field("machine_id", &self.machine_id)
            .finish_non_exhaustive()
    }
}

/// Body of `POST /shutdown`; an empty body means the defaults.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownRequest {
    /// Whether the distribution's init is passed over: processes are killed, the disk is written
    /// and made read-only, and the machine is off. It takes a fraction of the time.
    #[serde(default)]
    pub force: bool,
}

fn yes() -> bool {
    true
}

/// Whether `name` is a user name that every tool of a guest accepts.
pub fn valid_user_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= limits::MAX_USER_NAME
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
        })
}

/// Decodes a body and tells text that is no JSON from JSON that is no such request.
pub(crate) fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let request = serde_json::from_slice(body).map_err(|source| {
        if !source.is_data() {
            return Error::Syntax { source };
        }
        let message = source.to_string();
        let hint = unknown_field_hint(&message);
        Error::value(format!("Body does not fit the request: {message}"), hint)
    })?;
    // Derived readers also take a list, as the values of the fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        let message = "Body does not fit the request: it is a list and not an object";
        return Err(Error::value(message, None));
    }
    Ok(request)
}

macro_rules! json_request {
    ($($name:ident),*) => {$(
        impl $name {
            /// Decodes a body.
            ///
            /// # Errors
            /// [`Error::Syntax`] when it is no JSON, [`Error::Value`] for anything else.
            pub fn from_json(body: &[u8]) -> Result<$name, Error> {
                from_json(body)
            }
        }
    )*};
}

json_request!(
    AuthenticateRequest,
    ClockRequest,
    ResizeRequest,
    SignalRequest,
    CreateUserRequest,
    DeleteUserRequest,
    FreezeRequest,
    IdentityRequest,
    ShutdownRequest
);

/// The nearest name for serde's "unknown field `x`, expected one of `a`, `b`".
fn unknown_field_hint(message: &str) -> Option<String> {
    if !message.starts_with("unknown field") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let nearest = spelling::nearest(unknown, quoted)?;
    Some(format!("Did you mean `{nearest}`?"))
}

fn text(field: &str, value: &[u8]) -> Result<(), Error> {
    if value.contains(&0) {
        return Err(Error::value(format!("`{field}` contains a NUL byte"), None));
    }
    if value.len() > limits::MAX_ARGUMENT - 1 {
        return Err(Error::value(
            format!("`{field}` has {} bytes, more than {}", value.len(), limits::MAX_ARGUMENT - 1),
            Some("Send large data on standard input or write it to a file first".into()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (String, Option<String>) {
        let error = ExecuteRequest::from_json(body.as_bytes()).unwrap_err();
        (error.to_string(), error.hint())
    }

    #[test]
    fn the_shortest_request_has_every_default() {
        let request = ExecuteRequest::from_json(br#"{"command":"true"}"#).unwrap();
        assert_eq!(request, ExecuteRequest::new("true"));
        let all = br#"{"command":"a","timeout":1.5,"cwd":"/","shell":"/bin/bash","user":"u",
            "exclusive":true,"env":{"A":"b"},"stdin_base64":"aGk=","max_output_bytes":9}"#;
        let request = ExecuteRequest::from_json(all).unwrap();
        assert_eq!(request.timeout().unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(request.stdin_bytes().unwrap().unwrap(), b"hi");
    }

    #[test]
    fn values_that_are_not_utf8_pass_byte_for_byte() {
        let mut request = ExecuteRequest::new(&b"echo \xff"[..]);
        request.cwd = Some(b"/a\xff"[..].into());
        request.env = [("A".to_owned(), b"\xfe"[..].into())].into();
        let json = serde_json::to_vec(&request).unwrap();
        assert_eq!(ExecuteRequest::from_json(&json).unwrap(), request);
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_nearest_name() {
        let (message, hint) = refused(r#"{"command":"true","timout":1}"#);
        assert!(message.contains("`timout`"), "{message}");
        assert_eq!(hint.as_deref(), Some("Did you mean `timeout`?"));
    }

    #[test]
    fn a_request_is_an_object_and_nothing_else() {
        assert!(ShutdownRequest::from_json(b" {}").is_ok());
        // All fields have defaults, and there are as many values as fields.
        for body in ["[]", "[true]", " \n[false]", "null", "1", "\"force\"", "true"] {
            let error = ShutdownRequest::from_json(body.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Value { .. }), "{body}: {error}");
        }
        assert!(FreezeRequest::from_json(b"[]").is_err());
        assert!(refused(r#"["true"]"#).0.starts_with("Body does not fit the request"));
        assert!(matches!(ShutdownRequest::from_json(b"[").unwrap_err(), Error::Syntax { .. }));
    }

    #[test]
    fn values_out_of_range_name_the_field() {
        for (body, expect) in [
            (r#"{"command":""}"#, "`command` is empty"),
            (r#"{"command":"a\u0000b"}"#, "NUL"),
            (r#"{"command":"a","timeout":0}"#, "`timeout` is `0`"),
            (r#"{"command":"a","timeout":-1}"#, "`timeout` is `-1`"),
            (r#"{"command":"a","timeout":1e300}"#, "`timeout` is `1"),
            (r#"{"command":"a","cwd":""}"#, "`cwd` is empty"),
            (r#"{"command":"a","env":{"A=":"b"}}"#, "`A=`"),
            (r#"{"command":"a","stdin_base64":"?"}"#, "`stdin_base64`"),
            (r#"{"command":"a","env":{"A\u001b[2J=":"b"}}"#, "`A\\u{1b}[2J=`"),
            (r#"{"command":"a","env":{"A":"b\u0000"}}"#, "NUL"),
            (r#"{"command":{"base64":"YQBi"}}"#, "NUL"),
            (r#"{"command":{"base64":""}}"#, "`command` is empty"),
            (r#"{"command":1}"#, "string"),
            (r#"{"command":"a","pty":{"rows":0,"cols":1}}"#, "`pty`"),
            (r#"{}"#, "`command`"),
        ] {
            let (message, _) = refused(body);
            assert!(message.contains(expect), "{body}: {message}");
        }
        assert!(matches!(ExecuteRequest::from_json(b"{"), Err(Error::Syntax { .. })));
    }

    #[test]
    fn user_names_are_those_of_useradd() {
        for name in ["a", "_x", "dev-1", "abcdefghijklmnopqrstuvwxyz012345"] {
            assert!(valid_user_name(name), "{name}");
        }
        for name in ["", "1a", "A", "a b", "a:b", "-a", "ä", "abcdefghijklmnopqrstuvwxyz0123456"] {
            assert!(!valid_user_name(name), "{name}");
        }
    }
}
