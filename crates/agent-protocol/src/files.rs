//! What travels on `/files/read` and `/files/write`: one file or a tree, as frames.
//!
//! A transfer is a sequence of [`FrameKind::Entry`] frames ([`FileEntry`] in JSON), each file's
//! followed by its [`FrameKind::Data`] and [`FrameKind::Hole`] frames, and one [`FrameKind::Done`] at
//! the end. The order is that of a walk: a folder comes before what is in it, and all that is in it
//! comes before the next entry beside it. Whoever receives a transfer decides by
//! [`FileEntry::components`] where an entry goes: a path that could lead out of the tree has none.
//!
//! [`FrameKind::Entry`]: crate::FrameKind::Entry
//! [`FrameKind::Data`]: crate::FrameKind::Data
//! [`FrameKind::Hole`]: crate::FrameKind::Hole
//! [`FrameKind::Done`]: crate::FrameKind::Done

use serde::{Deserialize, Serialize};

use crate::{Error, GuestText, limits, request::from_json, shown};

/// Body of `POST /files/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFilesRequest {
    /// Absolute path of a file or folder.
    pub path: GuestText,
    /// Whether a folder is allowed; then it comes with all that is in it.
    #[serde(default)]
    pub tree: bool,
}

/// First frame of `POST /files/write`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteFilesRequest {
    /// Absolute path that the file or tree gets. Folders above it that are missing are made.
    pub path: GuestText,
    /// The file's own name: when `path` is a folder already, a file goes into it under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<GuestText>,
}

/// Answer to `POST /files/write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteFilesResponse {
    /// Files that were written.
    pub n_files: u64,
    /// Bytes in them, holes included.
    pub n_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A file; its data follows.
    File,
    Folder,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket: it is named, but not sent.
    Other,
}

/// One file, folder or link of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path below the transfer's root, with `/`; empty for the root itself.
    pub path: GuestText,
    pub kind: EntryKind,
    /// Permission bits; absent: those of a new file, or of the file that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// When its content was last changed, in nanoseconds since 1970. Absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime_ns: Option<i64>,
    /// Where a link points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<GuestText>,
}

impl FileEntry {
    /// An entry without attributes.
    pub fn new(path: impl Into<GuestText>, kind: EntryKind) -> Self {
        Self { path: path.into(), kind, mode: None, mtime_ns: None, target: None }
    }

    /// Decodes an entry frame's payload and checks that its path stays in the tree.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Value`].
    pub fn from_json(payload: &[u8]) -> Result<Self, Error> {
        let entry: Self = from_json(payload)?;
        entry.components()?;
        let target = entry.target.as_ref().map(GuestText::as_bytes).unwrap_or_default();
        if target.len() > limits::MAX_PATH || target.contains(&0) {
            let message = format!("`target` of `{}` is no path", entry.path);
            return Err(Error::value(message, None));
        }
        Ok(entry)
    }

    /// The names that lead to the entry from the transfer's root; none for the root itself.
    ///
    /// # Errors
    /// [`Error::Value`] for a path that is absolute, too long, or has a part that is empty, `.`, `..`
    /// or holds a byte that no file name may hold.
    pub fn components(&self) -> Result<Vec<&[u8]>, Error> {
        let path = self.path.as_bytes();
        if path.is_empty() {
            return Ok(Vec::new());
        }
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        if path.len() > limits::MAX_PATH || !parts.iter().all(|part| is_name(part)) {
            let text = shown(&path[..path.len().min(200)]);
            return Err(Error::value(
                format!("`path` of an entry is `{text}`"),
                Some("A path below the root has names joined by `/`, without `.` and `..`".into()),
            ));
        }
        Ok(parts)
    }
}

/// Whether bytes are the name of one file in a folder.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= limits::MAX_NAME
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// Checks an absolute path of the guest.
fn absolute(path: &GuestText) -> Result<(), Error> {
    let bytes = path.as_bytes();
    if bytes.starts_with(b"/") && bytes.len() <= limits::MAX_PATH && !bytes.contains(&0) {
        return Ok(());
    }
    let text = shown(&bytes[..bytes.len().min(200)]);
    let hint = match bytes {
        bytes if bytes.contains(&0) => "No path holds the byte 0".into(),
        [b'/', ..] => format!("A path has at most {} bytes", limits::MAX_PATH),
        _ => "Begin the path with `/`".into(),
    };
    Err(Error::value(format!("`path` is `{text}`, not an absolute path of the guest"), Some(hint)))
}

impl ReadFilesRequest {
    /// Decodes and checks a body.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Value`].
    pub fn from_json(body: &[u8]) -> Result<Self, Error> {
        let request: Self = from_json(body)?;
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
    pub fn from_json(payload: &[u8]) -> Result<Self, Error> {
        let request: Self = from_json(payload)?;
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
            Some(name) if !is_name(name.as_bytes()) => {
                Err(Error::value(format!("`name` is `{name}`"), None))
            }
            _ => Ok(()),
        }
    }
}

/// The payload of a hole of this many bytes.
pub fn hole_payload(length: u64) -> [u8; 8] {
    length.to_le_bytes()
}

/// The length of a hole, from its frame's payload.
///
/// # Errors
/// [`Error::Value`] when the payload is not a number, or the hole has no bytes.
pub fn hole_length(payload: &[u8]) -> Result<u64, Error> {
    match <[u8; 8]>::try_from(payload).map(u64::from_le_bytes) {
        Ok(length) if length > 0 => Ok(length),
        _ => Err(Error::value("A hole's frame holds its length, above 0, in eight bytes", None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_below_the_root_have_components() {
        let components = |path: &[u8]| {
            let entry = FileEntry::new(path, EntryKind::File);
            entry.components().ok().map(|parts| parts.len())
        };
        let good: [(&[u8], usize); 5] = [
            (b"", 0),
            (b"a", 1),
            ("a/b c/\u{e4}".as_bytes(), 3),
            (b"a\xff/\xfe", 2),
            ("\u{fffd}/\x1b".as_bytes(), 2),
        ];
        for (path, expect) in good {
            assert_eq!(components(path), Some(expect), "{}", shown(path));
        }
        for path in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b"] {
            assert_eq!(components(path.as_bytes()), None, "{path}");
        }
        assert_eq!(components("a/".repeat(4000).as_bytes()), None);
        assert_eq!(components("a".repeat(256).as_bytes()), None);
    }

    #[test]
    fn requests_name_absolute_paths() {
        for path in ["relative", "", "a\\u0000b", "/a\\u0000b"] {
            let body = format!("{{\"path\":\"{path}\"}}");
            assert!(ReadFilesRequest::from_json(body.as_bytes()).is_err(), "{path}");
            assert!(WriteFilesRequest::from_json(body.as_bytes()).is_err(), "{path}");
        }
        assert!(ReadFilesRequest::from_json(br#"{"path":"/a","tree":true}"#).unwrap().tree);
        let bytes = ReadFilesRequest::from_json(br#"{"path":{"base64":"L/8="}}"#).unwrap();
        assert_eq!(bytes.path.as_bytes(), b"/\xff");
        for name in ["../b", "", ".", "..", "a\\u0000"] {
            let body = format!("{{\"path\":\"/a\",\"name\":\"{name}\"}}");
            assert!(WriteFilesRequest::from_json(body.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_hole_has_a_length() {
        for length in [1, 4096, u64::MAX] {
            assert_eq!(hole_length(&hole_payload(length)).unwrap(), length);
        }
        for payload in [&[0; 8][..], &[1; 7], &[1; 9], &[]] {
            assert!(hole_length(payload).is_err(), "{payload:?}");
        }
    }
}
