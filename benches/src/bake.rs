//! A bake from nothing, with nothing to do and with one package changed, beside the usual pipeline by
//! hand; our qcow2 writer beside qemu-img's; an overlay beside what changed in it; the marks of each
//! image's boot. Packages come from the cache, so that no network counts.

use crate::{
    Args,
    figure::{Figure, GoalKind},
};
use anyhow::{Context as _, Result, bail, ensure};
use disk_formats::{
    difference::{self, Difference},
    ext4, qcow2,
    tree::{Node, Tree},
};
use duct::cmd;
use image_builder::{
    apt,
    lock::{Lock, Package},
    recipe,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// The image that is baked.
const IMAGE: &str = "debian";
/// An overlay on it.
const OVERLAY: &str = "debian-agent";
/// A package of the image on which no other depends, and the fragment that names it.
const PACKAGE: &str = "nano";
const FRAGMENT: &str = "fragments/apt-system.toml";
/// zstd's level for our disks.
const LEVEL: i32 = 9;

/// What people do by hand: `$1` is an empty folder, `$2` the repository, `$3` the packages.
const BY_HAND: &str = r#"
export SOURCE_DATE_EPOCH=1700000000
cd "$1"
mmdebstrap --quiet --variant=essential "--include=$3" trixie root.tar "deb [trusted=yes] copy:$2 ./"
mkdir root
tar -C root --numeric-owner --xattrs --xattrs-include='*' -xpf root.tar
PATH=$PATH:/usr/sbin:/sbin mke2fs -q -t ext4 -d root disk.raw 4G
"$4" convert -c -f raw -O qcow2 disk.raw disk.qcow2
cp root/boot/vmlinuz-* kernel
cp root/boot/initrd.img-* initrd
"#;

/// What xtask hands over.
struct Given<'a> {
    xtask: &'a Path,
    root: &'a Path,
    cache: &'a Path,
    /// The repository of the pipeline by hand, with the names of its packages in `names`.
    repository: &'a Path,
    /// Where the reports of baked images are.
    reports: &'a Path,
    qemu_img: PathBuf,
}

/// Measures all.
pub fn measure(args: &Args) -> Result<Vec<Figure>> {
    let [xtask, root, cache, repository, reports] = args.bake.as_slice() else {
        bail!("bake needs --bake XTASK ROOT CACHE REPOSITORY REPORTS");
    };
    let emulator = args.qemu.first().context("bake needs --qemu")?;
    let qemu_img = emulator.with_file_name("qemu-img");
    let given = Given { xtask, root, cache, repository, reports, qemu_img };
    let scratch = tempfile::tempdir()?;
    let mut figures = bakes(&given, scratch.path(), args.samples)?;
    let chain = disks(scratch.path())?;
    figures.extend(writer(&given, &chain[0], scratch.path())?);
    figures.push(overlay(&chain)?);
    figures.extend(boots(given.reports)?);
    Ok(figures)
}

/// Bakes into `scratch/out`, all with one new cache.
fn bakes(given: &Given, scratch: &Path, n_samples: u32) -> Result<Vec<Figure>> {
    let cache = scratch.join("cache");
    fs_err::create_dir_all(&cache)?;
    for name in ["packages", "agent", "apt", "cross-compiler", "python-tools"] {
        let place = given.cache.join(name);
        if place.is_dir() {
            fs_err::os::unix::fs::symlink(place, cache.join(name))?;
        }
    }
    let recipes = scratch.join("recipes");
    cmd!("cp", "-r", given.root.join("recipes"), &recipes).run()?;
    let bake = |name: &str| -> Result<f64> {
        let line = ["bake", name, "--no-boot", "--recipes"];
        let command = cmd(
            given.xtask,
            line.iter().map(|word| word.as_ref()).chain([
                recipes.as_os_str(),
                "--out".as_ref(),
                scratch.join("out").as_os_str(),
            ]),
        );
        let start = Instant::now();
        command
            .env("QUICKSAND_CACHE", &cache)
            .stdout_null()
            .stderr_null()
            .run()
            .with_context(|| format!("Failed to bake {name}"))?;
        Ok(start.elapsed().as_secs_f64())
    };
    let by_hand = by_hand(given, scratch)?;
    let cold = bake(IMAGE)?;
    let mut same = Vec::new();
    for _ in 0..n_samples {
        same.push(bake(IMAGE)?);
    }
    let wheel = megabytes(&find(&scratch.join("out"), |name| {
        name.starts_with("quicksand_debian-") && name.ends_with(".whl")
    })?)?;
    let overlay = bake(OVERLAY)?;
    let keep = scratch.join("keep");
    fs_err::rename(scratch.join("out"), &keep)?;
    let taken = move_package(&recipes, None)?;
    let less = bake(IMAGE)?;
    move_package(&recipes, Some(taken))?;
    let more = bake(IMAGE)?;
    fs_err::remove_dir_all(scratch.join("out"))?;
    fs_err::rename(keep, scratch.join("out"))?;

    let mut all = Figure::new("bake of debian from nothing", "s", vec![cold]);
    let mut size = Figure::new("wheel of debian", "MB", vec![wheel]);
    if let Some((seconds, megabytes)) = by_hand {
        all = all.beside("by hand", vec![seconds]).goal(GoalKind::RatioAtMost, 1.0);
        size = size.beside("by hand", vec![megabytes]);
    }
    Ok(vec![
        all,
        Figure::new("bake with nothing to do", "s", same).goal(GoalKind::AtMost, 0.5),
        Figure::new("bake with a package less in a fragment", "s", vec![less])
            .beside("from nothing", vec![cold])
            .goal(GoalKind::RatioAtMost, 0.5),
        Figure::new("bake with a package more in the recipe", "s", vec![more])
            .beside("from nothing", vec![cold])
            .goal(GoalKind::RatioAtMost, 0.5),
        Figure::new("bake of an overlay on it", "s", vec![overlay])
            .beside("from nothing", vec![cold]),
        size.goal(GoalKind::AtMost, 60.0),
    ])
}

