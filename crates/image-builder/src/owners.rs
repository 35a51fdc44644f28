//! Whose each file of an image is: a package's, the kernel's, or the recipe's. No file is without an
//! owner, for what nothing else claims is what carrying out the recipe made. Pure but for reading
//! packages of images that keep no database of them.

use crate::{
    Error, apt, deb, difference,
    lock::{ArchLock, Package},
    packages::{self, Installed, Source},
    recipe::Recipe,
    tree::{Kind, Tree, TreePath, normal, split},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// The files of an image by owner. No path is there twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// What packages brought, what their scripts name, and links to it.
    pub packages: Vec<Installed>,
    /// The kernel's modules.
    pub kernel: BTreeSet<TreePath>,
    /// What the recipe names, and what carrying it out made.
    pub recipe: BTreeSet<TreePath>,
}

/// Where a kernel's modules lie.
const MODULES: [&[u8]; 2] = [b"usr/lib/modules/", b"lib/modules/"];

/// Package managers' own databases, and the packages that they are of.
const DATABASES: [(&[u8], &str); 4] = [
    (b"var/lib/dpkg/", "dpkg"),
    (b"var/lib/apt/", "apt"),
    (b"lib/apk/", "apk-tools"),
    (b"usr/lib/apk/", "apk-tools"),
];

/// The scripts and lists of a package that name what it makes.
const SCRIPTS: [&str; 5] = ["conffiles", "postinst", "postrm", "preinst", "prerm"];

/// The packages of a tree: those of its database, else those of the lock.
pub fn packages(tree: &Tree, lock: &ArchLock, store: &Path) -> Result<Vec<Installed>, Error> {
    let found = packages::installed(tree)?;
    if !found.is_empty() {
        return Ok(found);
    }
    lock.package
        .iter()
        .map(|package| {
            let brought = deb::data(&apt::checked_path(store, package)?)?;
            Ok(Installed {
                name: package.name.clone(),
                version: package.version.clone(),
                arch: package.arch.clone(),
                licence: None,
                source: source_of(package, store)?,
                files: packages::owned(tree, brought.iter().map(|(path, _)| path.as_slice())),
            })
        })
        .collect()
}

/// What a locked package was built from, as its file in the store says.
pub fn source_of(package: &Package, store: &Path) -> Result<Option<Source>, Error> {
    let path = apt::checked_path(store, package)?;
    if package.path.ends_with(".apk") {
        let read = crate::apk::package::Package::read(&path)?;
        let origin = read.first("origin").unwrap_or_default();
        return Ok(Source::from_origin(&package.name, origin));
    }
    Ok(Source::from_control(&deb::control(&path)?))
}

/// Assigns every file of a tree, or of what differs from the tree `below`.
pub fn assign(
    tree: &Tree,
    below: Option<&Tree>,
    recipe: &Recipe,
    mut packages: Vec<Installed>,
) -> Result<Owners, Error> {
    let subject = subject(tree, below)?;
    let mut owner_of: BTreeMap<&TreePath, usize> = BTreeMap::new();
    let brought: Vec<BTreeSet<TreePath>> =
        packages.iter_mut().map(|package| std::mem::take(&mut package.files)).collect();
    for (number, paths) in brought.iter().enumerate() {
        for path in paths {
            // Of two packages the first keeps it: what dpkg diverts is listed by both.
            owner_of.entry(path).or_insert(number);
        }
    }
    let by_name: BTreeMap<String, usize> =
        packages.iter().enumerate().map(|(i, package)| (package.name.clone(), i)).collect();
    let named = named(tree, recipe);
    let scripts = scripts(tree, &packages)?;
    let mut owners = Owners::default();
    for path in subject {
        let found = owner_of.get(&path).copied();
        let guess = || {
            found
                .or_else(|| by_database(&path, &by_name))
                .or_else(|| by_link(tree, &path, &owner_of))
                .or_else(|| by_compiled(&path, &owner_of))
                .or_else(|| by_script(&path, &scripts))
        };
        if named.contains(&path) {
            owners.recipe.insert(path);
        } else if found.is_none() && MODULES.iter().any(|folder| path.starts_with(folder)) {
            owners.kernel.insert(path);
        } else if let Some(number) = guess() {
            packages[number].files.insert(path);
        } else {
            owners.recipe.insert(path);
        }
    }
    owners.packages = packages;
    Ok(owners)
}

