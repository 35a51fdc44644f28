//! `cargo xtask image`: what is in images. Finding them is here; reading and comparing them is
//! `image-builder`'s.

use crate::{context::Context, ui::hinted};
use anyhow::{Context as _, Result};
use fs_err as fs;
use image_builder::{
    compare::{self, File, Report, Side},
    ext4,
    packages::{self, Installed},
    qcow2, sbom,
    tree::Tree,
};
use runtime_locator::Search;
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
    /// size in bytes, package, and what of these changed. Exits with 0 whether or not they differ.
    Diff(DiffArgs),
}

#[derive(clap::Args)]
struct DiffArgs {
    /// The image before: a wheel, a qcow2 disk, the folder of an image or a save, or the name of an
    /// image in dist/ or installed, such as debian or, of the other architecture, debian-arm64. Whose a
    /// file is, wheels and installed images say.
    a: String,

    /// The image after, named in the same way.
    b: String,

    /// Print JSON: `packages`, `files`, and whether the two are the `same`.
    #[arg(long)]
    json: bool,
}

pub fn run(context: &Context, args: &Args) -> Result<()> {
    let Action::Diff(args) = &args.action;
    let (a, b) = (Image::open(context, &args.a)?, Image::open(context, &args.b)?);
    let report = compare::compare(&a.side(), &b.side())?;
    if args.json {
        let mut value = serde_json::to_value(&report)?;
        value["same"] = Value::from(report.is_same());
        println!("{value:#}");
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

/// An image as it is compared.
struct Image {
    tree: Tree,
    packages: Vec<Installed>,
    owners: BTreeMap<String, String>,
}

impl Image {
    fn open(context: &Context, given: &str) -> Result<Self> {
        let path = Path::new(given);
        let mut search = Search::of_process(Vec::new());
        search.image_path.push(context.dist());
        let unpacked = tempfile::tempdir()?;
        let mut bill = None;
        let chain = match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("whl") => {
                bill = unpack(path, unpacked.path())?;
                search.image_path.insert(0, unpacked.path().to_owned());
                disks_of_wheel(unpacked.path(), &search)?
            }
            Some("qcow2") => vec![path.to_owned()],
            _ => {
                let found = runtime_locator::find_image(&search, given, None)
                    .map_err(|error| hinted(error.to_string(), error.hint().unwrap_or_default()))?;
                bill = found.chain.last().and_then(|disk| bill_beside(disk));
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
        let owners = bill.as_ref().map(sbom::owners).unwrap_or_default();
        Ok(Self { tree, packages, owners })
    }

    fn side(&self) -> Side<'_> {
        Side { tree: &self.tree, packages: &self.packages, owners: &self.owners }
    }
}

/// Takes the disks and manifests out of a wheel, and its bill of materials.
fn unpack(wheel: &Path, folder: &Path) -> Result<Option<Value>> {
    let mut bill = None;
    wheel_retag::read_entries(wheel, |name, _, reader| {
        if let Some((package, rest)) = name.split_once("/images/") {
            // An overlay's files have a folder to themselves when they are installed.
            let place = match rest.contains('/') || rest == "manifest.json" {
                true => folder.join(package.trim_start_matches("quicksand_")).join(rest),
                false => folder.join(rest),
            };
            if !rest.ends_with(".kernel") && !rest.ends_with(".initrd") && is_inside(rest) {
                fs::create_dir_all(place.parent().unwrap_or(folder))?;
                std::io::copy(reader, &mut fs::File::create(&place)?)?;
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

/// The bill of materials of the installed package that holds a disk.
fn bill_beside(disk: &Path) -> Option<Value> {
    let package = disk.ancestors().find(|folder| folder.join("__init__.py").is_file())?;
    let name = package.file_name()?.to_string_lossy().into_owned();
    let infos = fs::read_dir(package.parent()?).ok()?.flatten().map(|entry| entry.path());
    let start = format!("{name}-");
    let info = infos.into_iter().find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&start) && file.ends_with(".dist-info")
    })?;
    let text = fs::read(info.join("sboms").join(format!("{name}.cdx.json"))).ok()?;
    serde_json::from_slice(&text).ok()
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

fn text(report: &Report) -> String {
    if report.is_same() {
        return format!(
            "The images are the same; {} files differ in their times alone.\n",
            report.files.n_times
        );
    }
    let (packages, files) = (&report.packages, &report.files);
    let mut lines = vec![format!(
        "packages: {} added, {} removed, {} changed",
        packages.added.len(),
        packages.removed.len(),
        packages.changed.len()
    )];
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
    fn a_wheels_names_stay_inside() {
        assert!(is_inside("overlays/0.qcow2"));
        assert!(!is_inside("../x.qcow2") && !is_inside("/etc/passwd"));
    }
}
