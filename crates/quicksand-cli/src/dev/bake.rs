//! `quicksand dev bake`: finds the base, bakes, proves and says where the wheel is.

use super::registry;
use crate::{
    args::{BakeArgs, arch_of},
    places,
    report::{FAILURE, Failure, USAGE},
};
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    outside::{self, Base, Options},
    proof::InUse,
};
use image_prover::Subject;
use runtime_locator::{ImageFind, Search};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Bakes and prints the wheel's path.
pub fn run(args: &BakeArgs) -> Result<(), Failure> {
    image_builder::bake::check_system(host_platform::Os::OF_PROCESS)?;
    if !args.dir.join(outside::RECIPE).is_file() {
        let message = format!("`{}` holds no {}", args.dir.display(), outside::RECIPE);
        let hint = "make a folder with: quicksand dev new-image NAME --base IMAGE";
        return Err(Failure::new(USAGE, message, Some(hint)));
    }
    let arch = arch_of(args.arch.as_deref())?;
    let search = places::search();
    let base = base(&search, &outside::base_of(&args.dir)?, arch)?;
    let out = args.out.clone().unwrap_or_else(|| args.dir.join("dist"));
    let cache = search.cache_dir.clone().ok_or_else(|| {
        let hint = "set HOME or XDG_CACHE_HOME";
        Failure::new(FAILURE, "No folder for caches is known", Some(hint))
    })?;
    let options = Options {
        out: &out,
        cache: &cache.join("images"),
        python: &python(),
        ownership: args.ownership,
        update: args.update,
        say: &|what| eprintln!("{what}"),
        pull: &|wanted| registry::pull(&cache.join("oci"), wanted, &|what| eprintln!("{what}")),
    };
    let baked = outside::bake(&args.dir, &base, &options)?;
    // What is not proved is not published, unless that is what was asked for.
    let report = if args.no_boot {
        eprintln!("warning: the image was not booted, and nothing of it is proved");
        None
    } else {
        eprintln!("Booting");
        // The base stays where it was found: the finished files are looked for first.
        let mut search = search;
        let base_folder = base.chain[0].parent().map(Path::to_owned);
        search.image_path =
            [Some(absolute(&baked.images())?), base_folder].into_iter().flatten().collect();
        let subject = Subject {
            name: &baked.name,
            arch,
            defaults: &baked.defaults,
            checks: &baked.checks,
            in_use: InUse::of_any()?,
            n_cpus: 1,
        };
        let mut report = image_prover::prove(&subject, search, &|_| {}).inspect_err(|_| {
            let place = out.display();
            eprintln!("nothing was written to {place}; --no-boot does without proof");
        })?;
        report["image"] = baked.name.as_str().into();
        report["arch"] = arch.image_name().into();
        Some(format!("{report:#}\n"))
    };
    println!("{}", baked.publish(report.as_deref())?.display());
    Ok(())
}

fn base(search: &Search, name: &str, arch: Arch) -> Result<Base, Failure> {
    let found = runtime_locator::find_image(search, name, Some(arch))
        .map_err(|error| Failure::locate(&error))?;
    if found.n_base_disks != found.chain.len() {
        let message = format!("`{name}` is a save, and an image lies on an image");
        return Err(Failure::new(USAGE, message, Some("name an installed image as the base")));
    }
    let info = info(&found, name);
    let distribution = package_layout::image::distribution(name);
    Ok(Base {
        name: name.to_owned(),
        version: found.version.clone(),
        arch,
        requirement: info.as_ref().map(|(_, version)| format!("{distribution}=={version}")),
        info: info.map(|(folder, _)| folder),
        kernel: found.kernel,
        initrd: found.initrd,
        chain: found.chain,
    })
}

/// The metadata of the installed distribution that holds the image, and its version.
fn info(found: &ImageFind, name: &str) -> Option<(PathBuf, String)> {
    let package = package_layout::image::package(name);
    let disk = found.chain.last()?;
    let folder = disk.ancestors().find(|folder| folder.ends_with(&package))?.parent()?;
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let file = entry.file_name().to_string_lossy().into_owned();
        let version = file.strip_prefix(&format!("{package}-"))?.strip_suffix(".dist-info")?;
        Some((entry.path(), version.to_owned()))
    })
}

/// The Python whose pip fetches wheels: the active environment's, else the one that a shell finds.
fn python() -> OsString {
    let active = std::env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty());
    let active = active.and_then(|folder| wheel_installer::python_of(Path::new(&folder)));
    let word = if cfg!(windows) { "python" } else { "python3" };
    active.map_or_else(|| word.into(), PathBuf::into_os_string)
}

fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}
