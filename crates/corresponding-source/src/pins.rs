//! The pinned sources of this repository: tables that hold a path below a distribution's mirror and the hash of
//! what lies there, wherever in a file they stand.

use crate::Error;
use std::path::Path;

/// A pinned file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Its path below the mirror.
    pub path: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// The pins of a TOML file.
///
/// # Errors
/// It cannot be read.
pub fn pinned(file: &Path) -> Result<Vec<Pinned>, Error> {
    let text = fs_err::read_to_string(file)?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|source| Error::Pins { file: file.to_owned(), source: Box::new(source) })?;
    let mut found = Vec::new();
    collect(&toml::Value::Table(table), &mut found);
    Ok(found)
}

fn collect(value: &toml::Value, found: &mut Vec<Pinned>) {
    match value {
        toml::Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        toml::Value::Table(table) => {
            let text = |key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
            if let (Some(path), Some(sha256)) = (text("path"), text("sha256")) {
                found.push(Pinned { path, sha256 });
            }
            table.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_of_qemu_and_its_libraries_are_found() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../qemu");
        let has = |file: &str, name: &str| {
            let pins = pinned(&folder.join(file)).unwrap();
            assert!(pins.iter().all(|pin| pin.sha256.len() == 64), "{pins:?}");
            pins.iter().any(|pin| pin.path.contains(name))
        };
        assert!(has("pins.toml", "/qemu_") && has("libraries.toml", "/glib2.0_"));
        assert!(has("libraries.toml", ".debian.tar.xz"), "a table in a table counts");
    }
}
