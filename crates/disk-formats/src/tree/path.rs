//! Paths inside a tree, as bytes: names on disks need not be text.

use crate::Error;

/// A path inside the tree: bytes, relative, without `.` or `..`, the root being empty.
pub type TreePath = Vec<u8>;

/// A path without leading `./` or `/`, without doubled or trailing slashes. `..` is refused: it
/// would leave the tree.
pub fn normal(path: &[u8]) -> Result<TreePath, Error> {
    let mut clean = TreePath::with_capacity(path.len());
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                return Err(Error::PathLeavesTree {
                    path: String::from_utf8_lossy(path).into_owned(),
                });
            }
            name => join(&mut clean, name),
        }
    }
    Ok(clean)
}

/// Resolves `..` by text, which is right once the folders before it are known to be real.
pub(super) fn collapse(path: &[u8]) -> TreePath {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join(&b'/')
}

/// The folder and the name of a path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Adds a name to a path.
pub fn join(path: &mut TreePath, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_normal() {
        for (given, expected) in [
            ("./usr/bin/", "usr/bin"),
            ("/", ""),
            (".", ""),
            ("a//b/./c", "a/b/c"),
            ("..a/b", "..a/b"),
        ] {
            assert_eq!(normal(given.as_bytes()).unwrap(), expected.as_bytes(), "{given}");
        }
        assert!(normal(b"usr/../../etc/passwd").is_err());
    }
}
