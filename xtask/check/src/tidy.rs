//! Rules of the house that no compiler knows. CONTRIBUTING.md gives the reasons.

use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use std::{collections::BTreeMap, path::Path};

const MAX_LINES: usize = 1000;
const WARN_LINES: usize = 600;
const MAX_MAP_LINES: usize = 250;

/// Module names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// Hosts of package registries: packages are named, never the place that they were fetched from.
/// Written in halves so that this file does not break its own rule.
const REGISTRY_HOSTS: &[(&str, &str)] = &[
    ("deb.", "debian.org"),
    ("security.", "debian.org"),
    ("archive.", "ubuntu.com"),
    ("dl-cdn.", "alpinelinux.org"),
    ("files.", "pythonhosted.org"),
    ("pypi.", "org/simple"),
    ("static.", "crates.io"),
    ("index.", "crates.io"),
    ("registry.", "npmjs.org"),
];

/// Everything in the tree that breaks a rule.
pub fn findings(root: &Path) -> Result<Vec<String>> {
    let listing = cmd!("git", "ls-files", "--cached", "--others", "--exclude-standard")
        .dir(root)
        .read()
        .context("Failed to list the files of the tree")?;
    let mut findings = vec![];
    let mut pages = BTreeMap::new();
    for name in listing.lines() {
        let path = root.join(name);
        // A file that was removed and not committed yet is still listed.
        let Ok(bytes) = fs::read(&path) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        findings.extend(judge_file(name, &text));
        if name.ends_with(".md") {
            pages.insert(name.to_owned(), text);
        }
    }
    findings.extend(super::links::findings(&pages, |path| root.join(path).exists()));
    let promises = fs::read_to_string(root.join("SECURITY.md"))?;
    findings.extend(super::promises::findings(&promises, |file| {
        fs::read_to_string(root.join(file)).ok()
    }));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    let crates: Vec<String> = fs::read_dir(root.join("crates"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    findings.extend(judge_map(&map, &crates, |path| root.join(path).exists()));
    Ok(findings)
}

fn judge_file(name: &str, text: &str) -> Vec<String> {
    let mut findings = vec![];
    if name.ends_with(".rs") {
        if !text.starts_with("//!") {
            findings.push(format!("{name}: opens without `//!` (what it owns and must not know)"));
        }
        let n_lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        if n_lines > MAX_LINES {
            findings.push(format!("{name}: {n_lines} lines without tests, at most {MAX_LINES}"));
        } else if n_lines > WARN_LINES {
            eprintln!(
                "warning: {name}: {n_lines} lines without tests; split it before {MAX_LINES}"
            );
        }
        let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            findings.push(format!("{name}: `{stem}` says nothing about what is inside"));
        }
    }
    if !name.ends_with(".lock") {
        for (n, line) in text.lines().enumerate() {
            let named = REGISTRY_HOSTS.iter().find(|(a, b)| line.contains(&format!("{a}{b}")));
            if named.is_some() {
                findings.push(format!("{name}:{}: names the host of a package registry", n + 1));
            }
        }
    }
    findings
}

/// The map names every crate, names nothing that does not exist, and stays short.
fn judge_map(map: &str, crates: &[String], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = vec![];
    for name in crates {
        if !map.contains(&format!("`crates/{name}`")) {
            findings.push(format!("ARCHITECTURE.md: `crates/{name}` is missing"));
        }
    }
    let quoted = map.split('`').skip(1).step_by(2);
    for path in quoted.filter(|text| is_path(text)) {
        if !exists(path) {
            findings.push(format!("ARCHITECTURE.md: `{path}` does not exist"));
        }
    }
    let n_lines = map.lines().count();
    if n_lines > MAX_MAP_LINES {
        findings.push(format!("ARCHITECTURE.md: {n_lines} lines, at most {MAX_MAP_LINES}"));
    }
    findings
}

/// Does quoted text of the map claim to be a path of this tree?
fn is_path(text: &str) -> bool {
    [
        "crates/",
        "xtask/",
        "recipes/",
        "tests/",
        "docs/",
        "python/",
        "qemu/",
        "benches/",
        "examples/",
        ".github/",
    ]
    .iter()
    .any(|root| text.starts_with(root))
        && !text.contains(['*', '<', ' ', 'N'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_judged() {
        assert!(judge_file("a/b.rs", "//! Fine.\n").is_empty());
        assert_eq!(judge_file("a/b.rs", "fn f() {}\n").len(), 1);
        assert_eq!(judge_file("a/utils.rs", "//! Fine.\n").len(), 1);
        assert_eq!(judge_file("a/b.rs", &format!("//!\n{}", "x\n".repeat(1000))).len(), 1);
        let host = format!("deb.{}", "debian.org");
        assert_eq!(judge_file("README.md", &format!("see {host}\n")).len(), 1);
    }

    #[test]
    fn lines_of_tests_do_not_count() {
        let text = format!("//!\n#[cfg(test)]\n{}", "x\n".repeat(2000));
        assert!(judge_file("a/b.rs", &text).is_empty());
    }

    #[test]
    fn the_map_is_judged() {
        let crates = ["sandbox".to_owned()];
        assert!(judge_map("`crates/sandbox` does it", &crates, |_| true).is_empty());
        assert_eq!(judge_map("nothing", &crates, |_| true).len(), 1);
        assert_eq!(
            judge_map("`crates/sandbox` `xtask/gone.rs`", &crates, |p| p != "xtask/gone.rs").len(),
            1
        );
    }
}