/// What is to be assigned: everything but folders.
fn subject(tree: &Tree, below: Option<&Tree>) -> Result<Vec<TreePath>, Error> {
    let is_file = |path: &TreePath| tree.get(path).is_some_and(|node| !node.is_folder());
    let Some(below) = below else {
        return Ok(tree.iter().map(|(path, _)| path.clone()).filter(is_file).collect());
    };
    let difference = difference::between(below, tree)?;
    let parts = [difference.added, difference.contents, difference.attributes];
    let paths: BTreeSet<TreePath> = parts.into_iter().flatten().filter(is_file).collect();
    Ok(paths.into_iter().collect())
}

/// What the recipe and those below it name. A program that a package brought where the recipe only
/// wants a link, if nothing else is there, stays the package's.
fn named(tree: &Tree, recipe: &Recipe) -> BTreeSet<TreePath> {
    let mut named = Vec::new();
    for layer in recipe.layers() {
        named.extend(layer.body.file.iter().map(|file| file.path.as_str().to_owned()));
        named.extend(layer.body.link.iter().map(|link| link.path.as_str().to_owned()));
        for links in &layer.body.links {
            let places =
                links.names.iter().map(|name| format!("{}/{}", links.folder.as_str(), name.0));
            named.extend(places.filter(|place| {
                let node = normal(place.as_bytes()).ok().and_then(|path| tree.get(&path));
                node.is_some_and(
                    |node| matches!(&node.kind, Kind::Symlink(to) if to == links.target.0.as_bytes()),
                )
            }));
        }
    }
    packages::owned(tree, named.iter().map(String::as_bytes))
}

/// The texts by which packages say what they make.
fn scripts(tree: &Tree, packages: &[Installed]) -> Result<Vec<(usize, String)>, Error> {
    let mut texts = Vec::new();
    for (number, package) in packages.iter().enumerate() {
        let mut text = String::new();
        for stem in [package.name.clone(), format!("{}:{}", package.name, package.arch)] {
            for script in SCRIPTS {
                if let Some(bytes) = tree.read(&format!("var/lib/dpkg/info/{stem}.{script}"))? {
                    text += &String::from_utf8_lossy(&bytes);
                    text.push('\n');
                }
            }
        }
        if !text.is_empty() {
            texts.push((number, text));
        }
    }
    Ok(texts)
}

/// A file of a package manager's database, which is about one package or is the manager's.
fn by_database(path: &[u8], by_name: &BTreeMap<String, usize>) -> Option<usize> {
    let (folder, manager) = DATABASES.iter().find(|(folder, _)| path.starts_with(folder))?;
    let about = path[folder.len()..].strip_prefix(b"info/").and_then(|file| {
        let file = std::str::from_utf8(file).ok()?;
        let stem = file.rsplit_once('.')?.0;
        by_name.get(stem.split(':').next()?)
    });
    about.or_else(|| by_name.get(*manager)).copied()
}

/// A link to a package's file, over links of others such as those of `/etc/alternatives`.
fn by_link(tree: &Tree, path: &[u8], owner_of: &BTreeMap<&TreePath, usize>) -> Option<usize> {
    let Kind::Symlink(_) = tree.get(path)?.kind else { return None };
    owner_of.get(&tree.follow(path)?).copied()
}

/// Python's compiled form of a package's module.
fn by_compiled(path: &[u8], owner_of: &BTreeMap<&TreePath, usize>) -> Option<usize> {
    let (folder, name) = split(path);
    let folder = folder.strip_suffix(b"/__pycache__")?;
    let stem = name.split(|byte| *byte == b'.').next()?;
    owner_of.get(&[folder, b"/", stem, b".py"].concat()).copied()
}

