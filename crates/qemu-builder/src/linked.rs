//! Which packages of the distribution an executable was linked from: the linker's map says which
//! files, dpkg says whose they are.

use anyhow::{Context as _, Result};
use binary_bundler::linked_files;
use duct::cmd;
use fs_err as fs;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use xtask_base::ui::hinted;

/// A source package as dpkg names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePackage {
    pub name: String,
    /// The version that is installed.
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
    /// The distribution's packages, and what of each.
    pub packages: BTreeMap<SourcePackage, Part>,
    /// Static libraries that were built here, below the build's own folder.
    pub own: BTreeSet<PathBuf>,
}

/// The files of which something is in an executable, by the linker's map.
pub fn files(map: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = String::from_utf8_lossy(&fs::read(map)?).into_owned();
    Ok(linked_files(map, &text)?)
}

/// Whose these files are. Those below `workshop` or named relatively are the build's own; those of a C
/// library that was unpacked are known to its own database.
pub fn linked(
    files: BTreeSet<PathBuf>,
    workshop: &Path,
    owners: &mut Owners,
    mut sysroot: Option<(PathBuf, &mut Owners)>,
) -> Result<Linked> {
    let mut linked = Linked::default();
    for file in files {
        if file.is_relative() || file.starts_with(workshop) {
            linked.own.insert(file);
            continue;
        }
        let in_sysroot = sysroot.as_mut().and_then(|(root, owners)| {
            let below = file.strip_prefix(&*root).ok()?;
            Some(owners.owner_of(&Path::new("/").join(below)))
        });
        let owner = in_sysroot.unwrap_or_else(|| owners.owner_of(&file))?;
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
    /// The binary package, with its architecture where dpkg says it.
    pub package: String,
    /// What it was built from.
    pub source: SourcePackage,
}

/// dpkg's answers, each asked for once.
#[derive(Default)]
pub struct Owners {
    /// The folder of another system's database; none for this host's.
    database: Option<PathBuf>,
    known: BTreeMap<PathBuf, Owner>,
}

impl Owners {
    /// The owners in another system's database.
    pub fn from_database(folder: PathBuf) -> Self {
        Self { database: Some(folder), known: BTreeMap::new() }
    }

    /// Whose `file` is, a path of the database's system.
    pub fn owner_of(&mut self, file: &Path) -> Result<Owner> {
        if let Some(owner) = self.known.get(file) {
            return Ok(owner.clone());
        }
        // dpkg knows a file by the path in its package, on either side of the merged /usr.
        let bare = file.strip_prefix("/usr").map(|rest| Path::new("/").join(rest));
        let merged = file.strip_prefix("/").map(|rest| Path::new("/usr").join(rest));
        let spellings = [Some(file.to_path_buf()), bare.ok(), merged.ok()];
        let package = spellings.into_iter().flatten().find_map(|path| {
            let path = path.to_str()?.to_owned();
            owner_of(&self.ask(["--search".to_owned(), path]).stderr_null().read().ok()?)
        });
        let package = package.ok_or_else(|| {
            hinted(
                format!("`{}` belongs to no package", file.display()),
                "its licence and source are not known: remove it, or install the distribution's package",
            )
        })?;
        let format = "--showformat=${source:Package}\t${source:Version}\t${Built-Using}".to_owned();
        let answer = self.ask(["--show".to_owned(), format, package.clone()]).read()?;
        let source = source_of(&answer)
            .with_context(|| format!("Failed to read dpkg's answer for `{package}`: `{answer}`"))?;
        let owner = Owner { package, source };
        self.known.insert(file.to_path_buf(), owner.clone());
        Ok(owner)
    }

    fn ask(&self, args: impl IntoIterator<Item = String>) -> duct::Expression {
        let database = self.database.iter().map(|path| format!("--admindir={}", path.display()));
        cmd("dpkg-query", database.chain(args))
    }
}

/// The source in `name TAB version TAB built-using`. A compiler or C library for another machine is built from
/// the source of the compiler or library, which its own source package does not hold, and names it there.
fn source_of(answer: &str) -> Option<SourcePackage> {
    let mut words = answer.trim().split('\t');
    let (name, version) = (words.next()?, words.next()?);
    let used = words.next().unwrap_or_default().split(", ").find_map(|used| {
        let (used, version) = used.strip_suffix(')')?.split_once(" (= ")?;
        let is_same = name.starts_with("gcc-") && used.starts_with("gcc-")
            || name == "cross-toolchain-base" && used == "glibc";
        is_same.then(|| SourcePackage { name: used.to_owned(), version: version.to_owned() })
    });
    let own = || SourcePackage { name: name.to_owned(), version: version.to_owned() };
    Some(used.unwrap_or_else(own))
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
    fn a_cross_compilers_source_is_the_compilers() {
        let check = |answer: &str, name: &str, version: &str| {
            let expect = SourcePackage { name: name.to_owned(), version: version.to_owned() };
            assert_eq!(source_of(answer), Some(expect), "{answer}");
        };
        check("glibc\t2.36-9+deb12u13\t", "glibc", "2.36-9+deb12u13");
        let using = "binutils (= 2.40-2), gcc-12 (= 12.2.0-14)";
        check(&format!("gcc-12-cross\t14cross1\t{using}"), "gcc-12", "12.2.0-14");
        check("cross-toolchain-base\t66\tglibc (= 2.36-8), linux (= 6.1.4-1)", "glibc", "2.36-8");
        check(&format!("mingw-w64\t10.0.0-3\t{using}"), "mingw-w64", "10.0.0-3");
        assert_eq!(source_of("glibc"), None);
    }

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
