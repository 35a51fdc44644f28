//! An installed image as something to bake on: where its files are, and which package it came in.

use fs_err as fs;
use image_builder::standalone::Base;
use runtime_locator::ImageFind;
use std::path::PathBuf;

/// The image that was found by this name, as the base of another.
pub fn base_of(found: ImageFind, name: &str) -> Base {
    let info = info(&found, name);
    let distribution = package_layout::image::distribution(name);
    Base {
        name: name.to_owned(),
        version: found.version,
        arch: found.arch,
        requirement: info.as_ref().map(|(_, version)| format!("{distribution}=={version}")),
        info: info.map(|(folder, _)| folder),
        kernel: found.kernel,
        initrd: found.initrd,
        chain: found.chain,
    }
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