/// A file that a package's script names, whole and not as the start of a longer name.
fn by_script(path: &[u8], scripts: &[(usize, String)]) -> Option<usize> {
    let path = format!("/{}", std::str::from_utf8(path).ok()?);
    let is_end =
        |c: Option<char>| !c.is_some_and(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let names = |text: &str| {
        text.match_indices(&path).any(|(at, _)| is_end(text[at + path.len()..].chars().next()))
    };
    scripts.iter().find(|(_, text)| names(text)).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{recipe, tree::Node};

    fn recipe() -> Recipe {
        let text = "version = \"1\"\nsummary = \"x\"\npackages = [\"a\"]\n\
            [distribution]\nname = \"debian\"\nsuite = \"trixie\"\n\
            [kernel]\nflavour = \"cloud\"\ninitrd = [\"ext4\"]\n[disk]\nsize = \"1G\"\n\
            [[file]]\npath = \"/etc/mine\"\ntext = \"x\"\n\
            [[links]]\nfolder = \"/usr/bin\"\ntarget = \"busybox\"\nnames = [\"ls\"]\n";
        let body = recipe::parse(text, Path::new("recipe.toml")).unwrap();
        Recipe { name: "x".to_owned(), folder: "".into(), body, base: None }
    }

    fn tree() -> Tree {
        let mut tree = Tree::new(0);
        for path in [
            "usr/bin/a",
            "etc/mine",
            "etc/made-by-a",
            "etc/made-by-a.d",
            "usr/lib/modules/6/x.ko",
            "usr/lib/python3/m.py",
            "usr/lib/python3/__pycache__/m.cpython-313.pyc",
            "var/lib/dpkg/status",
            "var/lib/dpkg/info/a.md5sums",
        ] {
            tree.put(path, Node::file(*b"x", 0o644, 0)).unwrap();
        }
        let script = Node::file(*b"rm -f /etc/made-by-a\n", 0o644, 0);
        tree.put("var/lib/dpkg/info/a.postrm", script).unwrap();
        tree.put("usr/bin/ls", Node::symlink("busybox", 0)).unwrap();
        tree.put("etc/alternatives/b", Node::symlink("/usr/bin/a", 0)).unwrap();
        tree.put("usr/bin/b", Node::symlink("/etc/alternatives/b", 0)).unwrap();
        tree
    }

    fn installed() -> Vec<Installed> {
        let package = |name: &str, files: &[&str]| Installed {
            name: name.to_owned(),
            files: files.iter().map(|path| path.as_bytes().to_vec()).collect(),
            ..Installed::default()
        };
        vec![package("a", &["usr/bin/a", "usr/lib/python3/m.py", "etc/mine"]), package("dpkg", &[])]
    }

    fn text(paths: &BTreeSet<TreePath>) -> Vec<String> {
        paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    #[test]
    fn every_file_has_one_owner() {
        let tree = tree();
        let owners = assign(&tree, None, &recipe(), installed()).unwrap();
        assert_eq!(
            text(&owners.packages[0].files),
            [
                "etc/alternatives/b",
                "etc/made-by-a",
                "usr/bin/a",
                "usr/bin/b",
                "usr/lib/python3/__pycache__/m.cpython-313.pyc",
                "usr/lib/python3/m.py",
                "var/lib/dpkg/info/a.md5sums",
                "var/lib/dpkg/info/a.postrm",
            ]
        );
        assert_eq!(text(&owners.packages[1].files), ["var/lib/dpkg/status"]);
        assert_eq!(text(&owners.kernel), ["usr/lib/modules/6/x.ko"]);
        // The recipe's file took the place of the package's, and nobody names the folder's neighbour.
        assert_eq!(text(&owners.recipe), ["etc/made-by-a.d", "etc/mine", "usr/bin/ls"]);
    }

    #[test]
    fn an_overlay_answers_for_what_differs() {
        let below = tree();
        let mut tree = tree();
        tree.put("usr/bin/a", Node::file(*b"new", 0o644, 0)).unwrap();
        tree.put("srv/new", Node::file(*b"", 0o644, 0)).unwrap();
        let owners = assign(&tree, Some(&below), &recipe(), installed()).unwrap();
        assert_eq!(text(&owners.packages[0].files), ["usr/bin/a"]);
        assert_eq!(text(&owners.recipe), ["srv/new"]);
        assert!(owners.kernel.is_empty());
    }
}
