//! The renewal of a lock by itself: what is chosen again, which versions that changes, and what they mend. A lock
//! whose packages are the newest already stays as it is, byte for byte.

use super::{Host, Options, Outcome, Wanted, locked, read_or_renewed};
use crate::{
    Error, apt,
    audit::{self, Advisories},
    changelog,
    lock::{ArchLock, Lock, Package},
    owners,
    packages::Source,
    recipe::{self, DistributionName, Recipe},
    tree::Tree,
    wheel::Urls,
};
use host_platform::Arch;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// How many flaws of a source are named in a line; the rest is counted.
const NAMED: usize = 12;

/// What came of a renewal.
#[derive(Debug, Serialize)]
pub struct Renewal {
    pub image: String,
    /// The architecture, as image files call it.
    pub arch: &'static str,
    /// How many packages the lock has now.
    pub n_packages: usize,
    /// Whether the lock was written.
    pub is_written: bool,
    /// What changed, by source.
    pub changes: Vec<Change>,
}

/// The packages of a source whose version changed, that came or that went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    pub source: String,
    /// The version before; none of what came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The version now; none of what went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The packages, `kernel` for the kernel's.
    pub packages: BTreeSet<String>,
    /// The flaws that the newer version mends, as its changelog and the advisories say.
    pub mends: BTreeSet<String>,
}

/// The locks to renew: that of the image of this name, for this host's architecture or the one that was asked
/// for; without a name every lock that there is, what lies on others after them.
///
/// # Errors
/// A recipe or lock cannot be read.
pub fn to_renew(
    recipes: &Path,
    name: &str,
    asked: Option<Arch>,
) -> Result<Vec<(Recipe, Arch)>, Error> {
    if !name.is_empty() {
        let arch = asked.unwrap_or_else(host_platform::native_arch);
        return Ok(vec![(recipe::load(recipes, name)?, arch)]);
    }
    let mut found = Vec::new();
    for name in recipe::names(recipes) {
        let recipe = recipe::load(recipes, &name)?;
        let path = recipe.lock_path();
        if !path.is_file() {
            continue;
        }
        let lock = Lock::load(&path)?;
        for arch in [Arch::Amd64, Arch::Arm64] {
            if lock.any(arch).is_some() && asked.is_none_or(|asked| asked == arch) {
                found.push((recipe.clone(), arch));
            }
        }
    }
    found.sort_by_key(|(recipe, arch)| (recipe.layers().len(), recipe.name.clone(), *arch));
    Ok(found)
}

/// Renews the lock of a recipe for an architecture. What it lies on keeps its own. With advisories, those that
/// were about the versions before and are not about the ones now count as mended too.
///
/// # Errors
/// Packages can be neither chosen nor fetched, or the lock cannot be written.
pub fn renew<H: Host>(
    host: &H,
    recipe: &Recipe,
    arch: Arch,
    store: &Path,
    advisories: &Advisories,
) -> Outcome<Renewal, H> {
    let mut below: Vec<ArchLock> = Vec::new();
    let layers = recipe.layers();
    let n_below = layers.len().saturating_sub(1);
    for layer in layers.into_iter().take(n_below) {
        let wanted = Wanted { host, recipe: layer, arch, store, base: &below, status: None };
        let lock = read_or_renewed(&Options::default(), &wanted, &layer.lock_path())?;
        below.push(lock);
    }
    let path = recipe.lock_path();
    let before = match Lock::load(&path) {
        Ok(lock) => lock.any(arch).cloned(),
        Err(error) => {
            host.line(&format!("warning: {error}"));
            None
        }
    };
    let wanted = Wanted { host, recipe, arch, store, base: &below, status: None };
    let now = locked::lock(&wanted).map_err(|failure| match before {
        Some(_) => failure,
        None => locked::none_made(&wanted, failure),
    })?;
    let is_written = before.as_ref().is_none_or(|before| !is_same(before, &now));
    if is_written {
        Lock::put(&path, &recipe.name, arch, now.clone())?;
    }
    let changes = changes(recipe, before.as_ref(), &now, store, advisories)?;
    Ok(Renewal {
        image: recipe.name.clone(),
        arch: arch.image_name(),
        n_packages: now.all().count(),
        is_written,
        changes,
    })
}

