//! `cargo xtask image`: what is in images. Finding them is here; reading and comparing them is
//! `image-builder`'s.

mod audit;

use crate::{context::Context, ui::hinted};
use anyhow::{Context as _, Result};
use disk_formats::{ext4, qcow2, tree::Tree};
use fs_err as fs;
use image_builder::{
    audit::bills,
    compare::{self, File, Report, Side},
    packages::{self, Installed},
};
use package_layout::image::{DISK_SUFFIX, MANIFEST_FILE};
use runtime_locator::{ImageFind, Search};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Explain how two images differ: packages with their versions, files with kind, mode, owner,
    /// size in bytes, package, and what of these changed. Exits with 0 whether or not they differ, unless
    /// --exit-code is given.
    Diff(DiffArgs),

    /// List the components of an image that have known flaws: its packages, its kernel, and what is compiled
    /// into the agent. Exits with 1 when there is one.
    Audit(audit::Args),
}

#[derive(clap::Args)]
struct DiffArgs {
    /// The image before: a wheel, a qcow2 disk, the folder of an image or a save, or the name of an
    /// image in dist/ or installed, such as debian or, of the other architecture, debian-arm64. Whose a
    /// file is, wheels and installed images say.
    a: String,

    /// The image after, named in the same way.
    b: String,

    /// Exit with 1 when the two differ in a byte of kernel, initrd or disk, as a rebuild must not.
    #[arg(long)]
    exit_code: bool,

    /// Print JSON: `packages`, `files`, the other `parts` that differ, and whether the two are the `same`.
    #[arg(long)]
    json: bool,
}

pub fn run(context: &Context, args: &Args) -> Result<()> {
    match &args.action {
        Action::Diff(args) => diff(context, args),
        Action::Audit(args) => audit::run(context, args),
    }
}

fn diff(context: &Context, args: &DiffArgs) -> Result<()> {
    let (mut a, mut b) = (Image::open(context, &args.a)?, Image::open(context, &args.b)?);
    forget_packages_of_one(&mut a, &mut b);
    let report = compare::compare(&a.side(), &b.side())?;
    let parts = other_parts(&a.parts, &b.parts);
    let is_same = report.is_same() && parts.is_empty();
    if args.json {
        let mut value = serde_json::to_value(&report)?;
        value["same"] = Value::from(is_same);
        value["parts"] = Value::from(parts);
        println!("{value:#}");
    } else {
        print!("{}", text(&report, &parts));
    }
    if args.exit_code && !is_same {
        return Err(hinted(
            format!("`{}` and `{}` are not the same image", args.a, args.b),
            "the same lock and the same code give the same bytes: compare the locks, the compiler and its C library",
        ));
    }
    Ok(())
}

/// What only one side's bill of materials tells is no difference: a disk alone may tell of no packages.
fn forget_packages_of_one(a: &mut Image, b: &mut Image) {
    if !(a.tells_packages && b.tells_packages) {
        a.packages.clear();
        b.packages.clear();
    }
}

/// What an image is, by name: digests of its topmost disk, its kernel and its initrd, and what a sandbox gets by
/// default. A disk alone has none of it.
type Parts = BTreeMap<&'static str, String>;

/// The parts that both have and that differ.
fn other_parts(a: &Parts, b: &Parts) -> Vec<&'static str> {
    let differs =
        |(name, part): &(&&'static str, &String)| b.get(*name).is_some_and(|it| it != *part);
    a.iter().filter(differs).map(|(name, _)| *name).collect()
}

/// The parts of an image that was found by name.
fn parts_of(found: &ImageFind) -> Result<Parts> {
    let disk = found.chain.last().map(fs::read).transpose()?.unwrap_or_default();
    Ok(BTreeMap::from([
        ("disk", image_builder::sha256(&disk)),
        ("kernel", image_builder::sha256(&fs::read(&found.kernel)?)),
        ("initrd", image_builder::sha256(&fs::read(&found.initrd)?)),
        ("defaults", Value::from(found.defaults.clone()).to_string()),
    ]))
}

/// An image as it is compared.
struct Image {
    tree: Tree,
    packages: Vec<Installed>,
    owners: BTreeMap<String, String>,
    parts: Parts,
    /// Whether its packages are known, from its own database or from a bill of materials.
    tells_packages: bool,
}

