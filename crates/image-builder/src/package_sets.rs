//! Splits the packages of a root file system into sets, which are installed one on the other: what
//! every system of the distribution has (which an overlay's base brings), what the recipe's fragments
//! name, and what the recipe names itself, each with what it depends on. A change in one set leaves those below it as they
//! are, and so they need not be installed again.
//!
//! The split follows from the lock and the recipe alone, for the same lock must give the same bytes
//! whatever was baked before. This module must not know how a set is installed.

use crate::{
    Error,
    apt::checked_path,
    deb,
    lock::{ArchLock, Package},
    recipe::Recipe,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What is installed in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSet {
    pub packages: Vec<Package>,
    /// The time stamp of what they make, in seconds since the epoch.
    pub source_date: i64,
    /// The recipe's commands, which run when the last package is there.
    pub commands: Vec<String>,
}

impl PackageSet {
    /// Everything at once.
    pub fn whole(lock: &ArchLock, recipe: &Recipe) -> Self {
        Self {
            packages: lock.package.clone(),
            source_date: lock.source_date,
            commands: recipe.body.commands.clone(),
        }
    }
}

/// What installs the sets above the first from inside of the system.
const INSTALLER: &str = "apt";

/// What a package says of itself.
struct Control {
    is_essential: bool,
    /// The packages that it needs, each with those that would do in its place.
    depends: Vec<Vec<String>>,
    provides: Vec<String>,
    /// When it was made, in seconds since the epoch.
    time: i64,
}

/// The sets, the first one first; none of them is empty. An overlay that installs and runs nothing
/// has none. `time` is that of what they are installed on, in seconds since the epoch.
pub fn split(
    lock: &ArchLock,
    recipe: &Recipe,
    store: &Path,
    time: i64,
) -> Result<Vec<PackageSet>, Error> {
    let brings_installer = lock.package.iter().any(|package| package.name == INSTALLER);
    if recipe.base.is_none() && !brings_installer {
        return Ok(vec![PackageSet::whole(lock, recipe)]);
    }
    let mut controls = BTreeMap::new();
    for package in &lock.package {
        controls.insert(package.name.as_str(), control(store, package)?);
    }
    let system = controls.iter().filter(|(_, control)| control.is_essential).map(|(name, _)| *name);
    let system = match &recipe.base {
        None => system.chain([INSTALLER]).collect(),
        Some(_) => Vec::new(),
    };
    let roots = [
        system,
        recipe.body.fragment_packages.iter().map(String::as_str).collect(),
        controls.keys().copied().collect::<Vec<_>>(),
    ];
    let mut sets: Vec<PackageSet> = Vec::new();
    let mut source_date = time;
    for (number, names) in closures(&controls, &roots).into_iter().enumerate() {
        let commands = match number + 1 == roots.len() {
            true => recipe.body.commands.clone(),
            false => Vec::new(),
        };
        let is_here = |package: &&Package| names.contains(package.name.as_str());
        let packages: Vec<Package> = lock.package.iter().filter(is_here).cloned().collect();
        // As new as its newest package, and not as the lock: a release that is signed again without
        // a change in these packages changes nothing here.
        let times = names.iter().filter_map(|name| Some(controls.get(name)?.time));
        source_date = times.fold(source_date, i64::max).min(lock.source_date);
        if !packages.is_empty() || !commands.is_empty() {
            sets.push(PackageSet { packages, source_date, commands });
        }
    }
    Ok(sets)
}

/// For each list of roots, these and what they depend on, less what an earlier list brought.
fn closures<'a>(
    controls: &'a BTreeMap<&'a str, Control>,
    roots: &[Vec<&'a str>],
) -> Vec<BTreeSet<&'a str>> {
    let mut providers: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, control) in controls {
        for provided in &control.provides {
            providers.entry(provided).or_insert(name);
        }
    }
    let find = |name: &str| match controls.get_key_value(name) {
        Some((name, _)) => Some(*name),
        None => providers.get(name).copied(),
    };
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    roots
        .iter()
        .map(|roots| {
            let mut set = BTreeSet::new();
            let mut open: Vec<&str> = roots.iter().filter_map(|name| find(name)).collect();
            while let Some(name) = open.pop() {
                if !taken.insert(name) {
                    continue;
                }
                set.insert(name);
                for any in &controls[name].depends {
                    // The first that is there: another may have come with a later list.
                    open.extend(any.iter().find_map(|name| find(name)));
                }
            }
            set
        })
        .collect()
}

fn control(store: &Path, package: &Package) -> Result<Control, Error> {
    let (text, time) = deb::control_and_time(&checked_path(store, package)?)?;
    Ok(Control::parse(&text, time))
}

impl Control {
    fn parse(text: &str, time: i64) -> Self {
        // Some values are folded over lines.
        let unfolded = text.replace("\n ", " ").replace("\n\t", " ");
        let value = |key| deb::field(&unfolded, key).unwrap_or_default();
        let lists = |key| value(key).split(',').filter(|item| !item.trim().is_empty());
        let any = |item: &str| item.split('|').map(name_of).map(str::to_owned).collect();
        Self {
            is_essential: value("Essential") == "yes",
            depends: lists("Pre-Depends").chain(lists("Depends")).map(any).collect(),
            provides: lists("Provides").map(name_of).map(str::to_owned).collect(),
            time,
        }
    }
}

