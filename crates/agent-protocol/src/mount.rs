//! What `/mount` and `/unmount` are asked for: a share of the host at a folder of the guest.

use serde::{Deserialize, Serialize};

use crate::{Error, limits, request::from_json};

/// Body of `POST /mount`. The agent makes the mount point when it is missing and calls mount(2).
///
/// See <https://man7.org/linux/man-pages/man2/mount.2.html>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountRequest {
    /// `//10.0.2.100/share` for cifs, the mount tag for 9p, the share's number for fuse.
    pub source: String,
    /// Absolute path of the folder.
    pub target: String,
    /// The file system: `fuse`, `cifs` or `9p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The file system's own options, joined by commas. May hold a password.
    #[serde(default)]
    pub options: String,
    /// Whether the guest's kernel refuses writes. The host enforces it as well.
    #[serde(default)]
    pub readonly: bool,
    /// Whether the share is a single file, mounted on a file; for fuse alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub file: bool,
}

/// Body of `POST /unmount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnmountRequest {
    /// Absolute path of the folder.
    pub target: String,
    /// Whether a folder that is in use is taken away all the same; processes in it see errors.
    #[serde(default)]
    pub force: bool,
}

impl MountRequest {
    /// Decodes and checks a body.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Value`].
    pub fn from_json(body: &[u8]) -> Result<Self, Error> {
        let request: Self = from_json(body)?;
        check_target(&request.target)?;
        if !matches!(&*request.kind, "fuse" | "cifs" | "9p") {
            return Err(Error::value(
                format!("`type` is `{}`", request.kind.escape_debug()),
                Some("Allowed are `fuse`, `cifs` and `9p`".into()),
            ));
        }
        if request.kind == "fuse" && request.source.parse::<u32>().is_err() {
            return Err(Error::value("`source` is not the number of a share", None));
        }
        if [&request.source, &request.options].iter().any(|text| text.contains('\0')) {
            return Err(Error::value("`source` or `options` contains a NUL byte", None));
        }
        Ok(request)
    }
}

impl UnmountRequest {
    /// Decodes and checks a body.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Value`].
    pub fn from_json(body: &[u8]) -> Result<Self, Error> {
        let request: Self = from_json(body)?;
        check_target(&request.target)?;
        Ok(request)
    }
}

/// Checks the folder of the guest that a share is to appear in.
///
/// # Errors
/// [`Error::Value`] unless it is an absolute path other than `/`, without `.` and `..`.
pub fn check_target(target: &str) -> Result<(), Error> {
    let mut parts = target.split('/').filter(|part| !part.is_empty()).peekable();
    let is_good = target.starts_with('/')
        && target.len() <= limits::MAX_PATH
        && !target.contains('\0')
        && parts.peek().is_some()
        && parts.all(|part| !matches!(part, "." | ".."));
    if is_good {
        return Ok(());
    }
    Err(Error::value(
        format!("`{}` cannot be a mount point", target.escape_debug()),
        Some("Use an absolute path of the guest, such as /mnt/code".into()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_absolute_and_plain() {
        for target in ["/mnt", "/mnt/a b", "/mnt/x,y/"] {
            check_target(target).unwrap();
        }
        for target in ["", "/", "//", "mnt", "/mnt/../etc", "/./mnt", "/a\0b"] {
            assert!(check_target(target).is_err(), "{target:?}");
        }
        let body = br#"{"source":"s","target":"/mnt","type":"ext4"}"#;
        assert!(MountRequest::from_json(body).is_err());
    }
}
