//! Which crates are linked into a program of ours, and what their licences ask for.
//!
//! Read from cargo's own resolution for a machine: dependencies of build scripts, of procedural
//! macros and of tests leave nothing in a binary and are left out.

use anyhow::{Context as _, Result};
use bill_of_materials::{Component, How};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId, TargetKind};
use fs_err as fs;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use xtask_base::context::Context;

/// Where the VNC client for browsers lies, with its licences.
const NOVNC_FOLDER: &str = "crates/quicksand-cli/src/view/novnc";
const NOVNC_VERSION: &str = "1.7.0";

/// What is linked into a program beside our own code.
pub struct Linked {
    /// One record for each crate, and one for the standard library.
    pub components: Vec<Component>,
    /// Names and versions with the folders of their sources.
    folders: Vec<(String, PathBuf)>,
}

/// What a compiler says of itself behind `key`, in the answer to `--version --verbose`.
pub fn said(rustc: &str, key: &str) -> Result<String> {
    let line = rustc.lines().find_map(|line| line.strip_prefix(key));
    line.map(str::to_owned).with_context(|| format!("rustc does not say its `{key}`"))
}

/// Finds what is linked into the crates of these names for the machine of this triple, by a compiler that
/// says `rustc` of itself.
pub fn linked(context: &Context, roots: &[&str], rustc: &str, triple: &str) -> Result<Linked> {
    let mut options = vec!["--locked".to_owned(), format!("--filter-platform={triple}")];
    if context.offline {
        options.push("--offline".to_owned());
    }
    let metadata = MetadataCommand::new()
        .manifest_path(context.root.join("Cargo.toml"))
        .other_options(options)
        .exec()
        .context("Failed to read cargo's metadata")?;
    let checksums = checksums(&fs::read_to_string(context.root.join("Cargo.lock"))?)?;
    let mut linked = from_metadata(&metadata, roots, &checksums)?;
    linked.components.push(Component {
        name: "rust-std".to_owned(),
        version: said(rustc, "release: ")?,
        how: How::StaticallyLinked,
        license: "Apache-2.0 OR MIT".to_owned(),
        distributor: None,
        files: vec![],
        sources: vec![],
        patches: vec![],
    });
    Ok(linked)
}

fn from_metadata(
    metadata: &Metadata,
    roots: &[&str],
    checksums: &BTreeMap<(String, String), String>,
) -> Result<Linked> {
    let packages: HashMap<&PackageId, &Package> =
        metadata.packages.iter().map(|package| (&package.id, package)).collect();
    let mut linked = Linked { components: vec![], folders: vec![] };
    for id in closure(metadata, &packages, roots)? {
        let package = packages[&id];
        if package.source.is_none() {
            continue;
        }
        let version = package.version.to_string();
        let name = package.name.to_string();
        let license =
            package.license.as_deref().map(canonical).with_context(|| {
                format!("The crate `{name}` {version} does not name its licence")
            })?;
        let checksum = checksums.get(&(name.clone(), version.clone())).cloned();
        linked.components.push(Component {
            how: How::StaticallyLinked,
            license,
            distributor: Some("cargo".to_owned()),
            files: vec![],
            sources: checksum
                .map(|sum| (format!("{name}-{version}.crate"), sum))
                .into_iter()
                .collect(),
            patches: vec![],
            name: name.clone(),
            version: version.clone(),
        });
        let folder = package.manifest_path.parent().context("A manifest lies in a folder")?;
        linked.folders.push((format!("{name} {version}"), folder.into()));
    }
    Ok(linked)
}

