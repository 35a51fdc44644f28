//! `quicksand dev new-image` and `quicksand dev scaffold`: the folder that a new image starts as.

use super::registry;
use crate::{
    args::NewImageArgs,
    places,
    report::{FAILURE, Failure, USAGE},
};
use fs_err as fs;
use image_builder::standalone::template::{self, RootFs};
use std::path::PathBuf;

/// Makes the folder beside its place, so that it is whole or absent, and prints its path.
pub fn run(args: &NewImageArgs, root: RootFs) -> Result<(), Failure> {
    package_layout::image::check_name(&args.name)
        .map_err(|error| Failure::new(USAGE, error.to_string(), None))?;
    let base = args.base.as_deref().unwrap_or("debian");
    let found = runtime_locator::find_image(&places::search(), base, None)
        .map_err(|error| Failure::locate(&error))?;
    if args.name == base {
        let message = format!("The image `{}` cannot lie on itself", args.name);
        return Err(Failure::new(USAGE, message, Some("choose another name")));
    }
    let parent = args.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    fs::create_dir_all(&parent)?;
    let place = parent.join(&args.name);
    if place.exists() {
        let message = format!("`{}` is there already", place.display());
        return Err(Failure::new(USAGE, message, Some("choose another name, or --dir")));
    }
    let root = match root {
        RootFs::Registry(reference) => {
            RootFs::Registry(registry::resolve(&reference).map_err(|detail| {
                let message = format!("Failed to find the image `{reference}`: {detail}");
                Failure::new(FAILURE, message, None)
            })?)
        }
        root => root,
    };
    let beside = tempfile::Builder::new().prefix(".part-").tempdir_in(&parent)?;
    let folder = beside.path().join(&args.name);
    for (name, text) in template::files(&args.name, base, &found.version, root.clone()) {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap_or(&folder))?;
        fs::write(file, text)?;
    }
    fs::rename(&folder, &place)?;
    println!("{}", place.display());
    let first = match root {
        RootFs::Base | RootFs::Registry(_) => String::new(),
        RootFs::Tar => format!("put {} there, ", place.join("rootfs.tar").display()),
    };
    eprintln!(
        "hint: {first}edit {}, then run: quicksand dev bake {}",
        place.join("recipe.toml").display(),
        place.display()
    );
    Ok(())
}
