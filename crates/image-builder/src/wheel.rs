//! Describes the wheel of an image: the three files, the module that names them, the licences and
//! the bill of materials of what is in them. Writing it is `wheel-retag`'s matter.

use crate::{Error, licence, lock::ArchLock, recipe::Recipe, sbom, tree::Tree};
use host_platform::Arch;
use package_layout::image;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag};

/// The package's `__init__.py`; the names in capitals are filled in.
const MODULE: &str = include_str!("wheel/image.py");

/// The same for an overlay.
const OVERLAY_MODULE: &str = include_str!("wheel/overlay.py");

/// Copyright texts by package.
pub type Copyrights = BTreeMap<String, Vec<u8>>;

/// The copyright files of an image's packages and of its kernel.
pub fn copyrights(rootfs: &Tree, lock: &ArchLock, pool: &Path) -> Result<Copyrights, Error> {
    let mut texts = Copyrights::new();
    for package in &lock.package {
        if package.path.ends_with(".apk") {
            // Alpine's packages say their licence in a line and leave its text out.
            let read = crate::apk::package::Package::read(&crate::apt::pool_path(pool, package))?;
            let terms = read.first("license").unwrap_or_default();
            texts.insert(package.name.clone(), format!("{}{terms}\n", licence::SPDX).into_bytes());
        } else if let Some(text) =
            rootfs.read(&format!("usr/share/doc/{}/copyright", package.name))?
        {
            texts.insert(package.name.clone(), text.to_vec());
        }
    }
    if let Some(package) = &lock.kernel {
        let kernel = crate::kernel_package::files(&crate::apt::pool_path(pool, package))?;
        if let Some(text) = kernel.read(&format!("usr/share/doc/{}/copyright", package.name))? {
            texts.insert(package.name.clone(), text.to_vec());
        }
    }
    Ok(texts)
}

/// The wheel of an image, from its finished files and their names.
pub fn spec(
    recipe: &Recipe,
    arch: Arch,
    version: &str,
    lock: &ArchLock,
    copyrights: &Copyrights,
    our_licences: &[(String, Vec<u8>)],
    files: &[(PathBuf, String)],
) -> WheelSpec {
    let package = image::package(&recipe.name);
    let folder = image::images_dir(&recipe.name);
    let mut contents: Vec<WheelFile> = files
        .iter()
        .map(|(path, name)| {
            // An overlay's files are published in a folder of its name, and alone in its wheel.
            let name = name.strip_prefix(&format!("{}/", recipe.name)).unwrap_or(name);
            let (place, path) = (format!("{folder}/{name}"), Source::Path(path.clone()));
            match name.ends_with(image::DISK_SUFFIX) {
                // Its clusters are compressed already.
                true => WheelFile::stored(place, path),
                false => WheelFile::deflated(place, path),
            }
        })
        .collect();
    let module = if recipe.base.is_some() { OVERLAY_MODULE } else { MODULE };
    let module =
        module.replace("IMAGE_NAME", &recipe.name).replace("IMAGE_VERSION", &recipe.body.version);
    contents.push(WheelFile::deflated(
        format!("{package}/__init__.py"),
        Source::Bytes(module.into_bytes()),
    ));

    let terms_of = |name: &str| -> BTreeSet<String> {
        let text = copyrights.get(name).map(|text| String::from_utf8_lossy(text));
        licence::terms(name, text.as_deref().unwrap_or_default())
    };
    let mut terms: BTreeSet<String> =
        lock.all().flat_map(|package| terms_of(&package.name)).collect();
    // The module above is ours, as the agent in the initrd is.
    terms.insert("(MIT OR Apache-2.0)".to_owned());
    if recipe.base.is_none() {
        // The agent is linked statically with the GNU C library.
        terms.insert("LGPL-2.1-or-later".to_owned());
    }
    let mut licenses: Vec<(String, Vec<u8>)> = our_licences.to_vec();
    licenses.push(("COPYRIGHT-packages.txt".to_owned(), bundle(copyrights)));
    let bill = sbom::cyclonedx(&recipe.name, &recipe.body.version, lock, |name| {
        terms_of(name).into_iter().collect()
    });
    WheelSpec {
        name: image::distribution(&recipe.name),
        version: version.to_owned(),
        tag: WheelTag::new("py3", "none", [platform(arch)]),
        metadata: Metadata {
            summary: recipe.body.summary.clone(),
            license_expression: licence::expression(&terms),
            requires_python: ">=3.10".to_owned(),
            // Exactly this one: an overlay is good for the very disk that it was made on.
            requires_dist: recipe
                .base
                .iter()
                .map(|base| format!("{}=={version}", image::distribution(&base.name)))
                .collect(),
            entry_points: vec![(
                image::ENTRY_POINT_GROUP.to_owned(),
                recipe.name.clone(),
                format!("{package}:image"),
            )],
            ..Metadata::default()
        },
        files: contents,
        licenses,
        sboms: vec![(format!("{package}.cdx.json"), bill)],
        root_is_purelib: false,
    }
}

/// The tag that a build on Linux gives; a release retags it for the other systems.
fn platform(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "linux_x86_64",
        Arch::Arm64 => "linux_aarch64",
    }
}

/// All copyright texts in one file, the packages that share a text named together.
fn bundle(copyrights: &Copyrights) -> Vec<u8> {
    let mut by_text: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
    for (package, text) in copyrights {
        by_text.entry(text).or_default().push(package);
    }
    let mut groups: Vec<(Vec<&str>, &[u8])> =
        by_text.into_iter().map(|(text, packages)| (packages, text)).collect();
    groups.sort();
    let mut out = Vec::new();
    for (packages, text) in groups {
        out.extend(format!("==== {} ====\n\n", packages.join(", ")).bytes());
        out.extend(text);
        out.extend(b"\n\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_with_one_text_share_it() {
        let texts = Copyrights::from([
            ("b".to_owned(), b"same".to_vec()),
            ("a".to_owned(), b"same".to_vec()),
            ("c".to_owned(), b"other".to_vec()),
        ]);
        let text = String::from_utf8(bundle(&texts)).unwrap();
        assert_eq!(text, "==== a, b ====\n\nsame\n\n==== c ====\n\nother\n\n");
    }
}
