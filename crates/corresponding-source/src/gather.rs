//! Gathers the source of wheels: finds where each piece lies, fetches it and writes the archive.
//!
//! What is fetched stays in the build cache, so that a run that was cut goes on, and so does one that found a
//! package gone from one mirror and is given another.

use crate::{
    Error, Index, Item, Mirrors, Need, OWN, Owed, Pinned, SourceFile, SourcePackage, folder,
    own_tree, pinned, readme, store::Store, write,
};
use anyhow::Result;
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    lock::{ArchLock, Lock},
    standalone::LOCK,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use xtask_base::context::Context;
use xtask_host::preflight::{self, Needs, Registry, Room};

/// The task that needs these things of the host, as its command line says it.
const TASK: &str = "release sources";

/// Bytes that a mirror gives in a second, for the time that is said beforehand; and those that are hashed,
/// compressed and written. Measured on two processors.
const FETCHED_PER_SECOND: f64 = 10e6;
const PACKED_PER_SECOND: f64 = 60e6;

/// What names a mirror on a host that is not Debian.
const PACKAGES: [&str; 1] = ["mmdebstrap"];

/// What came of it.
pub struct Gathered {
    /// How many source packages of distributions are in the archive.
    pub n_packages: usize,
    /// How many files.
    pub n_files: usize,
    /// The archive's size in bytes.
    pub size: u64,
}

/// The name of the archive and of the folder in it, without what the file's name ends with.
pub fn archive_name() -> String {
    format!("quicksand-{}-sources", env!("CARGO_PKG_VERSION"))
}

/// Gathers the source and writes it to `out`.
///
/// # Errors
/// A piece cannot be found or fetched, its hash is another, or the archive cannot be written.
pub fn gather(context: &Context, mut owed: Owed, out: &Path) -> Result<Gathered> {
    // What was built here is of the distribution that images are baked from, too.
    let locks = locks(context)?;
    for release in locks.iter().flat_map(|lock| &lock.release) {
        owed.suites.insert((release.archive.clone(), release.suite.clone()));
    }
    if !context.offline {
        preflight::run(context, TASK, &needs(&owed))?;
    }
    let store = Store::open(context)?;
    let mut packages = owed.packages();
    let mut distributions: BTreeSet<&str> =
        packages.iter().map(|it| it.distribution.as_str()).collect();
    // The pinned sources are Debian's.
    distributions.insert("debian");
    let mirrors = Mirrors::for_distributions(distributions)?;
    let index = Index::new(&context.cache.folder("apt/release")?, &mirrors, &owed.suites)?;
    context.ui.step("Find the sources", |step| {
        if !context.offline {
            index.update().into_iter().try_for_each(|update| step.run(update))?;
        }
        Ok(())
    })?;
    let using = index.built_using(&packages, &owed.needed.binaries)?;
    packages.extend(using.values().flatten().cloned());
    let past = past(&locks, &index);
    let mut wanted: BTreeMap<String, SourceFile> = BTreeMap::new();
    for (package, files) in find(context, &index, &past, &owed, &packages)? {
        let place = folder(&Need::Package(package));
        wanted.extend(files.into_iter().map(|file| (format!("{place}/{}", file.name), file)));
    }
    let pins = pins(context)?;
    let mut days = BTreeSet::new();
    let mut items = Vec::new();
    for need in owed.needed.pieces.keys() {
        let Need::File { name, sha256, .. } = need else { continue };
        let path = format!("{}/{name}", folder(need));
        if let Some(file) = store.own(context, name, sha256)? {
            items.push(Item::file(path, file, sha256.clone()));
            continue;
        }
        let pin = pins.iter().find(|pin| pin.sha256 == *sha256);
        let pin = pin.ok_or_else(|| Error::NoSource { parts: vec![path.clone()] })?;
        days.extend(pin.day.clone());
        wanted.insert(
            path,
            SourceFile {
                paths: vec![pin.path.clone()],
                name: name.clone(),
                size: 0,
                sha256: sha256.clone(),
            },
        );
    }
    say_before(context, &store, &wanted)?;
    context.ui.step("Fetch the sources", |step| {
        let of_pins: Vec<Mirrors> = days.iter().map(|day| index.past_of_day(day)).collect();
        let past = of_pins.iter().chain(&past);
        let places: Vec<&Mirrors> = std::iter::once(&mirrors).chain(past).collect();
        store.fetch(step, context, &index, &places, &wanted)
    })?;
    for (path, wanted) in wanted {
        let place = store.place(&wanted);
        items.push(Item::file(path, place, wanted.sha256));
    }
    items.extend(own_tree(&context.root, OWN)?);
    items.push(Item::text(
        "README",
        readme(env!("CARGO_PKG_VERSION"), &owed.wheels, &owed.needed, &using),
    ));
    let n_files = items.len();
    context.ui.step("Write the archive of sources", |_| Ok(write(&archive_name(), items, out)?))?;
    Ok(Gathered { n_packages: packages.len(), n_files, size: fs::metadata(out)?.len() })
}

