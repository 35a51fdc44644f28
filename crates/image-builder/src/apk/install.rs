//! Lays out what Alpine's packages become: their files, the database by which `apk` in the guest
//! knows them, and a script that runs the packages' own scripts and triggers inside of the new root
//! file system. Running it is `rootfs`' matter.
//!
//! `apk` itself is not used: it would need to be on the host, and stamps the day into what it
//! writes.

use super::package::{self, Package};
use crate::{
    Error,
    apt::checked_path,
    lock::ArchLock,
    recipe::{Pattern, Recipe},
    tree::{Kind, Node, Tree},
};
use spelling::quoted;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Where the scripts lie while they run, below the root.
pub const SCRIPTS: &str = "quicksand-scripts";

/// The database's folder.
const DATABASE: &str = "lib/apk/db";
/// Mirrors, the distribution's own first, in the package `alpine-mirrors`.
const MIRRORS: &str = "usr/share/alpine-mirrors/MIRRORS.txt";

/// Scripts that belong to an installation, in the order that they run in around a package's files.
const AT_INSTALL: [&str; 2] = ["pre-install", "post-install"];

/// The tree with the packages of `own` in it, their scripts not run yet. `base` are the locks of what
/// an overlay lies on, whose files are in `below` already.
pub fn lay_out(
    base: &[ArchLock],
    own: &ArchLock,
    recipe: &Recipe,
    store: &Path,
    below: Tree,
) -> Result<Tree, Error> {
    let mut tree = below;
    // What is mounted there while scripts run needs a place.
    for folder in ["dev", "proc", "run", "sys"] {
        tree.put(folder, Node::folder(0o755, own.source_date))?;
    }
    tree.put("tmp", Node::folder(0o1777, own.source_date))?;
    let mut packages = Vec::new();
    for locked in &own.package {
        packages.push(Package::read(&checked_path(store, locked)?)?);
    }
    let mut run = String::from("export PATH=/usr/sbin:/usr/bin:/sbin:/bin\ncd /\n");
    for place in order(&packages) {
        let package = &packages[place];
        for (path, node) in package.files.iter().filter(|(path, _)| !path.is_empty()) {
            tree.put_bytes(path, node.clone())?;
        }
        run += &scripts_of(package, &mut tree, own.source_date)?;
    }
    run += &triggers(&packages, &mut tree, own.source_date)?;
    let place = format!("{SCRIPTS}/run");
    tree.put(&place, Node::file(run.into_bytes(), 0o755, own.source_date))?;

    let mut all = Vec::new();
    for locked in base.iter().flat_map(|lock| &lock.package) {
        let package = Package::read(&checked_path(store, locked)?)?;
        all.push((package, locked.size));
    }
    all.extend(packages.into_iter().zip(own.package.iter().map(|locked| locked.size)));
    all.sort_by(|(a, _), (b, _)| a.first("pkgname").cmp(&b.first("pkgname")));
    database(&mut tree, &all, own.source_date)?;
    settings(&mut tree, recipe, &own.package, own.source_date)?;
    Ok(tree)
}

/// The places of the packages, each after those that it needs.
fn order(packages: &[Package]) -> Vec<usize> {
    let mut providers: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, package) in packages.iter().enumerate() {
        let names = package.all("provides").map(bare).chain(package.first("pkgname"));
        for name in names {
            providers.entry(name).or_insert(place);
        }
    }
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for place in 0..packages.len() {
        visit(place, packages, &providers, &mut seen, &mut order);
    }
    order
}

fn visit(
    place: usize,
    packages: &[Package],
    providers: &BTreeMap<&str, usize>,
    seen: &mut BTreeSet<usize>,
    order: &mut Vec<usize>,
) {
    // Packages that need each other come in the order of their names.
    if !seen.insert(place) {
        return;
    }
    for needed in packages[place].all("depend").filter_map(|name| providers.get(bare(name))) {
        visit(*needed, packages, providers, seen, order);
    }
    order.push(place);
}

/// A name without the version that is asked of it.
fn bare(name: &str) -> &str {
    name.split(['<', '>', '=', '~', '@']).next().unwrap_or(name)
}

