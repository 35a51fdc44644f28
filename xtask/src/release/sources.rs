//! `cargo xtask release sources DIR`: the corresponding source of the wheels' parts under the GPL, the LGPL and
//! licences like them, as one archive.
//!
//! What is fetched stays in the build cache, so that a run that was cut goes on, and so does one that found a
//! package gone from one mirror and is told of another.

mod store;

use crate::{
    context::Context,
    preflight::{self, Needs, Registry, Room},
};
use anyhow::Result;
use corresponding_source::{
    Error, Index, Item, Mirrors, Need, Needed, OWN, Part, Pinned, SourceFile, SourcePackage,
    folder, needed, own_tree, pinned, read, readme, write,
};
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    lock::{ArchLock, Lock},
    outside::LOCK,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Instant,
};
use store::Store;
use wheel_retag::wheels_in;

/// Whose source.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the wheels.
    dir: PathBuf,

    /// Where the archive is written; DIR/quicksand-VERSION-sources.tar.zst unless given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Say what would be in it, and fetch nothing.
    #[arg(long)]
    plan: bool,
}

/// Bytes that a mirror gives in a second, for the time that is said beforehand; and those that are hashed,
/// compressed and written. Measured on two processors.
const FETCHED_PER_SECOND: f64 = 10e6;
const PACKED_PER_SECOND: f64 = 60e6;

/// The largest file that GitHub lays beside a release.
const LARGEST: u64 = 2 << 30;

/// What names a mirror on a host that is not Debian.
const PACKAGES: [&str; 1] = ["mmdebstrap"];

/// What wheels say of themselves.
pub struct Said {
    wheels: Vec<String>,
    suites: BTreeSet<(String, String)>,
    needed: Needed,
}

/// Reads the bills of these wheels, and whose source is owed.
///
/// # Errors
/// A wheel has none, or the source of a part cannot be had.
pub fn said(wheels: &[PathBuf]) -> Result<Said> {
    let (mut parts, mut suites, mut names): (Vec<Part>, _, _) =
        (Vec::new(), BTreeSet::new(), Vec::new());
    for wheel in wheels {
        let bill = read(wheel)?;
        parts.extend(bill.parts);
        suites.extend(bill.suites);
        names.push(wheel.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    Ok(Said { wheels: names, suites, needed: needed(&parts)? })
}

impl Said {
    /// In a line.
    pub fn words(&self) -> String {
        let (owed, left_out) = (self.needed.n_owed, self.needed.n_left_out);
        let folders: BTreeSet<String> = self.needed.pieces.keys().map(folder).collect();
        format!(
            "source: {} sources of {owed} parts of {} wheels; {left_out} parts need none",
            folders.len(),
            self.wheels.len()
        )
    }

    fn packages(&self) -> BTreeSet<SourcePackage> {
        let of_package = |need: &Need| match need {
            Need::Package(package) => Some(package.clone()),
            Need::File { .. } | Need::Ours => None,
        };
        self.needed.pieces.keys().filter_map(of_package).collect()
    }
}

/// Gathers and writes.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let start = Instant::now();
    let wheels = wheels_in(&args.dir)?;
    if wheels.is_empty() {
        return Err(release_plan::Error::NoWheels { folder: args.dir.clone() }.into());
    }
    let mut said = said(&wheels)?;
    context.ui.line(&said.words());
    // What was built here is of the distribution that images are baked from, too.
    let locks = locks(context)?;
    for release in locks.iter().flat_map(|lock| &lock.release) {
        said.suites.insert((release.archive.clone(), release.suite.clone()));
    }
    if args.plan {
        said.needed.pieces.keys().map(folder).collect::<BTreeSet<_>>().iter().for_each(|it| {
            println!("{it}");
        });
        return Ok(());
    }
    let version = env!("CARGO_PKG_VERSION");
    let root = format!("quicksand-{version}-sources");
    let out = args.out.clone().unwrap_or_else(|| args.dir.join(format!("{root}.tar.zst")));
    if !context.offline {
        preflight::run(context, "release sources", &needs(&said))?;
    }
    let store = Store::open(context)?;
    let mut packages = said.packages();
    let mut distributions: BTreeSet<&str> =
        packages.iter().map(|it| it.distribution.as_str()).collect();
    // The pinned sources are Debian's.
    distributions.insert("debian");
    let mirrors = Mirrors::of(distributions)?;
    let index = Index::new(&context.cache.folder("apt/release")?, &mirrors, &said.suites)?;
    context.ui.step("Find the sources", |step| {
        if !context.offline {
            index.update().into_iter().try_for_each(|update| step.run(update))?;
        }
        Ok(())
    })?;
    let using = index.built_using(&packages, &said.needed.binaries)?;
    packages.extend(using.values().flatten().cloned());
    let past = past(&locks, &index);
    let mut wanted: BTreeMap<String, SourceFile> = BTreeMap::new();
    for (package, files) in find(context, &index, &past, &said, &packages)? {
        let place = folder(&Need::Package(package));
        wanted.extend(files.into_iter().map(|file| (format!("{place}/{}", file.name), file)));
    }
    let pins = pins(context)?;
    let mut items = Vec::new();
    for need in said.needed.pieces.keys() {
        let Need::File { name, sha256, .. } = need else { continue };
        let path = format!("{}/{name}", folder(need));
        if let Some(file) = store.own(context, name, sha256)? {
            items.push(Item::file(path, file, sha256.clone()));
            continue;
        }
        let pin = pins.iter().find(|pin| pin.sha256 == *sha256);
        let pin = pin.ok_or_else(|| Error::NoSource { parts: vec![path.clone()] })?;
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
        let places: Vec<&Mirrors> = std::iter::once(&mirrors).chain(&past).collect();
        store.fetch(step, context, &index, &places, &wanted)
    })?;
    for (path, wanted) in wanted {
        let place = store.place(&wanted);
        items.push(Item::file(path, place, wanted.sha256));
    }
    items.extend(own_tree(&context.root, OWN)?);
    items.push(Item::text("README", readme(version, &said.wheels, &said.needed, &using)));
    let n_files = items.len();
    context.ui.step("Write the archive of sources", |_| Ok(write(&root, items, &out)?))?;
    let size = fs::metadata(&out)?.len();
    if size > LARGEST {
        let limit = LARGEST >> 20;
        context.ui.line(&format!("warning: a release's page takes files of {limit} MiB at most"));
    }
    let megabytes = size as f64 / 1e6;
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let n_packages = packages.len();
    context.ui.line(&format!(
        "{n_packages} source packages, {n_files} files, {megabytes:.0} MB, {minutes:.1} min"
    ));
    println!("{}", out.display());
    Ok(())
}

/// The files of all these packages: of what the mirrors have dropped, from the archives' past.
fn find(
    context: &Context,
    index: &Index,
    past: &[Mirrors],
    said: &Said,
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
        let older = Index::new(&folder, past, &said.suites)?;
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
fn needs(said: &Said) -> Needs {
    let mut needs = Needs::default().packages(&PACKAGES);
    for (archive, suite) in &said.suites {
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
    preflight::run(context, "release sources", &needs)
}

/// The pinned sources of QEMU and its libraries.
fn pins(context: &Context) -> Result<Vec<Pinned>> {
    let mut pins = Vec::new();
    for file in ["pins.toml", "libraries.toml"] {
        pins.extend(pinned(&context.root.join("qemu").join(file))?);
    }
    Ok(pins)
}
