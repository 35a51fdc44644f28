//! What all requests share.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::{Mutex, RwLock};

use crate::freezer::Freezer;
use crate::process::running::{Launcher, Permit};
use crate::token::Tokens;

/// The state that all requests share.
pub struct Agent {
    /// Who is let in.
    pub tokens: Tokens,
    /// Starts commands.
    pub launcher: Launcher,
    /// Taken for writing by commands that run alone.
    lock: Arc<RwLock<()>>,
    /// Whether the machine is going down.
    pub ending: Cell<bool>,
    /// Freezes and thaws the disk.
    pub freezer: Freezer,
    /// Held while a share is mounted by FUSE, or any is unmounted: a mount that its caller has given up
    /// goes on, and the unmount that follows must find it.
    pub mounting: Arc<Mutex<()>>,
}

impl Agent {
    /// The state before the first request.
    pub fn new(tokens: Tokens, launcher: Launcher) -> Self {
        Self {
            tokens,
            launcher,
            lock: Arc::default(),
            ending: Cell::new(false),
            freezer: Freezer::default(),
            mounting: Arc::default(),
        }
    }

    /// Waits until a command may run.
    pub async fn permit(&self, exclusive: bool, interactive: bool) -> Permit {
        if exclusive {
            Permit::Alone(Arc::clone(&self.lock).write_owned().await)
        } else if interactive {
            // An open shell would keep commands that run alone waiting for ever.
            Permit::Free
        } else {
            Permit::Shared(Arc::clone(&self.lock).read_owned().await)
        }
    }
}
