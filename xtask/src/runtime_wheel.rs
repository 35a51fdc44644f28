//! Builds the native module and the command, and packs the runtime's wheel.

use crate::context::Context;
use anyhow::Result;
use std::path::PathBuf;

pub fn build(_context: &Context) -> Result<PathBuf> {
    anyhow::bail!("not there yet")
}
