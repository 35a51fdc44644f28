//! What tells two images apart, by package and by file, for people and for programs. Pure: it is
//! given trees, and must not know where they were found.

use crate::{
    Error, difference,
    packages::Installed,
    tree::{Kind, Node, Tree, TreePath},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// One of the two images.
pub struct Side<'a> {
    /// What is on its disk.
    pub tree: &'a Tree,
    pub packages: &'a [Installed],
    /// Whose files are that no package lists, by path with a leading slash: from a bill of materials.
    pub owners: &'a BTreeMap<String, String>,
}

/// The difference.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Report {
    pub packages: Packages,
    pub files: Files,
}

/// Packages by name.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub struct Packages {
    /// Only in the second image.
    pub added: Vec<Package>,
    /// Only in the first.
    pub removed: Vec<Package>,
    /// In both, of other versions.
    pub changed: Vec<ChangedPackage>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
}

/// A package of two versions.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct ChangedPackage {
    pub name: String,
    /// The version in the first image.
    pub from: String,
    /// The version in the second.
    pub to: String,
}

/// Files, folders, links and devices by path.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub struct Files {
    /// Only in the second image.
    pub added: Vec<File>,
    /// Only in the first.
    pub removed: Vec<File>,
    /// In both, and not the same.
    pub changed: Vec<ChangedFile>,
    /// How many differ in their times alone.
    pub n_times: usize,
}

/// What is at a path.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct File {
    /// Where, with a leading slash.
    pub path: String,
    /// `file`, `folder`, `link`, `other name`, `device` or `pipe`.
    pub kind: &'static str,
    /// The permissions in octal.
    pub mode: String,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The number of bytes of a file.
    pub size: Option<u64>,
    /// Where a link leads, or the file that this is another name of.
    pub target: Option<String>,
    /// The package that it belongs to.
    pub package: Option<String>,
}

/// What is at a path in both images.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct ChangedFile {
    /// What differs: `kind`, `content`, `mode`, `owner`, `target`, `attributes`.
    pub what: Vec<&'static str>,
    /// In the first image.
    pub from: File,
    /// In the second.
    pub to: File,
}

impl Report {
    /// Whether nothing but times differs.
    pub fn is_same(&self) -> bool {
        let (packages, files) = (&self.packages, &self.files);
        packages.added.is_empty()
            && packages.removed.is_empty()
            && packages.changed.is_empty()
            && files.added.is_empty()
            && files.removed.is_empty()
            && files.changed.is_empty()
    }
}

/// Compares two images.
pub fn compare(a: &Side, b: &Side) -> Result<Report, Error> {
    Ok(Report { packages: packages(a.packages, b.packages), files: files(a, b)? })
}

fn packages(a: &[Installed], b: &[Installed]) -> Packages {
    // Of two architectures of a package each counts for itself.
    let index = |packages: &[Installed]| -> BTreeMap<String, String> {
        let mut index = BTreeMap::new();
        for package in packages {
            let name = match index.contains_key(&package.name) {
                true => format!("{}:{}", package.name, package.arch),
                false => package.name.clone(),
            };
            index.insert(name, package.version.clone());
        }
        index
    };
    let (a, b) = (index(a), index(b));
    let only = |these: &BTreeMap<String, String>, those: &BTreeMap<String, String>| {
        let alone = these.iter().filter(|(name, _)| !those.contains_key(*name));
        alone
            .map(|(name, version)| Package { name: name.clone(), version: version.clone() })
            .collect()
    };
    let changed = a.iter().filter_map(|(name, from)| {
        let to = b.get(name).filter(|to| *to != from)?;
        Some(ChangedPackage { name: name.clone(), from: from.clone(), to: to.clone() })
    });
    Packages { added: only(&b, &a), removed: only(&a, &b), changed: changed.collect() }
}

fn files(a: &Side, b: &Side) -> Result<Files, Error> {
    let difference = difference::between(a.tree, b.tree)?;
    let (of_a, of_b) = (Describer::new(a), Describer::new(b));
    let mut files = Files { n_times: difference.times.len(), ..Files::default() };
    for path in difference.removed.iter().rev().filter(|path| b.tree.get(path).is_none()) {
        files.removed.extend(of_a.file(path));
    }
    let parts = [&difference.added, &difference.contents, &difference.attributes];
    let mut paths: Vec<&TreePath> = parts.into_iter().flatten().collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let (Some(node), Some(to)) = (b.tree.get(path), of_b.file(path)) else { continue };
        let Some((earlier, from)) = a.tree.get(path).zip(of_a.file(path)) else {
            files.added.push(to);
            continue;
        };
        let mut what = what(earlier, node);
        if difference.contents.contains(path) {
            what.push("content");
        }
        // A name that is made again with its file, and is as it was.
        if !what.is_empty() {
            files.changed.push(ChangedFile { what, from, to });
        }
    }
    Ok(files)
}