impl Image {
    fn open(context: &Context, given: &str) -> Result<Self> {
        let path = Path::new(given);
        let mut search = Search::of_process(Vec::new());
        search.image_path.push(context.dist());
        let unpacked = tempfile::tempdir()?;
        let (mut bill, mut parts) = (None, Parts::new());
        let chain = match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("whl") => {
                bill = unpack(path, unpacked.path(), &mut parts)?;
                search.image_path.insert(0, unpacked.path().to_owned());
                disks_of_wheel(unpacked.path(), &search)?
            }
            Some("qcow2") => vec![path.to_owned()],
            _ => {
                let found = runtime_locator::find_image(&search, given, None)
                    .map_err(|error| hinted(error.to_string(), error.hint().unwrap_or_default()))?;
                bill = found.chain.last().and_then(|disk| bills::of_disk(disk).ok());
                parts = parts_of(&found)?;
                found.chain
            }
        };
        let chain: Vec<&Path> = chain.iter().map(PathBuf::as_path).collect();
        let tree = ext4::read(qcow2::read_disk(&chain)?)
            .with_context(|| format!("Failed to read the image `{given}`"))?;
        let mut packages = packages::installed(&tree)?;
        if let (true, Some(bill)) = (packages.is_empty(), &bill) {
            packages = of_bill(bill);
        }
        let tells_packages = bill.is_some() || !packages.is_empty();
        let owners = bill.as_ref().map(bill_of_materials::image::owners).unwrap_or_default();
        Ok(Self { tree, packages, owners, parts, tells_packages })
    }

    fn side(&self) -> Side<'_> {
        Side { tree: &self.tree, packages: &self.packages, owners: &self.owners }
    }
}

/// Takes the disks and manifests out of a wheel, and its bill of materials.
fn unpack(wheel: &Path, folder: &Path, parts: &mut Parts) -> Result<Option<Value>> {
    let mut bill = None;
    wheel_retag::read_entries(wheel, |name, _, reader| {
        if let Some((package, rest)) = name.split_once("/images/") {
            // An overlay's files have a folder to themselves when they are installed.
            let place = match rest.contains('/') || rest == MANIFEST_FILE {
                true => folder.join(package.trim_start_matches("quicksand_")).join(rest),
                false => folder.join(rest),
            };
            let part =
                ["kernel", "initrd"].into_iter().find(|part| rest.ends_with(&format!(".{part}")));
            if let Some(part) = part {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes)?;
                parts.insert(part, image_builder::sha256(&bytes));
            } else if is_inside(rest) {
                fs::create_dir_all(place.parent().unwrap_or(folder))?;
                std::io::copy(reader, &mut fs::File::create(&place)?)?;
                if rest.ends_with(DISK_SUFFIX) {
                    parts.insert("disk", image_builder::sha256(&fs::read(&place)?));
                }
                if rest == MANIFEST_FILE {
                    parts.insert("manifest", image_builder::sha256(&fs::read(&place)?));
                }
            }
        } else if name.ends_with(".cdx.json") {
            bill = serde_json::from_reader(reader).ok();
        }
        Ok(())
    })?;
    Ok(bill)
}

fn is_inside(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// The disks of an unpacked wheel: its own, or those of the image below an overlay and its own.
fn disks_of_wheel(folder: &Path, search: &Search) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    // A base with defaults has a manifest too, in a folder of its own.
    let is_disk = |path: &&PathBuf| path.extension().is_some_and(|suffix| suffix == "qcow2");
    if let Some(disk) = paths.iter().find(is_disk) {
        return Ok(vec![disk.clone()]);
    }
    let overlay = paths.iter().find(|path| path.is_dir());
    let overlay = overlay.context("The wheel holds no disk of an image")?;
    let found = runtime_locator::find_image(search, &overlay.to_string_lossy(), None)
        .map_err(|error| hinted(error.to_string(), error.hint().unwrap_or_default()))?;
    Ok(found.chain)
}

/// The packages that a bill names, for images that keep no database of their own.
fn of_bill(bill: &Value) -> Vec<Installed> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let components = bill["components"].as_array().cloned().unwrap_or_default();
    components
        .iter()
        .filter(|part| part["purl"].is_string())
        .map(|part| Installed {
            name: text(part, "name"),
            version: text(part, "version"),
            ..Installed::default()
        })
        .collect()
}