/// Whether two locks hold the same packages for the same question: newer lists alone are no reason to make every
/// byte of an image again.
fn is_same(before: &ArchLock, now: &ArchLock) -> bool {
    before.request == now.request && before.all().eq(now.all())
}

/// The packages of a lock by what they are to the image: a kernel's is called by its version, so that kernels are
/// distinguished by place.
fn by_role(lock: &ArchLock) -> BTreeMap<String, &Package> {
    let kernel = lock.kernel.iter().map(|kernel| ("kernel".to_owned(), kernel));
    lock.package.iter().map(|package| (package.name.clone(), package)).chain(kernel).collect()
}

fn changes(
    recipe: &Recipe,
    before: Option<&ArchLock>,
    now: &ArchLock,
    store: &Path,
    advisories: &Advisories,
) -> Result<Vec<Change>, Error> {
    let old = before.map(by_role).unwrap_or_default();
    let new = by_role(now);
    let roles: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut changes: BTreeMap<(String, Option<String>, Option<String>), Change> = BTreeMap::new();
    let mut components = [Vec::new(), Vec::new()];
    let urls = Urls::new(&recipe.body.distribution, &Tree::new(0))?;
    for role in roles {
        let (was, is) = (old.get(role).copied(), new.get(role).copied());
        if was.map(|package| &package.version) == is.map(|package| &package.version) {
            continue;
        }
        // What went is no longer fetched, and is shown by its own name.
        let source = match is {
            Some(package) => owners::source_of(package, store)?,
            None => None,
        };
        for (list, package) in components.iter_mut().zip([was, is]) {
            list.extend(package.map(|package| component(&urls, role, package, source.as_ref())));
        }
        let own = is.or(was).map_or(role, |package| &package.name);
        let name = source.as_ref().map_or(own, |source| &source.name);
        let version = |package: Option<&Package>| package.map(|package| package.version.clone());
        let key = (shown(name), version(was), version(is));
        let change = changes.entry(key.clone()).or_insert_with(|| Change {
            source: key.0,
            from: key.1,
            to: key.2,
            packages: BTreeSet::new(),
            mends: BTreeSet::new(),
        });
        change.packages.insert(role.clone());
        if recipe.body.distribution.name != DistributionName::Alpine
            && change.mends.is_empty()
            && let (Some(was), Some(is)) = (was, is)
        {
            let before = source_version(&was.version, name);
            let path = apt::checked_path(store, is)?;
            change
                .mends
                .extend(changelog::mended_since(&path, &is.name, &before)?.unwrap_or_default());
        }
    }
    let [was, is] = components.map(|list| json!({ "components": list }));
    let mended = audit::audit([&was], advisories).without(&audit::audit([&is], advisories));
    let mut changes: Vec<Change> = changes.into_values().collect();
    for change in changes.iter_mut().filter(|change| change.from.is_some() && change.to.is_some()) {
        let own = change.packages.iter().filter_map(|package| mended.get(package)).flatten();
        change.mends.extend(own.cloned());
    }
    Ok(changes)
}

/// A package as a bill of materials names it, for the comparison with advisories.
fn component(urls: &Urls, role: &str, package: &Package, source: Option<&Source>) -> Value {
    // The source's version before is not known: it is the package's without the mark of a rebuild.
    let source = source.map(|source| Source {
        name: source.name.clone(),
        version: Some(source_version(&package.version, "")),
    });
    let purl = urls.for_package(&package.name, &package.version, &package.arch, source.as_ref());
    json!({"type": "library", "name": role, "version": package.version, "purl": purl})
}

