//! `qemu/libraries.toml`: the static libraries that QEMU is linked from. Knows how the table is
//! written and what a sound table is; nothing of compilers, folders or the build cache.

use crate::{
    pins::{self, Pin},
    target::Target,
};
use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};
use xtask_base::ui::hinted;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The libraries; each stands after those that it needs.
    #[serde(rename = "library")]
    pub libraries: Vec<Library>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Library {
    /// The name of its source package.
    pub name: String,
    /// The SPDX expression of its archives.
    pub licence: String,
    /// Where its source says so.
    pub texts: Vec<String>,
    /// Libraries that must be built first, by name.
    #[serde(default)]
    pub needs: Vec<String>,
    /// The systems that use it, by meson's names; all when it is empty.
    #[serde(default)]
    pub systems: Vec<String>,
    /// How it is built.
    pub recipe: Recipe,
    /// Files of the source's folder to install, by patterns, for each folder below the prefix.
    #[serde(default)]
    pub install: BTreeMap<String, Vec<String>>,
    /// What to write for pkg-config.
    pub pkg_config: Option<PkgConfig>,
    /// The versions that would do, in the order in which they are tried.
    #[serde(rename = "source")]
    pub sources: Vec<Pin>,
}

/// How a library is built.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "with")]
pub enum Recipe {
    /// By its own meson project.
    Meson {
        /// Options of the project.
        #[serde(default)]
        options: Vec<String>,
    },
    /// By its own configure and make, in the source's folder.
    Configure {
        /// Whether configure is autoconf's and knows the usual options.
        #[serde(default = "yes")]
        autoconf: bool,
        /// Options of configure.
        #[serde(default)]
        options: Vec<String>,
        /// Calls of make.
        make: Vec<String>,
    },
    /// By the compiler alone.
    Sources {
        /// The archive's file name.
        archive: String,
        /// The files, by patterns below the source's folder.
        files: Vec<String>,
        /// Flags of the compiler.
        #[serde(default)]
        flags: Vec<String>,
    },
}

fn yes() -> bool {
    true
}

/// A file for pkg-config, of a library that has none.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PkgConfig {
    /// Its name, without the ending.
    pub name: String,
    /// What links the library.
    pub libs: String,
}

impl Table {
    /// Reads the table of the workspace.
    pub fn read(qemu_folder: &Path) -> Result<Self> {
        let path = qemu_folder.join("libraries.toml");
        parse(&fs::read_to_string(&path)?).map_err(|error| {
            hinted(
                format!("Failed to read `{}`: {error}", path.display()),
                "the comment at the file's beginning says what a library consists of",
            )
        })
    }

    /// The same with the patches of one target.
    pub fn for_target(mut self, target: Target) -> Self {
        for library in &mut self.libraries {
            let sources = std::mem::take(&mut library.sources);
            library.sources = sources.into_iter().map(|pin| pin.for_target(target)).collect();
        }
        self
    }

    /// The libraries that a system uses.
    pub fn for_system(&self, system: &str) -> impl Iterator<Item = &Library> {
        self.libraries.iter().filter(move |library| {
            library.systems.is_empty() || library.systems.iter().any(|name| name == system)
        })
    }
}

fn parse(text: &str) -> Result<Table, String> {
    let table: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    for (index, library) in table.libraries.iter().enumerate() {
        let name = &library.name;
        let before = &table.libraries[..index];
        if before.iter().any(|other| other.name == *name) {
            return Err(format!("`{name}` stands there twice"));
        }
        if let Some(late) =
            library.needs.iter().find(|need| !before.iter().any(|other| other.name == **need))
        {
            return Err(format!("`{name}` needs `{late}`, which must stand before it"));
        }
        spdx::Expression::parse(&library.licence)
            .map_err(|error| format!("the licence of `{name}`: {error}"))?;
        if library.texts.is_empty() {
            return Err(format!("`{name}` names no text of its licence"));
        }
        pins::check(name, &library.sources)?;
        if library.sources.iter().any(|pin| pin.upstream.is_none()) {
            return Err(format!("a source of `{name}` does not say `upstream`"));
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::qemu_folder;

    fn library(name: &str, extra: &str) -> String {
        let hash = "ab".repeat(32);
        format!(
            "[[library]]\nname = '{name}'\nlicence = 'MIT'\ntexts = ['COPYING']\n{extra}\n\
             [library.recipe]\nwith = 'meson'\n\
             [[library.source]]\nversion = '1-1'\nupstream = '1'\npath = 'pool/x'\nsha256 = '{hash}'\n"
        )
    }

    #[test]
    fn the_checked_in_table_is_sound() {
        let table = Table::read(&qemu_folder()).unwrap();
        for patch in table.libraries.iter().flat_map(|it| &it.sources).flat_map(|pin| &pin.patches)
        {
            assert!(qemu_folder().join("patches").join(patch).is_file(), "{patch}");
        }
        assert!(table.libraries.iter().flat_map(|it| &it.sources).all(|pin| pin.day.is_some()));
        let on = |system| table.for_system(system).map(|it| it.name.as_str()).collect::<Vec<_>>();
        assert!(on("linux").contains(&"libseccomp"));
        assert!(!on("windows").contains(&"libseccomp"));
    }

    #[test]
    fn a_mistake_in_the_table_of_libraries_is_named() {
        let check = |text: &str, expect: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        let one = library("a", "");
        assert!(parse(&one).is_ok());
        assert!(parse(&(one.clone() + &library("b", "needs = ['a']"))).is_ok());
        check(&(one.clone() + &one), "`a` stands there twice");
        check(&library("a", "needs = ['b']"), "`a` needs `b`, which must stand before it");
        check(&library("a", "neds = []"), "unknown field `neds`");
        check(&one.replace("'meson'", "'cmake'"), "unknown variant `cmake`");
        check(&one.replace("'MIT'", "'Mitt'"), "the licence of `a`");
        check(&one.replace("['COPYING']", "[]"), "`a` names no text of its licence");
        check(&one.replace("upstream = '1'", ""), "a source of `a` does not say `upstream`");
        check(&one.replace("pool/x", "../x"), "`../x` is not a path below the mirror");
    }
}
