//! Which of a sandbox's options a save keeps, and which of a save's are sent to others or taken from
//! them. Pure.
//!
//! A list of what is kept, not of what is left out: an option that comes later tells nobody anything
//! of this host until somebody has thought about it here.

use super::SaveManifest;
use runtime_locator::OWN_KEY;
use serde_json::{Map, Value, json};

/// The options of a machine that say nothing of the host it ran on: no folders, ports, addresses,
/// lists of allowed names, arguments.
const KEPT: [&str; 9] = [
    "image",
    "arch",
    "memory",
    "cpus",
    "disk_size",
    "network_mode",
    "enable_display",
    "transport",
    "wait_for",
];
/// What we add to a manifest and others may see.
const OWN_KEPT: [&str; 3] = ["made_by", "base_version", "base_fingerprint"];
/// The name of the image below, where the manifest has its path.
pub(crate) const BASE_NAME: &str = "base_name";

/// The options that a save keeps.
pub(crate) fn kept(options: &Map<String, Value>) -> Map<String, Value> {
    let kept = options.iter().filter(|(name, _)| KEPT.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What others get of a manifest: how the machine was, and the name of the image below.
pub(crate) fn exported(manifest: &SaveManifest) -> SaveManifest {
    let own = manifest.other.get(OWN_KEY).cloned().unwrap_or_default();
    let mut config = kept(&manifest.config);
    let base = manifest.base_image().unwrap_or_default();
    let is_path = base.contains(['/', '\\']);
    let name = own[BASE_NAME].as_str().filter(|_| is_path).unwrap_or(base);
    // A path that nothing is known of ends in the name of a folder or of a disk.
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    config.insert("image".into(), json!(name));
    let own: Map<String, Value> = OWN_KEPT
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), own.get(name)?.clone())))
        .collect();
    let mut sent = SaveManifest { config, other: Map::new(), ..manifest.clone() };
    if !own.is_empty() {
        sent.other.insert(OWN_KEY.into(), Value::Object(own));
    }
    sent
}

/// What is taken of a manifest that somebody sent: the image's name. How much memory and how many
/// processors a machine gets is for the one who starts it.
pub(crate) fn imported(manifest: &SaveManifest) -> SaveManifest {
    let mut taken = exported(manifest);
    let image = manifest.base_image().unwrap_or_default();
    taken.config = Map::from_iter([("image".to_owned(), json!(image))]);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> SaveManifest {
        let text = json!({
            "version": 6,
            "arch": "x86_64",
            "config": {
                "image": "/home/ann/images/debian",
                "memory": "2G",
                "cpus": 2,
                "mounts": [{"host": "/home/ann/secret", "guest": "/mnt"}],
                "port_forwards": [{"host": {"address": "192.0.2.7", "port": 80}, "guest": 80}],
                "allow": ["intern.example.com"],
                "extra_qemu_args": ["-drive", "file=/home/ann/x"],
                "workspace": "/home/ann/saves",
                "later": "/home/ann/later",
            },
            "note": "/home/ann/note",
            "quicksand": {
                "made_by": "1.0", "base_version": "13", "base_fingerprint": "ab",
                "base_name": "debian", "seal": "00", "more": "/home/ann/more",
            },
        });
        SaveManifest::parse(&text.to_string()).unwrap()
    }

    #[test]
    fn an_exported_save_names_nothing_of_the_host() {
        let sent = exported(&manifest());
        assert_eq!(
            sent.config,
            *json!({"image": "debian", "memory": "2G", "cpus": 2}).as_object().unwrap()
        );
        let own = json!({"made_by": "1.0", "base_version": "13", "base_fingerprint": "ab"});
        assert_eq!(sent.other, *json!({"quicksand": own}).as_object().unwrap());
        let text = sent.to_json();
        for word in ["ann", "192.0.2", "intern", "seal", "mounts", "allow", "extra"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        let mut unknown = manifest();
        unknown.other.clear();
        assert_eq!(exported(&unknown).config["image"], "debian");
    }

    #[test]
    fn only_the_image_of_an_imported_save_is_kept() {
        let mut sent = exported(&manifest());
        sent.config.insert("mounts".into(), json!([{"host": "/"}]));
        assert_eq!(imported(&sent).config, *json!({"image": "debian"}).as_object().unwrap());
    }
}
