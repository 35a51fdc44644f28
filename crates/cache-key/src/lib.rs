//! Keys of caches: the hash of everything that something is made from. An input is named and added
//! ([`Key`]); the code that does the making is one input, the digest of whole crates ([`code`]), so that
//! nobody keeps a list of source files by hand. This crate knows no cache and none of the things made.

pub mod code;
mod lexer;
mod manifest;
pub mod tools;

use fs_err as fs;
use sha2::{Digest as _, Sha256};
use std::{io, path::Path};

/// The hash of everything that went into an entry of a cache.
#[derive(Clone, Debug)]
pub struct Key(Sha256);

impl Key {
    /// Starts with the name of what is made.
    pub fn new(what: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.add("what", what.as_bytes());
        key
    }

    /// Adds one named input.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// Adds the contents of one file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.add(&name, &fs::read(path)?);
        Ok(())
    }

    /// Adds every file below a folder, by relative name, in sorted order.
    ///
    /// # Errors
    /// The folder or a file cannot be read.
    pub fn add_tree(&mut self, root: &Path) -> io::Result<()> {
        for path in files_below(root)? {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            self.add(&name, &fs::read(&path)?);
        }
        Ok(())
    }

    /// The key in hexadecimal, shortened to 32 digits.
    pub fn digest(&self) -> String {
        let digest = self.0.clone().finalize();
        hex::encode(&digest[..16])
    }
}

/// The files below a folder, in sorted order. Links are not followed.
fn files_below(root: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_do_not_run_into_each_other() {
        let digest = |inputs: &[(&str, &str)]| {
            let mut key = Key::new("test");
            inputs.iter().for_each(|(name, value)| key.add(name, value.as_bytes()));
            key.digest()
        };
        assert_eq!(digest(&[("a", "b")]), digest(&[("a", "b")]));
        assert_ne!(digest(&[("ab", "c")]), digest(&[("a", "bc")]));
        assert_ne!(digest(&[("a", "b"), ("c", "d")]), digest(&[("a", "bcd")]));
        assert_eq!(digest(&[]).len(), 32);
    }

    #[test]
    fn a_tree_is_its_names_and_contents() {
        let folder = tempfile::tempdir().unwrap();
        let digest = || {
            let mut key = Key::new("test");
            key.add_tree(folder.path()).unwrap();
            key.digest()
        };
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/c"), "one").unwrap();
        let first = digest();
        fs::write(folder.path().join("b/c"), "two").unwrap();
        let second = digest();
        fs::rename(folder.path().join("b/c"), folder.path().join("b/d")).unwrap();
        assert!(first != second && second != digest());
        fs::rename(folder.path().join("b/d"), folder.path().join("b/c")).unwrap();
        fs::write(folder.path().join("b/c"), "one").unwrap();
        assert_eq!(first, digest());
    }
}
