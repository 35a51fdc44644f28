//! What travels on `/files/read` and `/files/write`: one file or a tree, as frames.
//!
//! A transfer is a sequence of [`FrameKind::Entry`] frames ([`FileEntry`] in JSON), each file's
//! followed by its [`FrameKind::Data`], and one [`FrameKind::Done`] at the end; a folder comes before
//! what is in it. Whoever receives a transfer decides by [`FileEntry::components`] where an entry
//! goes: a path that could lead out of the tree has none.
//!
//! [`FrameKind::Entry`]: crate::FrameKind::Entry
//! [`FrameKind::Data`]: crate::FrameKind::Data
//! [`FrameKind::Done`]: crate::FrameKind::Done

use serde::{Deserialize, Serialize};

use crate::{Error, limits, request::from_json};

/// Body of `POST /files/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFilesRequest {
    /// Absolute path of a file or folder.
    pub path: String,
    /// Whether a folder is allowed; then it comes with all that is in it.
    #[serde(default)]
    pub tree: bool,
}

/// First frame of `POST /files/write`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteFilesRequest {
    /// Absolute path that the file or tree gets. Folders above it that are missing are made.
    pub path: String,
    /// The file's own name: when `path` is a folder already, a file goes into it under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Answer to `POST /files/write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteFilesResponse {
    /// Files that were written.
    pub n_files: u64,
    /// Bytes in them.
    pub n_bytes: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A file; its data frames follow.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket, or a name that is not UTF-8: told, but not sent.
    Other,
}

/// One file, folder or link of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path below the transfer's root, with `/`; empty for the root itself.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits; absent: those of a new file, or of the file that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Where a link points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl FileEntry {
    /// Decodes an entry frame's payload and checks that its path stays in the tree.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Value`].
    pub fn from_json(payload: &[u8]) -> Result<FileEntry, Error> {
        let entry: FileEntry = from_json(payload)?;
        entry.components()?;
        Ok(entry)
    }

    /// The names that lead to the entry from the transfer's root; none for the root itself.
    ///
    /// # Errors
    /// [`Error::Value`] for a path that is absolute, too long, or has a part that is empty, `.`, `..`
    /// or holds a byte that no file name may hold.
    pub fn components(&self) -> Result<Vec<&str>, Error> {
        if self.path.is_empty() {
            return Ok(Vec::new());
        }
        let parts: Vec<&str> = self.path.split('/').collect();
        let is_name = |part: &&str| {
            !matches!(*part, "" | "." | "..") && part.len() <= 255 && !part.contains('\0')
        };
        if self.path.len() > limits::MAX_PATH || !parts.iter().all(is_name) {
            let shown: String = self.path.chars().take(200).collect();
            return Err(Error::value(
                format!("`path` of an entry is `{}`", shown.escape_debug()),
                Some("A path below the root has names joined by `/`, without `.` and `..`".into()),
            ));
        }
        Ok(parts)
    }
}

/// Checks an absolute path of the guest.
fn absolute(path: &str) -> Result<(), Error> {
    if path.starts_with('/') && path.len() <= limits::MAX_PATH && !path.contains('\0') {
        return Ok(());
    }
    Err(Error::value(
        format!("`path` is `{}`, not an absolute path of the guest", path.escape_debug()),
        Some("Begin the path with `/`".into()),
    ))
}

impl ReadFilesRequest {
    /// Decodes and checks a body.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Value`].
    pub fn from_json(body: &[u8]) -> Result<ReadFilesRequest, Error> {
        let request: ReadFilesRequest = from_json(body)?;
        request.validate()?;
        Ok(request)
    }

    /// Checks the path.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub fn validate(&self) -> Result<(), Error> {
        absolute(&self.path)
    }
}

impl WriteFilesRequest {
    /// Decodes and checks the first frame's payload.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Value`].
    pub fn from_json(payload: &[u8]) -> Result<WriteFilesRequest, Error> {
        let request: WriteFilesRequest = from_json(payload)?;
        request.validate()?;
        Ok(request)
    }

    /// Checks the path and the name.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub fn validate(&self) -> Result<(), Error> {
        absolute(&self.path)?;
        match &self.name {
            Some(name) if name.contains('/') || matches!(&**name, "" | "." | "..") => {
                Err(Error::value(format!("`name` is `{}`", name.escape_debug()), None))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_below_the_root_have_components() {
        let components = |path: &str| {
            let entry =
                FileEntry { path: path.into(), kind: EntryKind::File, mode: None, target: None };
            entry.components().ok().map(|parts| parts.len())
        };
        for (path, expect) in [("", Some(0)), ("a", Some(1)), ("a/b c/\u{e4}", Some(3))] {
            assert_eq!(components(path), expect, "{path}");
        }
        for path in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b"] {
            assert_eq!(components(path), None, "{path}");
        }
        assert_eq!(components(&"a/".repeat(4000)), None);
        assert_eq!(components(&"a".repeat(256)), None);
    }

    #[test]
    fn requests_name_absolute_paths() {
        for path in ["relative", "", "a\\u0000b"] {
            let body = format!("{{\"path\":\"{path}\"}}");
            assert!(ReadFilesRequest::from_json(body.as_bytes()).is_err(), "{path}");
            assert!(WriteFilesRequest::from_json(body.as_bytes()).is_err(), "{path}");
        }
        assert!(ReadFilesRequest::from_json(br#"{"path":"/a","tree":true}"#).unwrap().tree);
        assert!(WriteFilesRequest::from_json(br#"{"path":"/a","name":"../b"}"#).is_err());
    }
}
