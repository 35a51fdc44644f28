//! The lock of a recipe outside of this repository: the base's disk and the brought root file system
//! by digest, and the packages.

use crate::{Error, LockError, lock::ArchLock};
use fs_err as fs;
use host_platform::Arch;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

const VERSION: u32 = 1;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    version: u32,
    #[serde(default)]
    arch: BTreeMap<String, Inputs>,
}

/// The inputs for one architecture.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Inputs {
    /// The topmost disk of the base.
    pub base: Pinned,
    /// The root file system that the recipe brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Pinned>,
    /// The packages that come on top.
    pub packages: ArchLock,
}

/// A file by its content.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Pinned {
    /// What it is called.
    pub name: String,
    /// Its sha256 in hexadecimal.
    pub sha256: String,
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, arch: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads a lock; one that is absent is empty.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let lock: Self = toml::from_str(&fs::read_to_string(path)?).map_err(|source| {
            Error::Lock(LockError::BadLock { path: path.to_owned(), source: Box::new(source) })
        })?;
        for inputs in lock.arch.values() {
            inputs.packages.check(path)?;
        }
        match lock.version == VERSION {
            true => Ok(lock),
            false => Err(Error::Lock(LockError::LockVersion {
                path: path.to_owned(),
                found: lock.version,
                known: VERSION,
            })),
        }
    }

    pub(super) fn get(&self, arch: Arch) -> Option<&Inputs> {
        self.arch.get(arch.image_name())
    }

    /// Replaces the inputs for an architecture and writes the lock beside its place.
    pub(super) fn save(mut self, path: &Path, arch: Arch, inputs: Inputs) -> Result<(), Error> {
        self.arch.insert(arch.image_name().to_owned(), inputs);
        let body = toml::to_string(&self).map_err(std::io::Error::other)?;
        let intro = "# The exact inputs of this image. Renewed by: quicksand dev bake --update\n";
        crate::lock::write_beside(path, &format!("{intro}{body}"))
    }
}

/// Refuses an input that is another one than the lock's.
pub(super) fn compare(what: &str, locked: &Pinned, found: &Pinned) -> Result<(), Error> {
    match locked.sha256 == found.sha256 {
        true => Ok(()),
        false => Err(Error::Lock(LockError::OtherInput {
            what: format!("{what} `{}`", found.name),
            found: found.sha256.clone(),
            expected: locked.sha256.clone(),
        })),
    }
}
