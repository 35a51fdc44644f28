//! `--components FILE`: the origin of files that no package database knows, by hand.
//!
//! The Windows installer brings DLLs of many projects and says nothing of them.

use anyhow::{Context as _, Result};
use bill_of_materials::{Component, How};
use fs_err as fs;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use xtask_base::ui::hinted;

use super::{super::pins::Sha256Hex, origin::Origin};

/// The table: one entry for each component.
#[derive(Debug, Default)]
pub struct Table {
    /// The folder that texts are named from.
    folder: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    component: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    version: String,
    /// An SPDX expression.
    license: String,
    /// Patterns of paths in the tree (with * and ?), or of bare file names.
    files: Vec<String>,
    /// The file name of the source, and its hash.
    source: String,
    sha256: Sha256Hex,
    /// Licence texts, named from the table's folder.
    texts: Vec<PathBuf>,
}

impl Table {
    /// Reads and checks a table.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let fault = |error: &dyn std::fmt::Display| {
            hinted(
                format!("Failed to read `{}`: {error}", path.display()),
                "each [[component]] has name, version, license, files, source, sha256 and texts",
            )
        };
        let entries: Entries = toml::from_str(&text).map_err(|error| fault(&error))?;
        for entry in &entries.component {
            for pattern in &entry.files {
                glob::Pattern::new(pattern)
                    .map_err(|error| fault(&format!("the pattern `{pattern}`: {error}")))?;
            }
            if entry.texts.is_empty() {
                return Err(fault(&format!("`{}` has no licence text", entry.name)));
            }
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { folder, entries: entries.component })
    }

    /// Whose the file at `place` of the tree is.
    pub fn find(&self, place: &str) -> Result<Option<Origin>> {
        let name = place.rsplit('/').next().unwrap_or(place);
        let fits = |pattern: &String| {
            let pattern = glob::Pattern::new(pattern);
            pattern.is_ok_and(|pattern| pattern.matches(place) || pattern.matches(name))
        };
        let Some(entry) = self.entries.iter().find(|entry| entry.files.iter().any(fits)) else {
            return Ok(None);
        };
        let texts = entry.texts.iter().map(|path| {
            let name = path.file_name().context("A licence text has no name")?;
            Ok((name.to_string_lossy().into_owned(), fs::read(self.folder.join(path))?))
        });
        Ok(Some(Origin {
            component: Component {
                name: entry.name.clone(),
                version: entry.version.clone(),
                how: How::Bundled,
                license: entry.license.clone(),
                distributor: None,
                files: vec![],
                sources: vec![(entry.source.clone(), entry.sha256.as_str().to_owned())],
                patches: vec![],
            },
            texts: texts.collect::<Result<_>>()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("COPYING"), "terms").unwrap();
        let path = folder.path().join("components.toml");
        fs::write(&path, text).unwrap();
        let table = Table::read(&path)?;
        // The texts are read when a file is asked for.
        let origin = table.find("bin/lib/libglib-2.0-0.dll")?;
        assert_eq!(origin.map(|origin| origin.texts.len()), Some(1));
        Ok(table)
    }

    fn entry(texts: &str, files: &str) -> String {
        let sha256 = "ab".repeat(32);
        format!(
            "[[component]]\nname = 'glib'\nversion = '2.84'\nlicense = 'LGPL-2.1-or-later'\n\
             files = [{files}]\nsource = 'glib-2.84.tar.xz'\nsha256 = '{sha256}'\ntexts = [{texts}]\n"
        )
    }

    #[test]
    fn a_file_is_known_by_its_name_or_place() {
        table(&entry("'COPYING'", "'libglib-*.dll'")).unwrap();
        let table = table(&entry("'COPYING'", "'bin/lib/*'")).unwrap();
        assert!(table.find("bin/qemu-img.exe").unwrap().is_none());
    }

    #[test]
    fn a_component_without_text_or_with_a_bad_pattern_is_refused() {
        let check = |text: &str, expect: &str| {
            let error = table(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(&entry("", "'*'"), "`glib` has no licence text");
        check(&entry("'COPYING'", "'a['"), "the pattern `a[`");
        check("[[component]]\nname = 'glib'\n", "missing field");
    }
}
