//! The guest agent as it comes into an image, and the papers that say what is compiled into it.

use crate::Error;
use bill_of_materials::Component;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its binary, the `/init` of the initrd.
    pub binary: PathBuf,
    /// The folder with its [`Papers`]; none where nothing is known of its parts.
    pub papers: Option<PathBuf>,
}

/// What is compiled into the agent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Papers {
    /// Its libraries.
    pub parts: Vec<Component>,
    /// Their licence texts.
    pub texts: String,
}

impl Papers {
    /// What the file is called.
    pub const FILE: &str = "papers.json";

    /// Reads the papers in a folder.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let bytes = fs::read(folder.join(Self::FILE))?;
        Ok(serde_json::from_slice(&bytes).map_err(io::Error::other)?)
    }

    /// The same as bytes to write.
    ///
    /// # Errors
    /// Only what cannot be written as JSON, which papers can.
    pub fn to_json(&self) -> Result<Vec<u8>, io::Error> {
        serde_json::to_vec(self).map_err(io::Error::other)
    }
}
