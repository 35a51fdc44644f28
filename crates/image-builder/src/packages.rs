//! What a package manager left behind in a tree: which packages are installed, and which paths each
//! of them owns. Reads dpkg's database and apk's; it must not know who asks.

use crate::{
    Error, deb,
    tree::{Kind, Tree, TreePath, normal, split},
};
use std::collections::{BTreeMap, BTreeSet};

/// dpkg's database.
const DPKG: &str = "var/lib/dpkg";
/// apk's, where it was and where it is on a merged tree.
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    pub name: String,
    pub version: String,
    /// Its architecture.
    pub arch: String,
    /// Its licence, where the database says one.
    pub licence: Option<String>,
    /// What it was built from, where that has another name or version.
    pub source: Option<Source>,
    /// The paths that it brought and that are there, folders left out; links among the folders
    /// above are followed.
    pub files: BTreeSet<TreePath>,
}

/// The source of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    /// Its version, where that is not the package's.
    pub version: Option<String>,
}

impl Source {
    /// Reads a control file's `Source: NAME (VERSION)`, which stands there where name or version differ.
    pub fn from_control(control: &str) -> Option<Self> {
        let (name, version) = match deb::field(control, "Source")?.split_once(" (") {
            Some((name, version)) => (name, version.strip_suffix(')').map(str::to_owned)),
            None => (deb::field(control, "Source")?, None),
        };
        Some(Self { name: name.to_owned(), version })
    }

    /// The source that Alpine's records name for each package.
    pub fn from_origin(name: &str, origin: &str) -> Option<Self> {
        (!origin.is_empty() && origin != name)
            .then(|| Self { name: origin.to_owned(), version: None })
    }
}

/// The installed packages by name (and architecture, where one is installed twice). Empty where
/// there is no database.
pub fn installed(tree: &Tree) -> Result<Vec<Installed>, Error> {
    let mut found = dpkg(tree)?;
    for place in APK {
        if let Some(database) = tree.read(place)? {
            found.extend(apk(tree, &String::from_utf8_lossy(&database)));
            break;
        }
    }
    found.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    Ok(found)
}

fn dpkg(tree: &Tree) -> Result<Vec<Installed>, Error> {
    let Some(status) = tree.read(&format!("{DPKG}/status"))? else { return Ok(Vec::new()) };
    let status = String::from_utf8_lossy(&status).into_owned();
    let mut found = Vec::new();
    for record in status.split("\n\n") {
        let is_there =
            deb::field(record, "Status").is_some_and(|status| status.ends_with(" installed"));
        let (true, Some(name)) = (is_there, deb::field(record, "Package")) else { continue };
        let field = |key| deb::field(record, key).unwrap_or_default().to_owned();
        let mut package = Installed {
            name: name.to_owned(),
            version: field("Version"),
            arch: field("Architecture"),
            source: Source::from_control(record),
            ..Installed::default()
        };
        for stem in [format!("{name}:{}", package.arch), name.to_owned()] {
            if let Some(list) = tree.read(&format!("{DPKG}/info/{stem}.list"))? {
                let paths = list.split(|byte| *byte == b'\n').filter(|path| !path.is_empty());
                package.files = owned(tree, paths);
                break;
            }
        }
        found.push(package);
    }
    Ok(found)
}

/// Records of lines `X:value`: P name, V version, A architecture, L licence, o source, F a folder, R a file
/// in it.
fn apk(tree: &Tree, database: &str) -> Vec<Installed> {
    let mut found = Vec::new();
    for record in database.split("\n\n") {
        let mut package = Installed::default();
        let mut folder = "";
        let mut paths = Vec::new();
        for line in record.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            match key {
                "P" => package.name = value.to_owned(),
                "V" => package.version = value.to_owned(),
                "A" => package.arch = value.to_owned(),
                "L" => package.licence = Some(value.to_owned()),
                "o" => package.source = Source::from_origin(&package.name, value),
                "F" => folder = value,
                "R" => paths.push(format!("{folder}/{value}")),
                _ => {}
            }
        }
        if !package.name.is_empty() {
            package.files = owned(tree, paths.iter().map(String::as_bytes));
            found.push(package);
        }
    }
    found
}

/// Those of the paths that are in the tree and no folders, each at its real place. What holds other
/// paths of the list is a folder to the package, though it be a link on a merged tree.
pub fn owned<'a>(tree: &Tree, paths: impl Iterator<Item = &'a [u8]>) -> BTreeSet<TreePath> {
    let paths: Vec<TreePath> = paths.filter_map(|path| normal(path).ok()).collect();
    // Most paths share their folder with others.
    let mut folders: BTreeMap<&[u8], Option<TreePath>> = BTreeMap::new();
    for path in &paths {
        let folder = split(path).0;
        folders.entry(folder).or_insert_with(|| tree.follow(folder));
    }
    paths
        .iter()
        .filter(|path| !folders.contains_key(path.as_slice()))
        .filter_map(|path| {
            let (folder, name) = split(path);
            let mut place = folders.get(folder)?.clone()?;
            if !place.is_empty() {
                place.push(b'/');
            }
            place.extend_from_slice(name);
            tree.get(&place).filter(|node| !matches!(node.kind, Kind::Folder))?;
            Some(place)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    fn with(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new(0);
        for (path, text) in files {
            tree.put(path, Node::file(text.as_bytes(), 0o644, 0)).unwrap();
        }
        tree
    }

    #[test]
    fn dpkgs_packages_own_what_they_list_at_its_real_place() {
        let mut tree = with(&[
            (
                "var/lib/dpkg/status",
                "Package: a\nStatus: install ok installed\nSource: b (1:1)\nArchitecture: amd64\nVersion: 1:2\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n",
            ),
            ("var/lib/dpkg/info/a:amd64.list", "/.\n/bin\n/bin/a\n/usr/share/doc/a\n"),
            ("usr/bin/a", "run"),
        ]);
        tree.put("bin", Node::symlink("usr/bin", 0)).unwrap();
        let found = installed(&tree).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("a", "1:2"));
        let source = Source { name: "b".to_owned(), version: Some("1:1".to_owned()) };
        assert_eq!(found[0].source, Some(source));
        // What was left out of the image (its documentation here) is not there to be owned.
        assert_eq!(found[0].files, BTreeSet::from([b"usr/bin/a".to_vec()]));
    }

    #[test]
    fn apks_packages_say_their_licence() {
        let tree = with(&[
            (
                "lib/apk/db/installed",
                "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld-musl.so.1\n\nP:b\nV:2\nL:ISC\no:c\n\n",
            ),
            ("lib/ld-musl.so.1", "x"),
        ]);
        let found = installed(&tree).unwrap();
        assert_eq!(found[1].name, "musl");
        assert_eq!(found[1].licence.as_deref(), Some("MIT"));
        assert_eq!(found[1].files, BTreeSet::from([b"lib/ld-musl.so.1".to_vec()]));
        assert!(found[0].files.is_empty());
        assert_eq!(found[0].source.as_ref().map(|source| source.name.as_str()), Some("c"));
        assert_eq!(found[1].source, None, "it is called as its source is");
    }

    #[test]
    fn a_tree_without_a_database_has_no_packages() {
        assert!(installed(&Tree::new(0)).unwrap().is_empty());
    }
}