/// The name in an item such as `libc6:any (>= 2.36)`.
fn name_of(item: &str) -> &str {
    let item = item.trim();
    let end = item.find(|c: char| c.is_whitespace() || c == '(' || c == ':').unwrap_or(item.len());
    &item[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apt::store_path, lock, recipe};

    fn controls(texts: &[&'static str]) -> BTreeMap<&'static str, Control> {
        let of =
            |text: &&'static str| (deb::field(text, "Package").unwrap(), Control::parse(text, 0));
        texts.iter().map(of).collect()
    }

    const SYSTEM: [&str; 6] = [
        "Package: base\nEssential: yes\nPre-Depends: libc (>= 2)",
        "Package: libc",
        "Package: apt\nDepends: libc,\n keyring | other-keyring",
        "Package: keyring",
        "Package: init\nDepends: libc, awk:any (= 1) | busybox",
        "Package: mawk\nProvides: awk (= 1)",
    ];
    const ROOTS: [&str; 3] =
        ["base apt", "init", "base libc apt keyring init mawk gawk other-keyring"];

    fn names(texts: &[&'static str]) -> Vec<String> {
        let controls = controls(texts);
        let roots = ROOTS.map(|names| names.split(' ').collect());
        closures(&controls, &roots)
            .into_iter()
            .map(|names| names.into_iter().collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn each_tier_holds_what_it_depends_on() {
        assert_eq!(names(&SYSTEM), ["apt base keyring libc", "init mawk", ""]);
    }

    #[test]
    fn a_package_more_leaves_the_tiers_below_as_they_were() {
        let mut more = SYSTEM.to_vec();
        more.extend(["Package: gawk\nProvides: gawk-api", "Package: other-keyring"]);
        assert_eq!(names(&more), ["apt base keyring libc", "init mawk", "gawk other-keyring"]);
    }

    const RECIPE: &str = r#"
version = "1"
summary = "A test"
packages = ["tool"]
commands = ["true"]
[distribution]
name = "debian"
suite = "trixie"
[kernel]
flavour = "cloud"
initrd = []
[disk]
size = "64M"
"#;

    /// What each set holds, for packages with these texts.
    fn sets(texts: &[&str], is_overlay: bool) -> Vec<PackageSet> {
        let store = tempfile::tempdir().unwrap();
        let path = Path::new("recipes/test/recipe.toml");
        let body = recipe::parse(RECIPE, path).unwrap();
        let mut recipe = Recipe { name: "test".to_owned(), folder: "".into(), body, base: None };
        if is_overlay {
            recipe.base = Some(Box::new(recipe.clone()));
        }
        let package = texts.iter().map(|text| {
            let bytes = deb::tests::make(&format!("{text}\n"), &[]);
            let sha256 = crate::sha256(&bytes);
            let name = deb::field(text, "Package").unwrap();
            let package = Package { sha256, ..lock::tests::package(name, "1") };
            fs_err::write(store_path(store.path(), &package), bytes).unwrap();
            package
        });
        let lock = ArchLock {
            request: String::new(),
            source_date: 1_700_000_000,
            release: Vec::new(),
            package: package.collect(),
            kernel: None,
            kernel_modules: Vec::new(),
        };
        split(&lock, &recipe, store.path(), 0).unwrap()
    }

    #[test]
    fn the_recipes_own_packages_and_commands_come_last_and_leave_the_rest_as_it_is() {
        let system = [SYSTEM[0], SYSTEM[1], SYSTEM[2], SYSTEM[3]];
        let without = sets(&system, false);
        let with = sets(&[&system[..], &["Package: tool"]].concat(), false);
        let of = |set: &PackageSet| set.packages.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        assert_eq!(without[0], with[0]);
        assert_eq!(of(&with[0]), ["base", "libc", "apt", "keyring"]);
        // Packages of 1970: a lock that is renewed without a change in them changes nothing.
        assert_eq!((with[0].source_date, with[0].commands.len()), (0, 0));
        assert_eq!((of(&without[1]).len(), of(&with[1])), (0, vec!["tool".to_owned()]));
        assert_eq!(with[1].commands, ["true"]);
    }

    #[test]
    fn without_an_installer_of_its_own_or_fragments_there_is_one_tier() {
        let packages = ["Package: libc", "Package: tool\nDepends: libc"];
        for all in [sets(&packages, false), sets(&packages, true)] {
            assert_eq!((all.len(), all[0].packages.len(), all[0].commands.len()), (1, 2, 1));
        }
    }

    #[test]
    fn names_stand_before_versions_and_architectures() {
        for item in ["libc6", " libc6 (>= 2.36)", "libc6:any", "libc6(= 1)"] {
            assert_eq!(name_of(item), "libc6");
        }
    }
}