/// Puts a package's scripts into the tree and gives the lines that run them.
fn scripts_of(package: &Package, tree: &mut Tree, time: i64) -> Result<String, Error> {
    let (name, version) = identity(package);
    let mut lines = BTreeMap::new();
    for kind in AT_INSTALL {
        if let Some(script) = package.scripts.get(kind) {
            let place = format!("{SCRIPTS}/{name}.{kind}");
            tree.put(&place, Node::file(script.as_slice(), 0o755, time))?;
            lines.insert(kind, format!("{} {}\n", quoted(&format!("/{place}")), quoted(&version)));
        }
    }
    let mut run = lines.remove(AT_INSTALL[0]).unwrap_or_default();
    for (path, user, group) in &package.owners {
        let (owner, path) = (quoted(&format!("{user}:{group}")), path.trim_start_matches("./"));
        let quoted = quoted(&format!("/{path}"));
        // A user that no script made: the number from the package stays, as with apk.
        run += &format!("chown -h {owner} {quoted} 2>/dev/null || :\n");
        // A new owner takes set-user-id and set-group-id away.
        if let Some(node) = package.files.get(path.trim_end_matches('/').as_bytes())
            && node.mode & 0o7000 != 0
        {
            run += &format!("chmod {:o} {quoted}\n", node.mode);
        }
    }
    run += &lines.remove(AT_INSTALL[1]).unwrap_or_default();
    Ok(run)
}

/// The lines that run triggers: each is told the folders it watches that something came into.
fn triggers(packages: &[Package], tree: &mut Tree, time: i64) -> Result<String, Error> {
    let touched: BTreeSet<Vec<u8>> = packages
        .iter()
        .flat_map(|package| package.files.iter())
        .filter(|(_, node)| !node.is_folder())
        .map(|(path, _)| match path.iter().rposition(|byte| *byte == b'/') {
            Some(end) => path[..end].to_vec(),
            None => Vec::new(),
        })
        .collect();
    let mut run = String::new();
    for package in packages {
        let Some(script) = package.scripts.get("trigger") else { continue };
        let patterns: Vec<Pattern> = package
            .all("triggers")
            .flat_map(str::split_whitespace)
            .filter_map(|text| Pattern::try_from(text.trim_start_matches('+').to_owned()).ok())
            .collect();
        let folders: Vec<String> = touched
            .iter()
            .filter(|folder| patterns.iter().any(|pattern| pattern.matches(folder)))
            .map(|folder| quoted(&format!("/{}", String::from_utf8_lossy(folder))))
            .collect();
        if !folders.is_empty() {
            let place = format!("{SCRIPTS}/{}.trigger", identity(package).0);
            tree.put(&place, Node::file(script.as_slice(), 0o755, time))?;
            run += &format!("{} {}\n", quoted(&format!("/{place}")), folders.join(" "));
        }
    }
    Ok(run)
}

/// Writes the database of installed packages, see the wiki's "Apk spec". apk 3 has the same one: it reads
/// `scripts.tar` before `scripts.tar.gz`, and where `/usr` is merged it finds the folder by the link.
fn database(tree: &mut Tree, packages: &[(Package, u64)], time: i64) -> Result<(), Error> {
    let (mut installed, mut triggers) = (String::new(), String::new());
    let mut scripts = tar::Builder::new(Vec::new());
    for (package, size) in packages {
        installed += &record(package, *size)?;
        let watched: Vec<&str> = package.all("triggers").collect();
        if !watched.is_empty() {
            triggers += &format!("{} {}\n", package.checksum, watched.join(" "));
        }
        let (name, version) = identity(package);
        for (kind, script) in &package.scripts {
            let mut header = tar::Header::new_ustar();
            // apk 3 runs no script whose entry is of the old kind of file.
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(time.max(0) as u64);
            header.set_size(script.len() as u64);
            let place = format!("{name}-{version}.{}.{kind}", package::in_hex(&package.checksum));
            scripts.append_data(&mut header, place, script.as_slice())?;
        }
    }
    let mut put = |name: &str, bytes: Vec<u8>| {
        tree.put(&format!("{DATABASE}/{name}"), Node::file(bytes, 0o644, time))
    };
    put("installed", installed.into_bytes())?;
    put("triggers", triggers.into_bytes())?;
    put("scripts.tar", scripts.into_inner()?)?;
    Ok(put("lock", Vec::new())?)
}