/// The files of all these packages: of what the mirrors have dropped, from the archives' past.
fn find(
    context: &Context,
    index: &Index,
    past: &[Mirrors],
    owed: &Owed,
    packages: &BTreeSet<SourcePackage>,
) -> Result<BTreeMap<SourcePackage, Vec<SourceFile>>> {
    let mut found = index.files(packages)?;
    let missing = |found: &BTreeMap<SourcePackage, _>| -> BTreeSet<SourcePackage> {
        packages.iter().filter(|package| !found.contains_key(package)).cloned().collect()
    };
    for (number, past) in past.iter().enumerate() {
        let gone = missing(&found);
        if gone.is_empty() || context.offline {
            break;
        }
        let folder = context.cache.folder("apt/release-past")?.join(number.to_string());
        let older = Index::new(&folder, past, &owed.suites)?;
        let fetched = context.ui.step("Look into the archives' past", |step| {
            older.update().into_iter().take(1).try_for_each(|update| step.run(update))
        });
        // A time that the archive kept no state of.
        if fetched.is_ok() {
            found.extend(older.files(&gone)?);
        }
    }
    let gone = missing(&found);
    match gone.is_empty() {
        true => Ok(found),
        false => {
            Err(Error::Gone { packages: gone.iter().map(SourcePackage::words).collect() }.into())
        }
    }
}

/// The locks of published images.
fn locks(context: &Context) -> Result<Vec<ArchLock>> {
    let mut locks = Vec::new();
    for image in package_layout::known::published() {
        let lock = Lock::load(&context.root.join("recipes").join(image).join(LOCK))?;
        locks.extend([Arch::Amd64, Arch::Arm64].iter().filter_map(|arch| lock.any(*arch)).cloned());
    }
    Ok(locks)
}

/// The archives as they were when the recipes' locks were written.
fn past(locks: &[ArchLock], index: &Index) -> Vec<Mirrors> {
    let mut states = Vec::new();
    for state in locks.iter().flat_map(|lock| index.past(lock)) {
        if !states.contains(&state) {
            states.push(state);
        }
    }
    states
}

/// What is needed before anything is known of sizes.
fn needs(owed: &Owed) -> Needs {
    let mut needs = Needs::default().packages(&PACKAGES);
    for (archive, suite) in &owed.suites {
        let (what, known) = match archive.as_str() {
            "debian" => ("debian", suite.clone()),
            "ubuntu" => ("ubuntu", suite.clone()),
            // On the same mirrors or beside them.
            _ => continue,
        };
        needs = needs.fetch(format!("source packages of {suite}"), Registry::Images(what, known));
    }
    needs
}

/// Says how much there is to fetch and how long it will take, and that there is room for it.
fn say_before(
    context: &Context,
    store: &Store,
    wanted: &BTreeMap<String, SourceFile>,
) -> Result<()> {
    let all: u64 = wanted.values().map(|it| it.size).sum();
    let absent = wanted.values().filter(|it| !store.place(it).is_file());
    let missing: u64 = absent.map(|it| it.size).sum();
    let (all, missing) = (all as f64, missing as f64);
    let seconds = missing / FETCHED_PER_SECOND + all / PACKED_PER_SECOND;
    context.ui.line(&format!(
        "{} files, {:.0} MB, of which {:.0} MB are fetched: about {:.0} min",
        wanted.len(),
        all / 1e6,
        missing / 1e6,
        (seconds / 60.0).ceil()
    ));
    let megabytes = |bytes: f64| (bytes / f64::from(1 << 20)).ceil() as u64;
    let room = Room { cache: megabytes(missing), target: 0, temporary: megabytes(all) };
    let needs = Needs::default().build("the archive of sources", all / PACKED_PER_SECOND, room);
    preflight::run(context, TASK, &needs)
}

/// The pinned sources of QEMU and its libraries.
fn pins(context: &Context) -> Result<Vec<Pinned>> {
    let mut pins = Vec::new();
    for file in ["pins.toml", "libraries.toml"] {
        pins.extend(pinned(&context.root.join("qemu").join(file))?);
    }
    Ok(pins)
}