/// The version of the source that a package of this version was built from. Rebuilds have a mark behind it, and
/// signed kernels a `+` in the place of the `-`.
fn source_version(version: &str, source: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let plain = match version.rsplit_once("+b") {
        Some((plain, number)) if is_number(number) => plain,
        _ => version,
    };
    match plain.rsplit_once('-') {
        Some((version, revision)) if source.starts_with("linux-signed-") => {
            format!("{version}+{revision}")
        }
        _ => plain.to_owned(),
    }
}

/// A signed kernel is a kernel to people.
fn shown(source: &str) -> String {
    if source.starts_with("linux-signed") { "linux".to_owned() } else { source.to_owned() }
}

impl Renewal {
    /// The renewal for people: a line for the lock, and one for each source.
    pub fn lines(&self) -> Vec<String> {
        let Self { image, arch, n_packages, is_written, changes } = self;
        let head = match (changes.len(), is_written) {
            (0, false) => "nothing has changed, and the lock stays as it is".to_owned(),
            (0, true) => format!("the same {n_packages} packages for another question"),
            _ => {
                let n_changed: usize = changes.iter().map(|change| change.packages.len()).sum();
                format!("{n_changed} changes to {n_packages} packages")
            }
        };
        let lines = changes.iter().map(Change::line);
        std::iter::once(format!("{image} {arch}: {head}")).chain(lines).collect()
    }
}