fn what(a: &Node, b: &Node) -> Vec<&'static str> {
    let mut what = Vec::new();
    if kind(a) != kind(b) {
        what.push("kind");
    } else if target(a) != target(b) {
        what.push("target");
    }
    if matches!(a.kind, Kind::Hardlink(_)) || matches!(b.kind, Kind::Hardlink(_)) {
        return what;
    }
    if a.mode != b.mode {
        what.push("mode");
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        what.push("owner");
    }
    if a.xattrs != b.xattrs {
        what.push("attributes");
    }
    what
}

fn kind(node: &Node) -> &'static str {
    match node.kind {
        Kind::Folder => "folder",
        Kind::File(_) => "file",
        Kind::Symlink(_) => "link",
        Kind::Hardlink(_) => "other name",
        Kind::CharDevice(..) | Kind::BlockDevice(..) => "device",
        Kind::Fifo => "pipe",
    }
}

fn target(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Symlink(target) => Some(String::from_utf8_lossy(target).into_owned()),
        Kind::Hardlink(target) => Some(format!("/{}", String::from_utf8_lossy(target))),
        _ => None,
    }
}

/// Describes the files of one side.
struct Describer<'a> {
    side: &'a Side<'a>,
    package_of: BTreeMap<&'a TreePath, &'a str>,
}

impl<'a> Describer<'a> {
    fn new(side: &'a Side<'a>) -> Self {
        let mut package_of = BTreeMap::new();
        for package in side.packages {
            for path in &package.files {
                package_of.entry(path).or_insert(package.name.as_str());
            }
        }
        Self { side, package_of }
    }

    fn file(&self, path: &TreePath) -> Option<File> {
        let node = self.side.tree.get(path)?;
        let place = format!("/{}", String::from_utf8_lossy(path));
        let package = match self.package_of.get(path) {
            Some(name) => Some((*name).to_owned()),
            None => self.side.owners.get(&place).cloned(),
        };
        let size = match &node.kind {
            Kind::File(content) => Some(content.len()),
            _ => None,
        };
        Some(File {
            kind: kind(node),
            mode: format!("{:04o}", node.mode),
            uid: node.uid,
            gid: node.gid,
            size,
            target: target(node),
            package,
            path: place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn package(name: &str, version: &str, files: &[&str]) -> Installed {
        let files: BTreeSet<TreePath> = files.iter().map(|path| path.as_bytes().to_vec()).collect();
        let (name, version) = (name.to_owned(), version.to_owned());
        Installed { name, version, files, ..Installed::default() }
    }

    #[test]
    fn images_are_distinguished_by_package_and_file() {
        let mut a = Tree::new(0);
        a.put("bin/kept", Node::file(*b"1", 0o755, 0)).unwrap();
        a.put("bin/gone", Node::file(*b"1", 0o755, 0)).unwrap();
        a.put("etc/mode", Node::file(*b"1", 0o644, 0)).unwrap();
        a.put("etc/link", Node::symlink("x", 0)).unwrap();
        let mut b = a.clone();
        b.remove(b"bin/gone");
        b.put("bin/kept", Node::file(*b"22", 0o755, 9)).unwrap();
        b.put("bin/new", Node::file(*b"333", 0o4755, 0)).unwrap();
        b.put("etc/link", Node::symlink("y", 0)).unwrap();
        let mut node = Node::file(*b"1", 0o600, 0);
        node.uid = 7;
        b.put("etc/mode", node).unwrap();
        let of_a = [package("gone", "1", &["bin/gone"]), package("kept", "1", &["bin/kept"])];
        let of_b = [package("kept", "2", &["bin/kept"]), package("new", "1", &["bin/new"])];
        let owners = BTreeMap::from([("/etc/mode".to_owned(), "recipe".to_owned())]);
        let (a, b) = (
            Side { tree: &a, packages: &of_a, owners: &owners },
            Side { tree: &b, packages: &of_b, owners: &owners },
        );
        let report = compare(&a, &b).unwrap();
        assert_eq!(report.packages.added[0].name, "new");
        assert_eq!(report.packages.removed[0].name, "gone");
        let changed = &report.packages.changed[0];
        assert_eq!((changed.from.as_str(), changed.to.as_str()), ("1", "2"));
        let file = &report.files.added[0];
        assert_eq!(
            (file.path.as_str(), file.mode.as_str(), file.size),
            ("/bin/new", "4755", Some(3))
        );
        assert_eq!(file.package.as_deref(), Some("new"));
        assert_eq!(report.files.removed[0].package.as_deref(), Some("gone"));
        let changed: Vec<(&str, &[&str])> = report
            .files
            .changed
            .iter()
            .map(|file| (file.to.path.as_str(), &file.what[..]))
            .collect();
        assert_eq!(
            changed,
            [
                ("/bin/kept", &["content"][..]),
                ("/etc/link", &["target"][..]),
                ("/etc/mode", &["mode", "owner"][..]),
            ]
        );
        assert_eq!(report.files.changed[2].to.package.as_deref(), Some("recipe"));
        assert!(compare(&a, &a).unwrap().is_same());
    }
}
