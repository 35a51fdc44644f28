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

/// How long a guest keeps what it reads and writes by FUSE to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountCache {
    /// What it writes is on the host at once, and what the host changes is seen by the next command.
    #[default]
    Auto,
    /// What it writes stays in its memory for a while, which is faster: for folders that nobody else
    /// changes or reads meanwhile.
    Writeback,
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
    /// By FUSE: the guest's user who owns what belongs to the host's user; root without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// By FUSE: the group, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// By FUSE: has the guest see all files with the permissions that this leaves of 0o777, and not with
    /// their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u16>,
    /// By FUSE: what the guest may keep to itself.
    #[serde(default)]
    pub cache: MountCache,
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
        Self {
            host: host.into(),
            guest: guest.into(),
            readonly: false,
            kind: MountType::default(),
            uid: None,
            gid: None,
            umask: None,
            cache: MountCache::default(),
        }
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

    /// Whether it says how FUSE shows files, which no other type can do.
    pub(crate) fn is_for_fuse(&self) -> bool {
        self.uid.is_some()
            || self.gid.is_some()
            || self.umask.is_some()
            || self.cache != MountCache::Auto
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
        if let Some(umask) = self.umask.filter(|umask| *umask > 0o777) {
            return Err(invalid(&format!("umask 0o{umask:o}"), "0 to 0o777", None));
        }
        if self.is_for_fuse() && !matches!(self.kind, MountType::Auto | MountType::Fuse) {
            let hint = Some("Leave the type out".into());
            return Err(invalid(
                self.kind.name(),
                "type=\"fuse\" with uid, gid, umask or cache",
                hint,
            ));
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
                "a list of mounts with host, guest, readonly, type, uid, gid, umask and cache",
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

/// The name under which the guest finds the 9p device of a share, by its place in the list.
pub(crate) fn plan9_tag(index: usize) -> String {
    format!("quicksand{index}")
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
            json!([{"host": "/a", "guest": "/mnt", "umask": 0o1000}]),
            json!([{"host": "/a", "guest": "/mnt", "cache": "none"}]),
            json!([{"host": "/a", "guest": "/mnt", "type": "cifs", "uid": 1000}]),
            json!([{"host": "/a", "guest": "/mnt"}, {"host": "/b", "guest": "/mnt/"}]),
        ] {
            let error = Mount::list_from_value(bad.clone()).unwrap_err();
            assert!(matches!(error, Error::InvalidValue { option: "mounts", .. }), "{bad}");
        }
    }
}