impl Change {
    fn line(&self) -> String {
        let names: Vec<&str> = self.packages.iter().map(String::as_str).collect();
        let mut line = match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!("  {} {from} -> {to}", self.source),
            (None, Some(to)) => format!("  + {} {to}", self.source),
            (Some(from), None) => format!("  - {} {from}", self.source),
            (None, None) => format!("  {}", self.source),
        };
        if names != [self.source.as_str()] {
            line += &format!(" ({})", names.join(", "));
        }
        if !self.mends.is_empty() {
            let named: Vec<&str> = self.mends.iter().map(String::as_str).take(NAMED).collect();
            line += &format!(": mends {}", named.join(", "));
            if let Some(n_more) = self.mends.len().checked_sub(NAMED).filter(|n| *n > 0) {
                line += &format!(" and {n_more} more");
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb;
    use fs_err as fs;
    use std::io::Write as _;

    fn recipe() -> Recipe {
        let text = "version = \"1\"\nsummary = \"x\"\npackages = [\"a\"]\n\
            [distribution]\nname = \"debian\"\nsuite = \"trixie\"\n\
            [kernel]\nflavour = \"cloud\"\ninitrd = [\"ext4\"]\n[disk]\nsize = \"1G\"\n";
        let body = recipe::parse(text, Path::new("recipe.toml")).unwrap();
        Recipe { name: "x".to_owned(), folder: "".into(), body, base: None }
    }

    /// Puts a package with a changelog into the store.
    fn package(store: &Path, name: &str, version: &str, source: &str, log: &str) -> Package {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(log.as_bytes()).unwrap();
        let control = format!("Package: {name}\nVersion: {version}\nSource: {source}\n");
        let place = format!("usr/share/doc/{name}/changelog.Debian.gz");
        let bytes = deb::tests::make(&control, &[(&place, &packed.finish().unwrap())]);
        let sha256 = crate::sha256(&bytes);
        fs::write(store.join(format!("{sha256}.deb")), &bytes).unwrap();
        Package { sha256, ..crate::lock::tests::package(name, version) }
    }

    fn lock(packages: Vec<Package>, kernel: Package) -> ArchLock {
        ArchLock { package: packages, kernel: Some(kernel), ..crate::lock::tests::arch_lock(&[]) }
    }

    #[test]
    fn changes_are_listed_by_source_with_what_they_mend() {
        let store = tempfile::tempdir().unwrap();
        let log = "openssl (2-1) x; urgency=low\n\n  * CVE-2026-1111\n\nopenssl (1-1) x; urgency=low\n\n  * CVE-2025-1111\n";
        let of_kernel = "linux-signed-amd64 (6.2+1) x; urgency=low\n\n  * CVE-2026-2222\n\n\
                         linux-signed-amd64 (6.1+1) x; urgency=low\n\n  * CVE-2025-2222\n";
        let make = |name: &str, version: &str, source: &str, log: &str| {
            package(store.path(), name, version, source, log)
        };
        let old = lock(
            vec![
                make("libssl3", "1-1+b2", "openssl (1-1)", ""),
                make("openssl", "1-1+b2", "openssl (1-1)", ""),
                make("gone", "1", "gone", ""),
                make("same", "1", "same", ""),
            ],
            make("linux-image-6.1", "6.1-1", "linux-signed-amd64 (6.1+1)", ""),
        );
        let new = lock(
            vec![
                make("libssl3", "2-1", "openssl", log),
                make("openssl", "2-1", "openssl", log),
                make("came", "3", "came", ""),
                make("same", "1", "same", ""),
            ],
            make("linux-image-6.2", "6.2-1", "linux-signed-amd64 (6.2+1)", of_kernel),
        );
        let mut advisories = Advisories::default();
        advisories
            .add(
                json!({"id": "DEBIAN-CVE-2026-3333", "upstream": ["CVE-2026-3333"], "affected": [{
                    "package": {"ecosystem": "Debian:13", "name": "openssl"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2-1"}]}],
                }]})
                .to_string()
                .as_bytes(),
            )
            .unwrap();
        let changes = changes(&recipe(), Some(&old), &new, store.path(), &advisories).unwrap();
        let renewal = Renewal {
            image: "x".to_owned(),
            arch: "amd64",
            n_packages: 5,
            is_written: true,
            changes,
        };
        assert_eq!(
            renewal.lines(),
            [
                "x amd64: 5 changes to 5 packages",
                "  + came 3",
                "  - gone 1",
                "  linux 6.1-1 -> 6.2-1 (kernel): mends CVE-2026-2222",
                "  openssl 1-1+b2 -> 2-1 (libssl3, openssl): mends CVE-2026-1111, CVE-2026-3333",
            ]
        );
        let json = serde_json::to_value(&renewal).unwrap();
        assert_eq!(json["changes"][0]["to"], "3");
    }

    #[test]
    fn newer_lists_alone_move_no_lock() {
        let before = crate::lock::tests::arch_lock(&[("a", "1")]);
        let mut now = ArchLock { source_date: before.source_date + 1, ..before.clone() };
        assert!(is_same(&before, &now));
        now.kernel = None;
        assert!(!is_same(&before, &now));
        assert!(!is_same(&before, &ArchLock { request: "another".to_owned(), ..before.clone() }));
        let renewal = Renewal {
            image: "x".to_owned(),
            arch: "arm64",
            n_packages: 1,
            is_written: false,
            changes: Vec::new(),
        };
        assert_eq!(renewal.lines(), ["x arm64: nothing has changed, and the lock stays as it is"]);
    }

    #[test]
    fn a_long_list_of_flaws_is_counted() {
        let change = Change {
            source: "linux".to_owned(),
            from: Some("1".to_owned()),
            to: Some("2".to_owned()),
            packages: BTreeSet::from(["linux".to_owned()]),
            mends: (1000..1015).map(|number| format!("CVE-2026-{number}")).collect(),
        };
        let line = change.line();
        assert!(line.ends_with("CVE-2026-1011 and 3 more"), "{line}");
    }

    #[test]
    fn every_lock_is_renewed_after_those_that_it_lies_on() {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        let names = |name: &str, arch: Option<Arch>| -> Vec<String> {
            let found = to_renew(&recipes, name, arch).unwrap();
            found.iter().map(|(it, arch)| format!("{} {}", it.name, arch.image_name())).collect()
        };
        let all = names("", None);
        let place = |name: &str| all.iter().position(|it| it == name).unwrap();
        assert!(place("debian arm64") < place("debian-agent amd64"), "{all:?}");
        assert!(!all.iter().any(|name| name.starts_with("ubuntu")), "{all:?}");
        assert_eq!(names("debian", Some(Arch::Arm64)), ["debian arm64"]);
        assert_eq!(names("", Some(Arch::Arm64)), ["debian arm64", "minimal arm64"]);
    }
}
