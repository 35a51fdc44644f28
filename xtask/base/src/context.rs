//! What every task is given: the workspace's root, the cache, the user interface, the offline switch.

use crate::{cache::Cache, ui::Ui};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// What every task is given.
pub struct Context {
    /// The workspace's root folder.
    pub root: PathBuf,
    /// Long builds, by the hash of their inputs, outside the tree.
    pub cache: Cache,
    /// Progress and logs.
    pub ui: Ui,
    /// Never ask a registry.
    pub offline: bool,
}

impl Context {
    /// Finds the workspace and opens the cache.
    pub fn new(offline: bool) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("xtask lies in the workspace's root")?
            .to_path_buf();
        let cache = Cache::open()?;
        let ui = Ui::new(cache.logs());
        Ok(Self { root, cache, ui, offline })
    }

    /// The same for a look at what is made already: nothing is fetched and no entry of the cache is made,
    /// and a task that would need to gives an error instead.
    pub fn looking(&self) -> Self {
        Self {
            root: self.root.clone(),
            cache: self.cache.looked_at(),
            ui: Ui::new(self.cache.logs()),
            offline: true,
        }
    }

    /// The folder that wheels are written to.
    pub fn dist(&self) -> PathBuf {
        self.root.join("dist")
    }
}