/// A package's record: its fields, then each folder with its files.
fn record(package: &Package, size: u64) -> Result<String, Error> {
    let mut text = format!("C:{}\n", package.checksum);
    let mut field = |letter: char, value: String| {
        if !value.is_empty() {
            text += &format!("{letter}:{value}\n");
        }
    };
    let one = |key: &str| package.first(key).unwrap_or_default().to_owned();
    let many = |key: &str| package.all(key).collect::<Vec<_>>().join(" ");
    for (letter, key) in [('P', "pkgname"), ('V', "pkgver"), ('A', "arch")] {
        field(letter, one(key));
    }
    field('S', size.to_string());
    for (letter, key) in [
        ('I', "size"),
        ('T', "pkgdesc"),
        ('U', "url"),
        ('L', "license"),
        ('o', "origin"),
        ('m', "maintainer"),
        ('t', "builddate"),
        ('c', "commit"),
        ('k', "provider_priority"),
    ] {
        field(letter, one(key));
    }
    for (letter, key) in
        [('D', "depend"), ('p', "provides"), ('i', "install_if"), ('r', "replaces")]
    {
        field(letter, many(key));
    }
    field('q', one("replaces_priority"));

    let mut folders: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (path, node) in package.files.iter() {
        let path = String::from_utf8_lossy(path).into_owned();
        let rights = format!("{}:{}:{:o}", node.uid, node.gid, node.mode);
        if node.is_folder() {
            let line = match rights.as_str() {
                "0:0:755" => String::new(),
                rights => format!("M:{rights}\n"),
            };
            folders.entry(path).or_default().0 = line;
            continue;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let content = match &node.kind {
            Kind::File(content) => content.read()?.to_vec(),
            Kind::Symlink(target) => target.clone(),
            Kind::Hardlink(target) => {
                let target = String::from_utf8_lossy(target).into_owned();
                package.files.read(&target)?.map(|bytes| bytes.to_vec()).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let files = &mut folders.entry(folder.to_owned()).or_default().1;
        *files += &format!("R:{name}\n");
        if rights != "0:0:644" {
            *files += &format!("a:{rights}\n");
        }
        *files += &format!("Z:{}\n", package::checksum(&content));
    }
    for (folder, (rights, files)) in folders {
        if !(folder.is_empty() && files.is_empty()) {
            text += &format!("F:{folder}\n{rights}{files}");
        }
    }
    Ok(text + "\n")
}

/// What apk in the guest works with: what was asked for, and where more is.
fn settings(
    tree: &mut Tree,
    recipe: &Recipe,
    locked: &[crate::lock::Package],
    time: i64,
) -> Result<(), Error> {
    let world: BTreeSet<&str> = recipe
        .layers()
        .iter()
        .flat_map(|layer| layer.body.packages.iter().map(String::as_str))
        .collect();
    let world: String = world.iter().map(|name| format!("{name}\n")).collect();
    let put = |tree: &mut Tree, name: &str, text: String| {
        tree.put(&format!("etc/apk/{name}"), Node::file(text.into_bytes(), 0o644, time))
    };
    put(tree, "world", world)?;
    if let Some(arch) = locked.iter().map(|package| &package.arch).find(|arch| *arch != "noarch") {
        put(tree, "arch", format!("{arch}\n"))?;
    }
    // The distribution's own mirror, so that an image does not depend on the one it was baked from.
    let mirrors = tree.read(MIRRORS)?.map(|text| String::from_utf8_lossy(&text).into_owned());
    if let Some(mirror) = mirrors.as_deref().and_then(|text| text.lines().next()) {
        let distribution = &recipe.body.distribution;
        let (mirror, suite) = (mirror.trim_end_matches('/'), &distribution.suite);
        let lines = distribution.components.iter();
        let lines = lines.map(|component| format!("{mirror}/{suite}/{component}\n")).collect();
        put(tree, "repositories", lines)?;
    }
    Ok(())
}

fn identity(package: &Package) -> (String, String) {
    let field = |key: &str| package.first(key).unwrap_or_default().to_owned();
    (field("pkgname"), field("pkgver"))
}
