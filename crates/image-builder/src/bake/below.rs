//! What lies below a layer: an image that this bake has just made, or one that is installed.

use super::stages::{TREE, name_of};
use crate::{Error, tree::Tree};
use fs_err as fs;
use std::path::{Path, PathBuf};

/// A finished image as the layer below another.
pub struct Below {
    pub files: Files,
    /// Its disks, the base's first.
    pub chain: Vec<PathBuf>,
    /// What its topmost disk is called when it is published.
    pub name: String,
    /// Where that disk is from the one above it, once both are installed. It is for people and their tools: a
    /// sandbox passes the chain itself and trusts no header.
    pub place: String,
}

/// All files of an image.
pub enum Files {
    /// In the entry of its disk.
    Entry(PathBuf),
    /// In memory, with the digest of what they were read from.
    Read(Box<Tree>, String),
}

impl Files {
    /// What keys of what is made on it name.
    pub fn identity(&self) -> &[u8] {
        match self {
            Self::Entry(entry) => name_of(entry),
            Self::Read(_, digest) => digest.as_bytes(),
        }
    }

    pub fn tree(&self, time: i64) -> Result<Tree, Error> {
        match self {
            Self::Read(tree, _) => Ok(Tree::clone(tree)),
            Self::Entry(entry) => {
                let mut tree = Tree::new(time);
                tree.add_tar_file(&entry.join(TREE))?;
                Ok(tree)
            }
        }
    }

    /// Writes the files as a tar.
    pub fn put_tar(&self, place: &Path) -> Result<(), Error> {
        match self {
            Self::Read(tree, _) => Ok(tree.write_tar(place)?),
            // A copy: what is kept may lie where other users may not look.
            Self::Entry(entry) => Ok(fs::copy(entry.join(TREE), place).map(|_| ())?),
        }
    }
}
