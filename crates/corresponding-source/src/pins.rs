//! The pinned sources of this repository: tables that hold a path below a distribution's mirror and the hash of
//! what lies there, wherever in a file they stand.

use crate::Error;
use std::path::Path;

/// A pinned file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Its path below the mirror.
    pub path: String,
    pub sha256: String,
    /// The day at whose end Debian's archive had it, as in `2026-11-29`, where the pin says one.
    pub day: Option<String>,
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
    collect(&toml::Value::Table(table), None, &mut found);
    Ok(found)
}

/// A day holds for the tables in its table as well.
fn collect(value: &toml::Value, day: Option<&str>, found: &mut Vec<Pinned>) {
    match value {
        toml::Value::Array(list) => list.iter().for_each(|value| collect(value, day, found)),
        toml::Value::Table(table) => {
            let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
            let day = text("day").or(day);
            if let (Some(path), Some(sha256)) = (text("path"), text("sha256")) {
                let [path, sha256] = [path, sha256].map(str::to_owned);
                found.push(Pinned { path, sha256, day: day.map(str::to_owned) });
            }
            table.values().for_each(|value| collect(value, day, found));
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
            assert!(pins.iter().all(|pin| pin.day.is_some()), "{pins:?}");
            pins.iter().any(|pin| pin.path.contains(name))
        };
        assert!(has("pins.toml", "/qemu_") && has("libraries.toml", "/glib2.0_"));
        assert!(has("libraries.toml", ".debian.tar.xz"), "a table in a table counts");
    }
}
