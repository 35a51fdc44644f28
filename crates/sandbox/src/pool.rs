//! Sandboxes that were started before anybody asked for them.
//!
//! Owns how many wait and who gets which; a start and an end are the sandbox's own business.

use crate::config::SandboxConfig;
use crate::error::{Error, Result};
use crate::sandbox::Sandbox;
use runtime_locator::Search;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

/// After a start that failed, before the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps a number of sandboxes of one kind running, to hand one out at once.
///
/// Each is handed out once, and another is started behind it; what was used never comes back. One that
/// has died while it waited is replaced. Dropping the pool ends those that wait, and no others.
///
/// ```no_run
/// # async fn example() -> Result<(), sandbox::Error> {
/// use sandbox::{ExecuteRequest, Pool, SandboxConfig};
/// use std::num::NonZeroUsize;
///
/// let config = SandboxConfig::builder("minimal").build()?;
/// let pool = Pool::start(config, NonZeroUsize::MIN, None);
/// let sandbox = pool.take().await?;
/// println!("{}", sandbox.execute(ExecuteRequest::new("echo at once")).await?.stdout_lossy());
/// sandbox.stop().await?;
/// # Ok(())
/// # }
/// ```
pub struct Pool {
    ready: Mutex<mpsc::Receiver<Result<Sandbox>>>,
    filling: JoinHandle<()>,
}

impl Pool {
    /// Begins to start sandboxes of a configuration: at most `size` of them wait, the one that is being
    /// started included. `search` says where QEMU and images are looked for; by default where this
    /// process' environment says. Must be called in a runtime, which the sandboxes belong to.
    pub fn start(config: SandboxConfig, size: NonZeroUsize, search: Option<Search>) -> Self {
        let (places, ready) = mpsc::channel(size.get());
        let filling = tokio::spawn(fill(config.for_many(), search, places));
        Self { ready: Mutex::new(ready), filling }
    }

    /// Gives a started sandbox; waits for one where none is ready.
    ///
    /// # Errors
    /// What a start failed with, when there was no other sandbox to hand out.
    pub async fn take(&self) -> Result<Sandbox> {
        let mut ready = self.ready.lock().await;
        loop {
            match ready.recv().await {
                Some(Ok(sandbox)) if !sandbox.is_running() => drop(sandbox),
                Some(result) => return result,
                // Its task ends with the pool alone.
                None => return Err(Error::NotRunning { action: "take a sandbox" }),
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.filling.abort();
    }
}

async fn fill(
    config: SandboxConfig,
    search: Option<Search>,
    places: mpsc::Sender<Result<Sandbox>>,
) {
    // A place is taken before the start, so that no more wait than were asked for.
    while let Ok(place) = places.reserve().await {
        let mut sandbox = Sandbox::new(config.clone()).one_of_many();
        if let Some(search) = &search {
            sandbox = sandbox.with_locator(search.clone());
        }
        match sandbox.start().await {
            Ok(()) => place.send(Ok(sandbox)),
            Err(error) => {
                place.send(Err(error));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
