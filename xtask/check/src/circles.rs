//! Modules of one crate that know each other in a circle: none of them can be read, moved or tested without
//! the others. Judged by the text alone, at the modules below a crate's root; tests do not count.

use anyhow::{Context as _, Result};
use cargo_metadata::Metadata;
use fs_err as fs;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Each module with those that it names, and the files in which it does.
type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The circles of all crates.
pub fn findings(metadata: &Metadata) -> Result<Vec<String>> {
    let mut findings = vec![];
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.with_file_name("src");
        if !folder.is_dir() {
            continue;
        }
        let mut files = vec![];
        collect(folder.as_std_path(), "", &mut files)?;
        findings.extend(judge(&package.name, &graph(&files)));
    }
    Ok(findings)
}

/// All sources below a folder, by their path in the crate.
fn collect(folder: &Path, place: &str, files: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().context("An entry has a name")?.to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, &format!("{place}{name}/"), files)?;
        } else if name.ends_with(".rs") {
            files.push((format!("{place}{name}"), fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

fn judge(name: &str, graph: &Graph) -> Vec<String> {
    let mut findings = vec![];
    for (module, named) in graph {
        let back: Vec<String> = named
            .iter()
            .filter(|(other, _)| reaches(graph, other, module))
            .map(|(other, files)| format!("`{other}` (in {})", list(files)))
            .collect();
        if !back.is_empty() {
            let back = back.join(", ");
            findings.push(format!("`{name}`: the module `{module}` is in a circle with {back}"));
        }
    }
    findings
}

fn list(files: &BTreeSet<String>) -> String {
    files.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn reaches(graph: &Graph, from: &str, to: &str) -> bool {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
    while let Some(module) = waiting.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            waiting.extend(
                graph.get(module).into_iter().flat_map(|named| named.keys()).map(|it| it.as_str()),
            );
        }
    }
    false
}

/// Which module below the root names which other.
fn graph(files: &[(String, String)]) -> Graph {
    let tests: BTreeSet<String> =
        files.iter().flat_map(|(path, text)| test_imports(path, text)).collect();
    let module_of = |path: &str| {
        let first = path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first).to_owned()
    };
    let is_root = |module: &str| matches!(module, "lib" | "main" | "bin");
    let modules: BTreeSet<String> =
        files.iter().map(|(path, _)| module_of(path)).filter(|module| !is_root(module)).collect();
    let mut graph = Graph::new();
    for (path, text) in files {
        let (stem, module) = (path.trim_end_matches(".rs"), module_of(path));
        let is_test = |place: &String| stem == place || stem.starts_with(&format!("{place}/"));
        if is_root(&module) || tests.iter().any(is_test) {
            continue;
        }
        let text = without_tests(text);
        let up = "super::".repeat(stem.split('/').count());
        for other in names_after(&text, "crate::").into_iter().chain(names_after(&text, &up)) {
            if other != module && modules.contains(&other) {
                graph
                    .entry(module.clone())
                    .or_default()
                    .entry(other)
                    .or_default()
                    .insert(path.clone());
            }
        }
    }
    graph
}

/// The modules that a file declares for its tests, as paths without `.rs`.
fn test_imports(path: &str, text: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let place = if matches!(stem, "lib" | "main") { String::new() } else { format!("{stem}/") };
    let mut found = vec![];
    let mut is_for_tests = false;
    for line in text.lines().map(str::trim) {
        let declared = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
        if let Some((_, name)) = declared.filter(|_| is_for_tests) {
            found.push(format!("{place}{name}"));
        }
        is_for_tests = line.starts_with("#[cfg(") && line.contains("test");
    }
    found
}

/// The text without comments, and without the tests at its end.
fn without_tests(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that follow a path's beginning, one by one or in braces.
fn names_after(text: &str, beginning: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(beginning) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
            continue;
        }
        let rest = &text[at + beginning.len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(first_names(list)),
            None => names.extend(name_at(rest)),
        }
    }
    names
}

/// The first name of each path of a list in braces.
fn first_names(list: &str) -> BTreeSet<String> {
    let (mut depth, mut is_start) = (1, true);
    let mut names = BTreeSet::new();
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => is_start = true,
            c if !c.is_whitespace() && is_start => {
                names.extend(name_at(&list[at..]));
                is_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name_at(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        judge("x", &graph(&files))
    }

    #[test]
    fn circles_are_found_in_every_form_of_a_path() {
        for (one, two) in [
            ("use crate::b::X;", "use crate::a::Y;"),
            ("use crate::{\n    c, // a, b\n    b::{X, c::Z},\n};", "fn f() -> super::a::Y {}"),
            ("use super::{b, c};", "use crate::{Error, a};"),
        ] {
            let files = [("a.rs", one), ("b.rs", two), ("c.rs", "use crate::Error;")];
            let found = check(&files);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found[0].contains("`a` is in a circle with `b` (in a.rs)"), "{found:?}");
        }
        let long =
            [("a.rs", "use crate::b;"), ("b/d.rs", "use crate::c;"), ("c.rs", "crate::a::f()")];
        assert_eq!(check(&long).len(), 3);
    }

    #[test]
    fn imports_that_only_go_down_are_not_a_circle() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod malformed;\nuse crate::a;"),
            ("a.rs", "use crate::b::X;\n#[cfg(test)]\nmod hard;\n"),
            ("a/c.rs", "use super::Y;\nuse super::super::b::Z;"),
            ("a/hard.rs", "use crate::b;"),
            ("b.rs", "// crate::a\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n"),
            ("b/d.rs", "use super::a::Q;"),
            ("malformed.rs", "use crate::{a, b};"),
        ];
        assert!(check(&files).is_empty(), "{:?}", check(&files));
    }
}
