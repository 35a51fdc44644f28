//! `manifest.json`, the same file in a save and in an overlay image: a version, the
//! configuration (with the base image's name) and the architecture.

use crate::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The newest manifest version that is read, and the one that is written.
pub const VERSION: u32 = 6;

/// The manifest of a save or of an overlay image.
///
/// Unknown keys are kept and written back: releases of other makers and later ones add their own,
/// and a save that is loaded and saved again must not lose them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout's version; [`VERSION`] in everything that is written here.
    #[serde(default = "version")]
    pub version: u32,
    /// The configuration as the caller's options; `image` names what the disks lie on.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The guest's architecture in QEMU's words (`x86_64`, `aarch64`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The disk that the lowest overlay was made on, which must be the very same to be under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_disk: Option<BaseDisk>,
    /// Whatever else the file holds.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A disk by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseDisk {
    /// Its file's name, for people.
    pub file: String,
    /// The sha256 of the file in hexadecimal.
    pub sha256: String,
}

fn version() -> u32 {
    VERSION
}

impl Manifest {
    /// A manifest of the current version.
    pub fn new(config: Map<String, Value>, arch: &str) -> Self {
        Self {
            version: VERSION,
            config,
            arch: Some(arch.to_owned()),
            base_disk: None,
            other: Map::new(),
        }
    }

    /// Reads a manifest. A newer version is refused before anything else in it is looked at,
    /// because its other fields may have another meaning.
    pub fn parse(json: &str) -> Result<Self, Error> {
        let value: Value =
            serde_json::from_str(json).map_err(|source| Error::ManifestJson { source })?;
        if let Some(found) = value.get("version").and_then(Value::as_u64)
            && found > u64::from(VERSION)
        {
            return Err(Error::ManifestTooNew { found, supported: VERSION });
        }
        serde_json::from_value(value).map_err(|source| Error::ManifestJson { source })
    }

    /// The file's text, indented and with a final newline.
    pub fn to_json(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or(Value::Null);
        format!("{value:#}\n")
    }

    /// The name of the image below the disks: `config.image`, or `base` where an overlay's maker
    /// wrote it so.
    pub fn base_image(&self) -> Option<&str> {
        let places = [
            self.config.get("image"),
            self.config.get("base"),
            self.other.get("base"),
            self.other.get("base_image"),
        ];
        places
            .into_iter()
            .find_map(|place| place.and_then(Value::as_str).filter(|name| !name.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_reference_layout_is_read_and_nothing_is_lost() {
        let text = r#"{"version": 6, "config": {"image": "ubuntu", "memory": "2G", "cpus": 4},
                       "arch": "x86_64", "created_by": "elsewhere"}"#;
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.base_image(), Some("ubuntu"));
        assert_eq!(manifest.config["memory"], json!("2G"));
        assert_eq!(manifest.arch.as_deref(), Some("x86_64"));
        assert_eq!(manifest.other["created_by"], json!("elsewhere"));
        assert_eq!(Manifest::parse(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn the_base_is_found_where_overlay_makers_put_it() {
        let table = [
            (json!({"config": {"image": "a"}, "base": "b"}), Some("a")),
            (json!({"config": {}, "base": "b"}), Some("b")),
            (json!({"base_image": "c"}), Some("c")),
            (json!({"config": {"image": ""}, "base": "b"}), Some("b")),
            (json!({"config": {"image": 7}}), None),
            (json!({}), None),
        ];
        for (value, expect) in table {
            let manifest = Manifest::parse(&value.to_string()).unwrap();
            assert_eq!(manifest.base_image(), expect, "{value}");
        }
    }

    #[test]
    fn newer_and_broken_manifests_are_refused() {
        let newer = Manifest::parse(r#"{"version": 7, "config": "now a string"}"#).unwrap_err();
        assert_eq!(newer.to_string(), "Manifest version 7 is newer than supported (6)");
        for broken in
            ["", "[]", "{", r#"{"version": "six"}"#, r#"{"version": -1}"#, r#"{"config": 3}"#]
        {
            assert!(matches!(Manifest::parse(broken), Err(Error::ManifestJson { .. })), "{broken}");
        }
    }
}