/// Seconds, and MB of the three files that come out.
fn by_hand(given: &Given, scratch: &Path) -> Result<Option<(f64, f64)>> {
    // Files of other owners cannot be laid out by anybody else.
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: the pipeline by hand needs root");
        return Ok(None);
    }
    let folder = scratch.join("by-hand");
    fs_err::create_dir_all(&folder)?;
    let names = fs_err::read_to_string(given.repository.join("names"))?;
    let start = Instant::now();
    cmd!("sh", "-euc", BY_HAND, "sh", &folder, given.repository, names.trim(), &given.qemu_img)
        .stdout_null()
        .stderr_null()
        .run()
        .context("The pipeline by hand failed")?;
    let seconds = start.elapsed().as_secs_f64();
    let mut size = 0.0;
    for name in ["kernel", "initrd", "disk.qcow2"] {
        size += megabytes(&folder.join(name))?;
    }
    fs_err::remove_dir_all(folder)?;
    Ok(Some((seconds, size)))
}

/// Takes the package out of the fragment that names it and out of the lock; or puts it into the recipe
/// itself and into the lock.
fn move_package(recipes: &Path, taken: Option<Package>) -> Result<Package> {
    let edit = |name: &str, from: &str, to: &str| -> Result<()> {
        let path = recipes.join(name);
        let text = fs_err::read_to_string(&path)?;
        ensure!(text.contains(from), "{name} has no line {from}");
        fs_err::write(path, text.replacen(from, to, 1))?;
        Ok(())
    };
    match taken {
        None => edit(FRAGMENT, &format!("  \"{PACKAGE}\",\n"), "")?,
        Some(_) => edit(
            &format!("{IMAGE}/recipe.toml"),
            "\nsummary",
            &format!("\npackages = [\"{PACKAGE}\"]\nsummary"),
        )?,
    }
    let recipe = recipe::load(recipes, IMAGE)?;
    let (path, arch) = (recipe.lock_path(), host_platform::native_arch());
    let mut lock = Lock::load(&path)?;
    let mut locked = lock.any(arch).context("The image is not locked")?.clone();
    locked.request = apt::request(&recipe, arch, &[]);
    let place = locked.package.iter().position(|package| package.name == PACKAGE);
    let package = match (taken, place) {
        (None, Some(place)) => locked.package.remove(place),
        (Some(package), None) => {
            locked.package.push(package.clone());
            locked.package.sort();
            package
        }
        _ => bail!("{PACKAGE} is not where it should be"),
    };
    lock.set(arch, locked);
    lock.save(&path, IMAGE)?;
    Ok(package)
}

/// The disks of the overlay, the base's first.
fn disks(scratch: &Path) -> Result<Vec<PathBuf>> {
    let out = scratch.join("out");
    let base = find(&out, |name| name.starts_with("debian-13-") && name.ends_with(".qcow2"))?;
    let overlay = out.join(OVERLAY).join("overlays/0.qcow2");
    ensure!(overlay.is_file(), "The bake of {OVERLAY} wrote no overlay");
    Ok(vec![base, overlay])
}

