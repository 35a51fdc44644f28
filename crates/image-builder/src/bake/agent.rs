//! The guest agent as it comes into an image, and the bill that says what is compiled into it.

use crate::Error;
use bill_of_materials::Component;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

#[derive(Clone, Debug)]
pub struct Agent {
    /// Its binary, the `/init` of the initrd.
    pub binary: PathBuf,
    /// The folder with its [`AgentBill`]; none where nothing is known of its parts.
    pub bill: Option<PathBuf>,
}

/// What is compiled into the agent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AgentBill {
    /// Its libraries.
    pub parts: Vec<Component>,
    /// Their licence texts.
    pub texts: String,
}

impl AgentBill {
    /// What the file is called.
    pub const FILE: &str = "bill.json";

    /// Reads the bill in a folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let bytes = fs::read(folder.join(Self::FILE))?;
        Ok(serde_json::from_slice(&bytes).map_err(io::Error::other)?)
    }

    /// The same as bytes to write.
    ///
    /// # Errors
    /// Only what cannot be written as JSON, which a bill can.
    pub fn to_json(&self) -> Result<Vec<u8>, io::Error> {
        serde_json::to_vec(self).map_err(io::Error::other)
    }
}
