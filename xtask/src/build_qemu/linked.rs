//! Which packages of the distribution an executable was linked from: the linker's map says which
//! files, dpkg says whose they are.

use crate::ui::hinted;
use anyhow::{Context as _, Result};
use binary_bundler::linked_files;
use duct::cmd;
use fs_err as fs;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// A source package as dpkg names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePackage {
    pub name: String,
    pub version: String,
}

/// What of a source package is in an executable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The binary packages that gave the files.
    pub packages: BTreeSet<String>,
    /// `package: archive sha256:...` for each file.
    pub files: BTreeSet<String>,
}

/// What an executable was linked from.
#[derive(Debug, Default)]
pub struct Linked {
    pub packages: BTreeMap<SourcePackage, Part>,
    /// Static libraries that were built here, below the build's own folder.
    pub own: BTreeSet<PathBuf>,
}

/// Reads the map of one executable. Files below `workshop` or named relatively are the build's own.
pub fn linked(map: &Path, workshop: &Path, owners: &mut Owners) -> Result<Linked> {
    let text = String::from_utf8_lossy(&fs::read(map)?).into_owned();
    let mut linked = Linked::default();
    for file in linked_files(map, &text)? {
        if file.is_relative() || file.starts_with(workshop) {
            linked.own.insert(file);
            continue;
        }
        let owner = owners.of(&file)?;
        let part = linked.packages.entry(owner.source).or_default();
        let hash = super::source::sha256_of(&file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        part.files.insert(format!("{}: {name} sha256:{hash}", owner.package));
        part.packages.insert(owner.package);
    }
    Ok(linked)
}

/// Whose a file is.
#[derive(Clone)]
pub struct Owner {
    package: String,
    source: SourcePackage,
}

/// dpkg's answers, each asked for once.
#[derive(Default)]
pub struct Owners(BTreeMap<PathBuf, Owner>);

impl Owners {
    fn of(&mut self, file: &Path) -> Result<Owner> {
        if let Some(owner) = self.0.get(file) {
            return Ok(owner.clone());
        }
        // dpkg knows a file by the path in its package, on either side of the merged /usr.
        let bare = file.strip_prefix("/usr").map(|rest| Path::new("/").join(rest));
        let merged = file.strip_prefix("/").map(|rest| Path::new("/usr").join(rest));
        let spellings = [Some(file.to_path_buf()), bare.ok(), merged.ok()];
        let package = spellings.into_iter().flatten().find_map(|path| {
            let answer = cmd!("dpkg-query", "--search", path).stderr_null().read().ok()?;
            owner_of(&answer)
        });
        let package = package.ok_or_else(|| {
            hinted(
                format!("`{}` was linked in and belongs to no package", file.display()),
                "its licence and source are not known: remove it, or install the distribution's package",
            )
        })?;
        let format = "${source:Package}\t${source:Version}";
        let answer = cmd!("dpkg-query", "--show", "--showformat", format, &package).read()?;
        let (name, version) = answer
            .trim()
            .split_once('\t')
            .with_context(|| format!("Failed to read dpkg's answer for `{package}`: `{answer}`"))?;
        let source = SourcePackage { name: name.to_owned(), version: version.to_owned() };
        let owner = Owner { package, source };
        self.0.insert(file.to_path_buf(), owner.clone());
        Ok(owner)
    }
}

/// The package in `package:arch: /path`, or in `a:arch, b:arch: /path` the first.
fn owner_of(answer: &str) -> Option<String> {
    let line = answer.lines().find(|line| !line.starts_with("diversion "))?;
    let (packages, _) = line.split_once(": ")?;
    Some(packages.split(", ").next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_answers_are_read() {
        let check =
            |answer: &str, expect: Option<&str>| assert_eq!(owner_of(answer).as_deref(), expect);
        check("zlib1g-dev:amd64: /usr/lib/x/libz.a\n", Some("zlib1g-dev:amd64"));
        check("a:amd64, a:arm64: /usr/x\n", Some("a:amd64"));
        check("diversion by d from: /usr/x\nb: /usr/x\n", Some("b"));
        check("", None);
    }
}