fn text(report: &Report, parts: &[&str]) -> String {
    if report.is_same() && parts.is_empty() {
        return format!(
            "The images are the same; {} files differ in their times alone.\n",
            report.files.n_times
        );
    }
    let (packages, files) = (&report.packages, &report.files);
    let mut lines: Vec<String> = parts.iter().map(|part| format!("{part}: not the same")).collect();
    lines.push(format!(
        "packages: {} added, {} removed, {} changed",
        packages.added.len(),
        packages.removed.len(),
        packages.changed.len()
    ));
    lines.extend(packages.added.iter().map(|p| format!("+ {} {}", p.name, p.version)));
    lines.extend(packages.removed.iter().map(|p| format!("- {} {}", p.name, p.version)));
    lines.extend(packages.changed.iter().map(|p| format!("~ {} {} -> {}", p.name, p.from, p.to)));
    lines.push(format!(
        "files: {} added, {} removed, {} changed, {} with other times alone",
        files.added.len(),
        files.removed.len(),
        files.changed.len(),
        files.n_times
    ));
    lines.extend(files.added.iter().map(|file| format!("+ {}", describe(file))));
    lines.extend(files.removed.iter().map(|file| format!("- {}", describe(file))));
    for file in &files.changed {
        let (what, from) = (file.what.join(", "), describe(&file.from));
        let from = from.split_once(' ').map_or("", |(_, rest)| rest);
        lines.push(format!("~ {} [{what}; was: {from}]", describe(&file.to)));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// A name on one line: images are others' work too, and a terminal takes some bytes for orders.
fn shown(name: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    name.chars().map(plain).collect()
}

fn describe(file: &File) -> String {
    let path = shown(&file.path);
    let mut line = format!("{path} {} {} {}:{}", file.kind, file.mode, file.uid, file.gid);
    if let Some(size) = file.size {
        line += &format!(" {size} bytes");
    }
    if let Some(target) = &file.target {
        line += &format!(" -> {}", shown(target));
    }
    if let Some(package) = &file.package {
        line += &format!(" ({package})");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_described_in_one_line() {
        let file = File {
            path: "/usr/bin/su".to_owned(),
            kind: "file",
            mode: "4755".to_owned(),
            uid: 0,
            gid: 0,
            size: Some(3),
            target: None,
            package: Some("util-linux".to_owned()),
        };
        assert_eq!(describe(&file), "/usr/bin/su file 4755 0:0 3 bytes (util-linux)");
        let odd = File { path: "/a\n\u{1b}[2Jé".to_owned(), package: None, ..file };
        assert_eq!(describe(&odd), "/a\\n\\u{1b}[2Jé file 4755 0:0 3 bytes");
    }

    #[test]
    fn a_kernel_or_a_default_alone_makes_another_image() {
        let parts = |kernel: &str| Parts::from([("kernel", kernel.to_owned())]);
        assert!(other_parts(&parts("1"), &parts("1")).is_empty());
        assert!(other_parts(&parts("1"), &Parts::new()).is_empty(), "a disk alone");
        let tree = Tree::new(0);
        let none = BTreeMap::new();
        let side = || Side { tree: &tree, packages: &[], owners: &none };
        let report = compare::compare(&side(), &side()).unwrap();
        assert!(text(&report, &[]).starts_with("The images are the same"));
        let shown = text(&report, &other_parts(&parts("1"), &parts("2")));
        assert!(shown.starts_with("kernel: not the same\npackages: 0 added"), "{shown}");
    }

    #[test]
    fn packages_that_one_side_alone_can_tell_are_no_difference() {
        let image = |tells_packages| Image {
            tree: Tree::new(0),
            packages: vec![Installed::default(); usize::from(tells_packages)],
            owners: BTreeMap::new(),
            parts: Parts::new(),
            tells_packages,
        };
        for (mut a, mut b) in [(image(true), image(false)), (image(false), image(true))] {
            forget_packages_of_one(&mut a, &mut b);
            assert!(a.packages.is_empty() && b.packages.is_empty());
        }
        let (mut a, mut b) = (image(true), image(true));
        forget_packages_of_one(&mut a, &mut b);
        assert_eq!(a.packages.len(), 1);
    }

    #[test]
    fn a_wheels_names_stay_inside() {
        assert!(is_inside("overlays/0.qcow2"));
        assert!(!is_inside("../x.qcow2") && !is_inside("/etc/passwd"));
    }
}
