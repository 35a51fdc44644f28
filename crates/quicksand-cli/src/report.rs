//! Failures as people read them: `error:` and `hint:` lines on stderr, and an exit code.

use sandbox::printable;
use std::error::Error as StdError;

/// The command line was wrong.
pub const USAGE: i32 = 2;
/// Something failed.
pub const FAILURE: i32 = 1;
/// The command's time was over.
pub const TIMED_OUT: i32 = 124;
/// The sandbox failed, not the command in it.
pub const SANDBOX: i32 = 125;
/// Ctrl-C.
pub const INTERRUPTED: i32 = 130;

/// Why the process ends with an exit code of its own.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    code: i32,
}

impl Failure {
    /// A failure in our own words.
    pub fn new(code: i32, message: impl Into<String>, hint: Option<&str>) -> Self {
        Self { message: message.into(), hint: hint.map(str::to_owned), code }
    }

    /// The same with another exit code.
    pub fn with_code(self, code: i32) -> Self {
        Self { code, ..self }
    }

    /// A failed sandbox. A wrong option is a wrong command line.
    pub fn sandbox(error: &sandbox::Error) -> Self {
        let code = match error.kind() {
            sandbox::ErrorKind::Value => USAGE,
            sandbox::ErrorKind::State | sandbox::ErrorKind::Runtime => SANDBOX,
        };
        Self { message: chain(error), hint: error.hint(), code }
    }

    /// A failed task that is no sandbox's. A wrong argument is a wrong command line.
    pub fn task(error: &sandbox::Error) -> Self {
        let code = match error {
            sandbox::Error::InvalidValue { .. } => USAGE,
            _ => FAILURE,
        };
        Self { message: chain(error), hint: error.hint(), code }
    }

    /// A failed search for QEMU or images, with the places that were looked at.
    pub fn locate(error: &runtime_locator::Error) -> Self {
        let mut message = chain(error);
        for attempt in error.tried() {
            message.push_str(&format!("\n  tried: {attempt}"));
        }
        Self { message, hint: error.hint(), code: FAILURE }
    }

    /// Prints it and gives the exit code.
    pub fn print(&self) -> i32 {
        eprintln!("error: {}", printable(&self.message));
        if let Some(hint) = &self.hint {
            eprintln!("hint: {}", printable(hint));
        }
        self.code
    }
}

impl From<image_prover::Error> for Failure {
    fn from(error: image_prover::Error) -> Self {
        match &error {
            image_prover::Error::Machine(error) => Self::task(error),
            other => Self { message: chain(other), hint: other.hint(), code: FAILURE },
        }
    }
}

/// A wrong name or address is a wrong command line.
impl From<wheel_installer::Error> for Failure {
    fn from(error: wheel_installer::Error) -> Self {
        let code = match error.kind() {
            wheel_installer::ErrorKind::Argument => USAGE,
            wheel_installer::ErrorKind::Installation => FAILURE,
        };
        Self { message: chain(&error), hint: error.hint(), code }
    }
}

impl From<image_inspect::Error> for Failure {
    fn from(error: image_inspect::Error) -> Self {
        match &error {
            image_inspect::Error::Locate(error) => Self::locate(error),
            other => Self { message: chain(other), hint: other.hint(), code: FAILURE },
        }
    }
}

impl From<image_builder::Error> for Failure {
    fn from(mut error: image_builder::Error) -> Self {
        if let image_builder::Error::Proof(proof) = error {
            match proof.downcast::<image_prover::Error>() {
                Ok(proof) => return (*proof).into(),
                Err(other) => error = image_builder::Error::Proof(other),
            }
        }
        let hint = error.hint();
        Self { message: chain(&error), hint, code: FAILURE }
    }
}

/// Errors of files; `fs_err` has put the path into the message.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { message: chain(&error), hint: None, code: FAILURE }
    }
}

/// `Display` of an error leaves its source out; people want both.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(&format!("\n  caused by: {error}"));
        source = error.source();
    }
    message
}
