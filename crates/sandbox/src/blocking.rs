//! Work that blocks, beside the runtime's own threads.

use crate::error::{Error, Result};

/// Runs something that blocks where that is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::System {
            action: "run a part of the start",
            source: std::io::Error::other(error.to_string()),
        }),
    }
}
