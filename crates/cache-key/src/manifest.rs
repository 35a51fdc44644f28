//! Which crates and libraries a crate is compiled from, as its manifest and `Cargo.lock` say. Both are read
//! by lines: cargo writes the lock, and a manifest's tables of dependencies have one line for each.

use fs_err as fs;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

/// The workspace's crates by name, each with its folder.
pub fn members(root: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ["));
    let mut folders = Vec::new();
    for member in members.unwrap_or_default().split('"').skip(1).step_by(2) {
        match member.strip_suffix("/*") {
            None => folders.push(root.join(member)),
            Some(parent) => {
                for entry in fs::read_dir(root.join(parent))? {
                    folders.push(entry?.path());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    for folder in folders {
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            continue;
        }
        let text = fs::read_to_string(&manifest)?;
        let name = text.lines().find_map(|line| line.strip_prefix("name = "));
        found.insert(name.unwrap_or_default().trim_matches('"').to_owned(), folder);
    }
    Ok(found)
}

/// What a manifest says of what is compiled: its lines without tables that only tests or linters read.
pub fn compiled(text: &str) -> String {
    let mut is_kept = true;
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            is_kept = !line.contains("dev-dependencies") && !line.starts_with("[lints");
        }
        let is_remark = line.is_empty() || line.starts_with('#');
        if is_kept && !is_remark && !line.starts_with("description") {
            kept += line;
            kept += "\n";
        }
    }
    kept
}

/// The names of what a crate depends on, tests aside.
pub fn dependencies(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_table = false;
    for line in compiled(text).lines() {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            is_table = table.ends_with("dependencies");
            if let Some((_, name)) = table.rsplit_once("dependencies.") {
                found.insert(name.to_owned());
            }
        } else if is_table {
            let name: String = line
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || ['-', '_'].contains(c))
                .collect();
            // What goes on from the line before begins with a space or a bracket.
            if !name.is_empty() {
                found.insert(name);
            }
        }
    }
    found
}

/// One package of `Cargo.lock`.
#[derive(Default)]
struct Locked {
    text: String,
    dependencies: Vec<String>,
}

/// What of `Cargo.lock` these packages are compiled from: the entries of all that they lead to. A library
/// that several versions exist of is taken in each version. Also the names of those that are the workspace's
/// own.
pub fn locked(lock: &str, roots: &BTreeSet<String>) -> (String, BTreeSet<String>) {
    let mut packages: BTreeMap<&str, Vec<Locked>> = BTreeMap::new();
    for entry in lock.split("[[package]]\n").skip(1) {
        let name = entry.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default();
        let dependencies = entry
            .lines()
            .filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next())
            .map(str::to_owned)
            .collect();
        let locked = Locked { text: entry.trim().to_owned(), dependencies };
        packages.entry(name.trim_matches('"')).or_default().push(locked);
    }
    let mut waiting: Vec<String> = roots.iter().cloned().collect();
    let (mut seen, mut own) = (BTreeSet::new(), BTreeSet::new());
    while let Some(name) = waiting.pop() {
        for package in packages.get(name.as_str()).into_iter().flatten() {
            // The workspace's own crates have no source; what they depend on was asked of their manifests.
            let is_ours = !package.text.contains("\nsource = ");
            if is_ours {
                own.insert(name.clone());
            }
            if seen.insert(package.text.clone()) && !is_ours {
                waiting.extend(package.dependencies.iter().cloned());
            }
        }
    }
    (seen.into_iter().collect::<Vec<_>>().join("\n\n"), own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"a\"\n\n[dependencies]\nb = { workspace = true, features = [\n    \"x\",\n] }\n\
        c.workspace = true\n\n[dependencies.d]\nversion = \"1\"\n\n[target.'cfg(unix)'.dependencies]\ne = \"1\"\n\n\
        [build-dependencies]\nf = \"1\"\n\n[dev-dependencies]\ng = \"1\"\n\n[lints]\nworkspace = true\n";

    #[test]
    fn dependencies_are_those_of_what_is_compiled() {
        let found: Vec<String> = dependencies(MANIFEST).into_iter().collect();
        assert_eq!(found, ["b", "c", "d", "e", "f"]);
        assert!(!compiled(MANIFEST).contains("g = ") && compiled(MANIFEST).contains("\"x\""));
    }

    #[test]
    fn the_lock_counts_as_far_as_it_is_reached() {
        let entry = |name: &str, version: &str, dependencies: &str, is_ours: bool| {
            let source = if is_ours { "" } else { "source = \"registry\"\n" };
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}dependencies = [\n{dependencies}]\n\n"
            )
        };
        let lock = |leaf: &str, other: &str| {
            [
                "version = 4\n\n".to_owned(),
                entry("a", "1", " \"ours\",\n", true),
                entry("b", "1", " \"leaf 2.0.0\",\n", false),
                entry("leaf", leaf, "", false),
                entry("other", other, "", false),
                entry("ours", "1", " \"other\",\n", true),
            ]
            .concat()
        };
        let roots = BTreeSet::from(["b".to_owned(), "ours".to_owned()]);
        let first = locked(&lock("1", "1"), &roots);
        assert_ne!(first, locked(&lock("2", "1"), &roots));
        assert_eq!(first, locked(&lock("1", "2"), &roots));
    }
}
