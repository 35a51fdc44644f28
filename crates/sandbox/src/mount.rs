//! Shares of the host for the guest, as data: what is shared, how, and the checks of both.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// How a folder is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub enum MountType {
    /// FUSE where the image and this host have it, SMB elsewhere.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// FUSE on a port of the machine's own, at the start or while the machine runs, in every network
    /// mode. Needs an image of ours and a Linux host.
    #[serde(rename = "fuse")]
    Fuse,
    /// SMB 3.1.1, at the start or while the machine runs. Needs the network.
    #[serde(rename = "cifs")]
    Cifs,
    /// 9p over virtio, at the start only. Works in every network mode.
    #[serde(rename = "9p")]
    Plan9,
}

impl MountType {
    /// The word for it: `auto`, or the file system's name in Linux, `fuse`, `cifs` or `9p`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fuse => "fuse",
            Self::Cifs => "cifs",
            Self::Plan9 => "9p",
        }
    }
}

/// A folder of the host at a folder of the guest, or a file at a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The folder of the host, or the file. `~` at its start is the user's home.
    pub host: PathBuf,
    /// The folder of the guest, or the file; made when it is missing.
    pub guest: String,
    /// Whether the guest may only read. The host enforces it.
    #[serde(default)]
    pub readonly: bool,
    /// How.
    #[serde(rename = "type", default)]
    pub kind: MountType,
}

/// A share that is mounted, for [`crate::Sandbox::unmount`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountHandle {
    /// Tells it from all others of the same sandbox.
    pub(crate) id: u64,
    /// What is shared.
    pub mount: Mount,
}

impl MountHandle {
    /// A number that no other share of the same start has.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Mount {
    /// A share that the guest may write to.
    ///
    /// ```
    /// let mount = sandbox::Mount::new("/home/me/code", "/mnt/code");
    /// assert!(!mount.readonly);
    /// ```
    pub fn new(host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        Self { host: host.into(), guest: guest.into(), readonly: false, kind: MountType::default() }
    }

    /// Sets whether the guest may only read.
    pub fn readonly(mut self, readonly: bool) -> Self {
        self.readonly = readonly;
        self
    }

    /// Sets how the folder is shared.
    pub fn kind(mut self, kind: MountType) -> Self {
        self.kind = kind;
        self
    }

    /// Where it is on the host: a `~` at the start is the user's home, as shells have it.
    pub(crate) fn host_path(&self) -> PathBuf {
        match (self.host.strip_prefix("~"), std::env::home_dir()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.host.clone(),
        }
    }

    /// Checks what can be checked without looking at the host.
    pub(crate) fn check(&self) -> Result<()> {
        agent_protocol::check_target(&self.guest).map_err(|error| {
            invalid(&self.guest, "an absolute path of the guest, other than /", error.hint())
        })?;
        let host = self.host.to_string_lossy();
        if host.is_empty() || host.contains('\0') {
            return Err(invalid(&host, "a folder of the host", None));
        }
        Ok(())
    }

    /// Reads a list of shares in their JSON form.
    pub(crate) fn list_from_value(value: Value) -> Result<Vec<Self>> {
        let given = value.to_string();
        let mounts: Vec<Self> = serde_json::from_value(value).map_err(|_| {
            let hint = "Write for example Mount(\"/host/code\", \"/mnt/code\", readonly=True)";
            invalid(
                &given,
                "a list of mounts with host, guest, readonly and type",
                Some(hint.into()),
            )
        })?;
        for (index, mount) in mounts.iter().enumerate() {
            mount.check()?;
            let guest = mount.guest.trim_end_matches('/');
            if mounts[..index].iter().any(|other| other.guest.trim_end_matches('/') == guest) {
                let allowed = "each folder of the guest once";
                return Err(invalid(&mount.guest, allowed, None));
            }
        }
        Ok(mounts)
    }
}

fn invalid(value: &str, allowed: &str, hint: Option<String>) -> Error {
    Error::InvalidValue {
        option: "mounts",
        value: value.to_owned(),
        allowed: allowed.to_owned(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_home_is_what_it_is_in_a_shell() {
        let home = std::env::home_dir().unwrap();
        for (host, expect) in [
            ("~", home.clone()),
            ("~/code", home.join("code")),
            ("~other/code", "~other/code".into()),
            ("./~", "./~".into()),
            ("/a/~", "/a/~".into()),
        ] {
            assert_eq!(Mount::new(host, "/mnt").host_path(), expect);
        }
    }

    #[test]
    fn lists_are_read_and_checked() {
        let list = json!([{"host": "/a", "guest": "/mnt/a"},
            {"host": "b", "guest": "/mnt/b", "readonly": true, "type": "9p"}]);
        let mounts = Mount::list_from_value(list.clone()).unwrap();
        assert_eq!(mounts[0], Mount::new("/a", "/mnt/a"));
        assert_eq!(mounts[1], Mount::new("b", "/mnt/b").readonly(true).kind(MountType::Plan9));
        for bad in [
            json!("x"),
            json!([{"host": "/a"}]),
            json!([{"host": "/a", "guest": "/"}]),
            json!([{"host": "/a", "guest": "relative"}]),
            json!([{"host": "/a", "guest": "/mnt/../etc"}]),
            json!([{"host": "", "guest": "/mnt"}]),
            json!([{"host": "/a", "guest": "/mnt", "type": "nfs"}]),
            json!([{"host": "/a", "guest": "/mnt", "read_only": true}]),
            json!([{"host": "/a", "guest": "/mnt"}, {"host": "/b", "guest": "/mnt/"}]),
        ] {
            let error = Mount::list_from_value(bad.clone()).unwrap_err();
            assert!(matches!(error, Error::InvalidValue { option: "mounts", .. }), "{bad}");
        }
    }
}
