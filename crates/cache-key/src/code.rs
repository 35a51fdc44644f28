//! The digest of code: of whole crates of this workspace with all of ours that they are compiled from, the
//! part of `Cargo.lock` that they use, and the features that the workspace asks for. A crate that is not
//! reached does not count, so that its changes cost nobody a new build.

use crate::{Key, files_below, lexer, manifest};
use fs_err as fs;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

/// What of a source counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Every byte. For what is compiled and kept: where a panic stands is part of a binary.
    Exact,
    /// Comments, layout and what only tests compile do not count. For what the code makes when it runs.
    Meaning,
}

/// The digest of the crates of these names in the workspace at `root`.
///
/// # Errors
/// A crate is not there, or a file cannot be read.
pub fn digest(root: &Path, names: &[&str], reading: Reading) -> io::Result<String> {
    let crates = closure(root, names)?;
    let mut key = Key::new(match reading {
        Reading::Exact => "code",
        Reading::Meaning => "code's meaning",
    });
    let mut libraries = BTreeSet::new();
    for (name, folder) in &crates {
        key.add("crate", name.as_bytes());
        let text = fs::read_to_string(folder.join("Cargo.toml"))?;
        key.add("Cargo.toml", manifest::compiled(&text).as_bytes());
        libraries.extend(manifest::dependencies(&text));
        if folder.join("build.rs").is_file() {
            key.add_file(&folder.join("build.rs"))?;
        }
        add_sources(&mut key, &folder.join("src"), reading)?;
    }
    let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
    let is_of_these = |line: &&str| {
        let name = line.split([' ', '.', '=']).next().unwrap_or_default();
        libraries.contains(name) || libraries.contains(line.trim_start_matches(['[', ']']))
    };
    for line in workspace.lines().filter(is_of_these) {
        key.add("workspace", line.as_bytes());
    }
    for line in ["version = ", "edition = "] {
        let line = workspace.lines().find(|it| it.starts_with(line)).unwrap_or_default();
        key.add("workspace", line.as_bytes());
    }
    if reading == Reading::Exact {
        key.add("profiles", profiles(&workspace).as_bytes());
        for file in ["rust-toolchain.toml", ".cargo/config.toml"] {
            if root.join(file).is_file() {
                key.add_file(&root.join(file))?;
            }
        }
    }
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    key.add("Cargo.lock", manifest::locked(&lock, &libraries).0.as_bytes());
    Ok(key.digest())
}

/// The digest of the sources of these crates alone, by their meaning: for what other crates fetch for
/// them is known by its own hash, and long builds must not begin again with every change of those.
///
/// # Errors
/// A crate is not there, or a file cannot be read.
pub fn own(root: &Path, names: &[&str]) -> io::Result<String> {
    let members = manifest::members(root)?;
    let mut key = Key::new("own code's meaning");
    for name in names {
        let folder = members.get(*name).ok_or_else(|| unknown(name))?;
        key.add("crate", name.as_bytes());
        add_sources(&mut key, &folder.join("src"), Reading::Meaning)?;
    }
    Ok(key.digest())
}

fn unknown(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("The workspace has no crate `{name}`"))
}

/// The folders of these crates and of all of ours that they are compiled from, by name.
///
/// # Errors
/// A crate is not there, or a manifest cannot be read.
pub fn closure(root: &Path, names: &[&str]) -> io::Result<BTreeMap<String, PathBuf>> {
    let members = manifest::members(root)?;
    let mut found = BTreeMap::new();
    let mut libraries = BTreeSet::new();
    let mut waiting: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = waiting.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let folder = members.get(&name).ok_or_else(|| unknown(&name))?;
        let text = fs::read_to_string(folder.join("Cargo.toml"))?;
        let dependencies = manifest::dependencies(&text);
        waiting.extend(dependencies.iter().filter(|it| members.contains_key(*it)).cloned());
        libraries.extend(dependencies);
        found.insert(name, folder.clone());
    }
    // Crates of ours that stand in the place of others', for libraries.
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    for name in manifest::locked(&lock, &libraries).1 {
        if let Some(folder) = members.get(&name) {
            found.entry(name).or_insert_with(|| folder.clone());
        }
    }
    Ok(found)
}

/// For a build script: tells the crate that is compiled the digest of its own code's meaning, as the
/// variable `CODE`, with the compiler's version in it.
///
/// # Errors
/// The workspace cannot be read.
pub fn tell_crate() -> io::Result<()> {
    let variable = |name: &str| std::env::var(name).map_err(io::Error::other);
    let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let name = variable("CARGO_PKG_NAME")?;
    let root = folder.ancestors().nth(2).unwrap_or(&folder);
    let mut key = Key::new("code");
    key.add("code", digest(root, &[&name], Reading::Meaning)?.as_bytes());
    key.add("rustc", &crate::tools::output(&variable("RUSTC")?, &["--version", "--verbose"]));
    println!("cargo::rustc-env=CODE={}", key.digest());
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());
    println!("cargo::rerun-if-changed={}", root.join("Cargo.toml").display());
    for folder in closure(root, &[&name])?.values() {
        for file in ["Cargo.toml", "build.rs", "src"] {
            if folder.join(file).exists() {
                println!("cargo::rerun-if-changed={}", folder.join(file).display());
            }
        }
    }
    Ok(())
}

fn add_sources(key: &mut Key, folder: &Path, reading: Reading) -> io::Result<()> {
    let mut sources: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut test_modules: Vec<PathBuf> = Vec::new();
    let mut has_paths = false;
    let mut files = Vec::new();
    for path in files_below(folder)? {
        let is_rust = path.extension().is_some_and(|end| end == "rs");
        if is_rust && reading == Reading::Meaning {
            let meaning = lexer::meaning(&fs::read_to_string(&path)?);
            has_paths |= meaning.has_paths;
            let modules = folder_of_modules(&path);
            test_modules.extend(meaning.test_modules.iter().map(|name| modules.join(name)));
            sources.insert(path.clone(), meaning.text);
        }
        files.push(path);
    }
    // Where a module may be in any file, none is left out.
    if has_paths {
        test_modules.clear();
    }
    let is_of_tests = |path: &Path| {
        test_modules
            .iter()
            .any(|module| path.starts_with(module) || path == module.with_extension("rs"))
    };
    for path in files.iter().filter(|path| !is_of_tests(path)) {
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        match sources.get(path) {
            Some(text) => key.add(&name, text.as_bytes()),
            None => key.add(&name, &fs::read(path)?),
        }
    }
    Ok(())
}

/// Where the modules lie that a source names.
fn folder_of_modules(source: &Path) -> PathBuf {
    match source.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") => source.parent().unwrap_or(source).to_owned(),
        _ => source.with_extension(""),
    }
}

/// The tables of the workspace that say how code is compiled.
fn profiles(workspace: &str) -> String {
    let mut is_kept = false;
    let mut kept = String::new();
    for line in workspace.lines() {
        if line.starts_with('[') {
            is_kept = line.starts_with("[profile");
        }
        if is_kept {
            kept += line;
            kept += "\n";
        }
    }
    kept
}

#[cfg(test)]
mod tests;
