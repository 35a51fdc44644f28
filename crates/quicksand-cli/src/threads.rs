//! The threads that a sandbox works on.

use crate::report::{Failure, SANDBOX};
use tokio::runtime::{Builder, Runtime};

/// Two of them, for a command that has one machine.
pub fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(SANDBOX, format!("Failed to start threads: {error}"), None))
}