/// Everything that the roots link, the roots included, in the order of names.
fn closure(
    metadata: &Metadata,
    packages: &HashMap<&PackageId, &Package>,
    roots: &[&str],
) -> Result<Vec<PackageId>> {
    let resolve = metadata.resolve.as_ref().context("cargo's metadata has no resolution")?;
    let nodes: HashMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let is_macro = |id: &PackageId| {
        packages[id].targets.iter().any(|target| target.kind.contains(&TargetKind::ProcMacro))
    };
    let mut waiting: Vec<&PackageId> = metadata
        .packages
        .iter()
        .filter(|package| roots.contains(&package.name.as_str()))
        .map(|package| &package.id)
        .collect();
    let mut found = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !found.insert(id) {
            continue;
        }
        for dependency in &nodes[id].deps {
            let is_linked =
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if is_linked && !is_macro(&dependency.pkg) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    let mut found: Vec<PackageId> = found.into_iter().cloned().collect();
    found.sort_by_key(|id| (packages[id].name.to_string(), packages[id].version.clone()));
    Ok(found)
}

impl Linked {
    /// Adds the VNC client that the command holds for browsers, in its published form.
    pub fn add_novnc(&mut self, root: &std::path::Path) -> Result<()> {
        let folder = root.join(NOVNC_FOLDER);
        let archive = format!("novnc-{NOVNC_VERSION}.tgz");
        let sum = checksum::sha256_of(fs::File::open(folder.join(&archive))?)?;
        self.components.push(Component {
            name: "novnc".to_owned(),
            version: NOVNC_VERSION.to_owned(),
            how: How::Bundled,
            license: "BSD-3-Clause AND MIT AND MPL-2.0".to_owned(),
            distributor: None,
            files: vec![],
            sources: vec![(archive, sum)],
            patches: vec![],
        });
        self.folders.push((format!("novnc {NOVNC_VERSION}"), folder));
        Ok(())
    }

    /// The expression of the whole wheel: our own code's and that of everything linked in.
    pub fn license_expression(&self) -> Result<String> {
        let mut all = self.components.clone();
        // Our own licence has the same form as the others', so that it is not named twice.
        if let Some(ours) = self.components.last() {
            let license = canonical(env!("CARGO_PKG_LICENSE"));
            all.push(Component { name: "quicksand".to_owned(), license, ..ours.clone() });
        }
        Ok(bill_of_materials::license_expression(&all)?)
    }

    /// All licence texts and notices, each text once, under the names of those it belongs to; `whole` is what
    /// they are linked into.
    pub fn texts(&self, whole: &str) -> Result<String> {
        let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, folder) in &self.folders {
            let mut entries: Vec<PathBuf> = fs::read_dir(folder)?
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<_, std::io::Error>>()?;
            entries.sort();
            for path in entries.into_iter().filter(|path| is_license_file(path)) {
                let text = String::from_utf8_lossy(&fs::read(&path)?).replace("\r\n", "\n");
                owners.entry(text.trim().to_owned()).or_default().push(name.clone());
            }
        }
        let mut parts: Vec<(Vec<String>, String)> =
            owners.into_iter().map(|(text, names)| (names, text)).collect();
        parts.sort();
        let mut texts = format!("Licences of the code that is linked into {whole}.\n");
        for (names, text) in parts {
            texts.push_str(&format!("\n{}\n{}\n\n{text}\n", "=".repeat(72), names.join(", ")));
        }
        Ok(texts)
    }
}

fn is_license_file(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
    path.is_file()
        && ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// One spelling for expressions that mean the same: old crates write `/` for OR, and the order of
/// alternatives is free.
fn canonical(license: &str) -> String {
    let license = license.replace(" / ", " OR ").replace('/', " OR ");
    if license.contains('(') || license.contains(" AND ") {
        return license;
    }
    let mut alternatives: Vec<&str> = license.split(" OR ").map(str::trim).collect();
    alternatives.sort_unstable();
    alternatives.join(" OR ")
}

/// The sha256 of each crate by name and version, from Cargo.lock.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    #[derive(serde::Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(serde::Deserialize)]
    struct Locked {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let lock: Lock = toml::from_str(lock).context("Failed to parse Cargo.lock")?;
    Ok(lock
        .package
        .into_iter()
        .filter_map(|package| Some(((package.name, package.version), package.checksum?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_each_licence() {
        for (written, expect) in [
            ("MIT/Apache-2.0", "Apache-2.0 OR MIT"),
            ("MIT OR Apache-2.0", "Apache-2.0 OR MIT"),
            ("Unlicense / MIT", "MIT OR Unlicense"),
            ("MIT", "MIT"),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0"),
        ] {
            assert_eq!(canonical(written), expect);
        }
    }

    #[test]
    fn checksums_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ff\"\n\
                    [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let found = checksums(lock).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[&("a".to_owned(), "1.0.0".to_owned())], "ff");
    }

    #[test]
    fn the_command_links_its_parser_but_not_macros_or_test_tools() {
        let metadata = MetadataCommand::new()
            .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
            .other_options(vec!["--offline".to_owned(), "--locked".to_owned()])
            .exec()
            .unwrap();
        let linked = from_metadata(&metadata, &["quicksand-cli"], &BTreeMap::new()).unwrap();
        let names: Vec<&str> = linked.components.iter().map(|part| part.name.as_str()).collect();
        assert!(names.contains(&"clap_builder"), "{names:?}");
        assert!(!names.contains(&"clap_derive"), "{names:?}");
        assert!(!names.contains(&"insta"), "{names:?}");
        assert!(!names.contains(&"quicksand-cli"), "{names:?}");
    }
}