/// Our writer beside `qemu-img convert -c`, by turns, from the same disk.
fn writer(given: &Given, disk: &Path, scratch: &Path) -> Result<Vec<Figure>> {
    let chunks = qcow2::read(&[disk])?;
    let raw = scratch.join("raw");
    cmd!(&given.qemu_img, "convert", "-O", "raw", disk, &raw).run()?;
    let (ours, theirs) = (scratch.join("ours.qcow2"), scratch.join("theirs.qcow2"));
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = qcow2::Settings { level: LEVEL, n_threads, backing: None };
    let (mut seconds, mut zlib, mut zstd) = (vec![], vec![], vec![]);
    let (mut size, mut zlib_size, mut zstd_size) = (vec![], vec![], vec![]);
    for _ in 0..3 {
        let start = Instant::now();
        qcow2::write(&ours, &chunks, &settings, &|_| {})?;
        seconds.push(start.elapsed().as_secs_f64());
        size.push(megabytes(&ours)?);
        for (kind, times, sizes) in
            [("zlib", &mut zlib, &mut zlib_size), ("zstd", &mut zstd, &mut zstd_size)]
        {
            let start = Instant::now();
            let kind = format!("compression_type={kind}");
            cmd!(
                &given.qemu_img,
                "convert",
                "-c",
                "-f",
                "raw",
                "-O",
                "qcow2",
                "-o",
                kind,
                &raw,
                &theirs
            )
            .run()?;
            times.push(start.elapsed().as_secs_f64());
            sizes.push(megabytes(&theirs)?);
        }
    }
    cmd!(&given.qemu_img, "compare", "-f", "raw", "-F", "qcow2", &raw, &ours)
        .stdout_null()
        .run()?;
    let beside = |name: &str, unit, ours: &[f64], label: &str, theirs: Vec<f64>| {
        Figure::new(format!("qcow2 of debian, {name}"), unit, ours.to_vec())
            .beside(format!("qemu-img {label}"), theirs)
    };
    Ok(vec![
        beside("time", "s", &seconds, "zlib", zlib),
        beside("time", "s", &seconds, "zstd", zstd),
        beside("size", "MB", &size, "zlib", zlib_size),
        beside("size", "MB", &size, "zstd", zstd_size),
    ])
}

/// An overlay's bytes beside what its changed files take when zstd packs each at the same level.
fn overlay(chain: &[PathBuf]) -> Result<Figure> {
    let chain: Vec<&Path> = chain.iter().map(PathBuf::as_path).collect();
    let before = ext4::read(qcow2::read_disk(&chain[..1])?)?;
    let after = ext4::read(qcow2::read_disk(&chain)?)?;
    let Difference { added, contents, .. } = difference::between(&before, &after)?;
    let mut changed = 0;
    for path in added.iter().chain(&contents) {
        if let Some(bytes) = bytes(&after, path)? {
            changed += zstd::encode_all(&bytes[..], LEVEL)?.len();
        }
    }
    let label = format!("its {} changed files by zstd", added.len() + contents.len());
    let size = megabytes(chain[1])?;
    Ok(Figure::new(format!("overlay {OVERLAY}"), "MB", vec![size])
        .beside(label, vec![changed as f64 / 1e6])
        .goal(GoalKind::RatioAtMost, 1.3))
}

fn bytes(tree: &Tree, path: &[u8]) -> Result<Option<std::sync::Arc<[u8]>>> {
    use disk_formats::tree::Kind;
    match tree.get(path) {
        Some(Node { kind: Kind::File(content), .. }) => Ok(Some(content.read()?)),
        _ => Ok(None),
    }
}

/// The marks that each image's bake wrote into its report.
fn boots(reports: &Path) -> Result<Vec<Figure>> {
    let mut paths: Vec<PathBuf> =
        fs_err::read_dir(reports)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    let mut figures = Vec::new();
    for path in paths {
        let report: Value = serde_json::from_slice(&fs_err::read(&path)?)?;
        let (Some(image), Some(arch)) = (report["image"].as_str(), report["arch"].as_str()) else {
            continue;
        };
        let boot = &report["proof"]["boot_seconds"];
        let marks = boot["guest"].as_object().into_iter().flatten();
        for (name, seconds) in
            marks.map(|(name, value)| (name.as_str(), value)).chain([("answer", &boot["ready"])])
        {
            if let Some(seconds) = seconds.as_f64() {
                figures.push(Figure::new(
                    format!("boot of {image} {arch}, {name}"),
                    "s",
                    vec![seconds],
                ));
            }
        }
    }
    Ok(figures)
}

fn find(folder: &Path, is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if is_it(&entry.file_name().to_string_lossy()) {
            return Ok(entry.path());
        }
    }
    bail!("There is no such file in {}", folder.display())
}

fn megabytes(path: &Path) -> Result<f64> {
    Ok(fs_err::metadata(path)?.len() as f64 / 1e6)
}
