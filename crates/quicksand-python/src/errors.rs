//! Errors of the Rust side as the exceptions of `python/quicksand/_errors.py`.
//!
//! Owns which error is which exception; messages and hints come from the errors themselves.

use pyo3::{exceptions::PyRuntimeError, prelude::*, sync::PyOnceLock, types::PyModule};
use sandbox::{Error, ErrorKind};
use std::error::Error as StdError;

/// The exception for an error of the sandbox crate.
pub fn to_python(py: Python<'_>, error: &Error) -> Py<PyAny> {
    make(py, class_of(error), with_sources(error), error.hint())
}

/// The same, ready to be raised.
pub fn raise(error: &Error) -> PyErr {
    Python::attach(|py| PyErr::from_value(to_python(py, error).into_bound(py)))
}

/// The exception for an error of the search for QEMU and images.
pub fn raise_locate(error: &runtime_locator::Error) -> PyErr {
    Python::attach(|py| {
        let exception = make(py, class_of_locate(error), with_sources(error), error.hint());
        PyErr::from_value(exception.into_bound(py))
    })
}

/// The exception for an installation that failed.
pub fn raise_install(error: &wheel_installer::Error) -> PyErr {
    let class = match error.kind() {
        wheel_installer::ErrorKind::Argument => "ConfigError",
        wheel_installer::ErrorKind::Installation => "InstallError",
    };
    Python::attach(|py| {
        let exception = make(py, class, with_sources(error), error.hint());
        PyErr::from_value(exception.into_bound(py))
    })
}

/// A value that an option cannot have.
pub fn invalid(option: &str, value: &str, allowed: &str) -> PyErr {
    Python::attach(|py| {
        let message = format!("Invalid value `{value}` for `{option}`: allowed is {allowed}");
        PyErr::from_value(make(py, "ConfigError", message, None).into_bound(py))
    })
}

/// A machine that another process started.
pub fn foreign(action: &str) -> PyErr {
    Python::attach(|py| {
        let message = format!("Cannot {action} on a non-running sandbox: another process made it");
        let hint = "make the sandbox in the process that uses it".to_owned();
        PyErr::from_value(make(py, "NotRunningError", message, Some(hint)).into_bound(py))
    })
}

/// What an operation ends with that was cancelled; the canceller never looks at it.
pub fn cancelled(py: Python<'_>) -> Py<PyAny> {
    make(py, "SandboxError", "The operation was cancelled".into(), None)
}

fn class_of(error: &Error) -> &'static str {
    match error {
        Error::UnknownOption { .. } => "UnknownOptionError",
        Error::NotYet { .. } => "NotAvailableError",
        Error::Locate(error) => class_of_locate(error),
        Error::SaveNotFound { .. } => "SaveNotFoundError",
        Error::SaveFailed { .. } => "SaveError",
        Error::AlreadyRunning => "AlreadyRunningError",
        Error::NotRunning { .. } | Error::Stopped { .. } => "NotRunningError",
        Error::BootTimeout { .. } | Error::BootFailed { .. } => "StartError",
        // The agent's words about what there is already, or is not: nothing is wrong with it.
        Error::AgentRefused { status: 404 | 409 | 501, .. } => "SandboxError",
        Error::AgentBroken { .. } | Error::AgentRefused { .. } | Error::GuestSilent { .. } => {
            "AgentConnectionError"
        }
        Error::GuestFile { is_missing: true, .. } => "GuestFileNotFoundError",
        Error::GuestFile { .. }
        | Error::TooLarge { .. }
        | Error::TooManyEntries { .. }
        | Error::WrongKind { .. } => "GuestFileError",
        Error::HostExists { .. } => "HostFileExistsError",
        Error::Mount { .. } => "MountError",
        Error::AcceleratorUnusable { .. }
        | Error::BadImage { .. }
        | Error::BaseChanged { .. }
        | Error::Spawn { .. }
        | Error::PortInUse { .. }
        | Error::QemuExited { .. } => "StartError",
        other if other.kind() == ErrorKind::Value => "ConfigError",
        _ => "SandboxError",
    }
}

fn class_of_locate(error: &runtime_locator::Error) -> &'static str {
    use runtime_locator::Error;
    match error {
        Error::QemuNotFound { .. } | Error::QemuOverride { .. } => "QemuNotFoundError",
        Error::ImageNotFound { .. }
        | Error::ImageArch { .. }
        | Error::Base { .. }
        | Error::OtherBaseDisk { .. } => "ImageNotFoundError",
        Error::Manifest { .. } | Error::Broken { .. } | Error::Io { .. } => "StartError",
    }
}

/// `Display` of an error leaves its source out; an exception has one message for all of them.
fn with_sources(error: &(dyn StdError + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(&format!(": {error}"));
        source = error.source();
    }
    message
}

/// Makes the exception. Tracebacks go to terminals, so that nothing in the text may steer one.
fn make(py: Python<'_>, class: &str, message: String, hint: Option<String>) -> Py<PyAny> {
    let message = sandbox::printable(&message).into_owned();
    let hint = hint.map(|hint| sandbox::printable(&hint).into_owned());
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let made = MODULE
        .get_or_try_init(py, || py.import("quicksand._errors").map(Bound::unbind))
        .and_then(|module| module.bind(py).getattr(class)?.call1((message.clone(), hint)));
    match made {
        Ok(exception) => exception.unbind(),
        // The package is broken; the message must still arrive.
        Err(_) => PyRuntimeError::new_err(message).into_value(py).into_any(),
    }
}
