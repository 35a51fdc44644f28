//! Describes the wheel of an image: the three files, the module that names them, the licences and
//! the bill of materials of what is in them. Writing it is `wheel-retag`'s matter.

mod urls;

use crate::{Error, KernelError, cpio, lock::ArchLock, owners, recipe::Recipe, tree::Tree};
use bill_of_materials::{
    copyright,
    image::{self as bill, Component},
};
use fs_err as fs;
use host_platform::Arch;
use package_layout::{image, manifest::Manifest};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
pub(crate) use urls::Urls;
use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag};

/// The package's `__init__.py`; the names in capitals are filled in.
const MODULE: &str = include_str!("wheel/image.py");

/// The same for an overlay.
const OVERLAY_MODULE: &str = include_str!("wheel/overlay.py");

/// How the names of kernels end.
const KERNEL: &str = ".kernel";

/// How the names of initrds end.
const INITRD: &str = ".initrd";

/// Copyright texts by package.
pub type Copyrights = BTreeMap<String, Vec<u8>>;

/// The copyright files of an image's packages. Those of its kernel come with it.
pub fn copyrights(rootfs: &Tree, lock: &ArchLock, store: &Path) -> Result<Copyrights, Error> {
    let mut texts = Copyrights::new();
    for package in &lock.package {
        if package.path.ends_with(".apk") {
            // Alpine's packages say their licence in a line and leave its text out.
            let read = crate::apk::package::Package::read(&crate::apt::store_path(store, package))?;
            let terms = read.first("license").unwrap_or_default();
            texts
                .insert(package.name.clone(), format!("{}{terms}\n", copyright::SPDX).into_bytes());
        } else if let Some(text) =
            rootfs.read(&format!("usr/share/doc/{}/copyright", package.name))?
        {
            texts.insert(package.name.clone(), text.to_vec());
        }
    }
    Ok(texts)
}

/// The same of the Python wheels whose programs the recipe takes.
pub fn copyrights_of_wheels(recipe: &Recipe) -> Result<Copyrights, Error> {
    let mut texts = Copyrights::new();
    for wheel in &recipe.body.wheel {
        let places = Recipe::places_of(wheel);
        let file = recipe
            .body
            .file
            .iter()
            .find(|file| Some(file.path.as_str()) == places.last().map(String::as_str));
        if let Some(file) = file {
            texts.insert(wheel.name.clone(), recipe.content(file)?);
        }
    }
    Ok(texts)
}

/// What the bill of materials is made from.
pub struct Contents<'a> {
    pub recipe: &'a Recipe,
    /// Its packages and kernel.
    pub lock: &'a ArchLock,
    /// Where packages are kept.
    pub store: &'a Path,
    /// What is on the disk.
    pub tree: &'a Tree,
    /// What is on the disk below, for an overlay.
    pub below: Option<&'a Tree>,
    /// The kernel, where it is not the lock's.
    pub kernel: Option<Component>,
    /// What is compiled into the agent.
    pub agent: &'a [Component],
    /// The copyright files of the packages.
    pub copyrights: &'a Copyrights,
    /// Whether the recipe's own files are this project's. The terms of others are not known.
    pub is_ours: bool,
}

/// Where the files of an image come from, each with its licences: packages, the kernel, the agent
/// and the recipe. `files` are the finished files with their names; `version` is that of what is
/// ours.
pub fn components(
    contents: &Contents,
    version: &str,
    files: &[(PathBuf, String)],
) -> Result<Vec<Component>, Error> {
    let Contents { recipe, lock, store, tree, below, copyrights, kernel, agent: parts, is_ours } =
        contents;
    let below = *below;
    let owners = owners::assign(tree, below, recipe, owners::packages(tree, lock, store)?)?;
    let copyright = |name: &str| -> Result<Option<String>, Error> {
        let text = match copyrights.get(name) {
            Some(text) => Some(text.clone()),
            None => tree.read(&format!("usr/share/doc/{name}/copyright"))?.map(|t| t.to_vec()),
        };
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    };
    let urls = Urls::new(&recipe.body.distribution, tree)?;
    let (mut kernel_files, mut recipe_files) = (owners.kernel, owners.recipe);
    if lock.kernel.is_none() && kernel.is_none() {
        // Tables of the base's modules that an installation made again.
        recipe_files.append(&mut kernel_files);
    }
    let mut components = Vec::new();
    for package in owners.packages {
        let locked = lock
            .package
            .iter()
            .find(|locked| locked.name == package.name && locked.version == package.version);
        // An overlay does not answer for what lies below it untouched.
        if package.files.is_empty() && locked.is_none() && below.is_some() {
            continue;
        }
        let licences = match (copyright(&package.name)?, &package.licence) {
            (None, Some(declared)) => {
                copyright::terms(&package.name, &format!("{}{declared}", copyright::SPDX))
            }
            (text, _) => copyright::terms(&package.name, text.as_deref().unwrap_or_default()),
        };
        components.push(Component {
            purl: Some(urls.for_package(
                &package.name,
                &package.version,
                &package.arch,
                package.source.as_ref(),
            )),
            name: package.name,
            version: package.version,
            kind: "library",
            sha256: locked.map(|locked| locked.sha256.clone()),
            licences,
            files: package.files,
            ..Component::default()
        });
    }
    let (modules, others): (Vec<String>, Vec<String>) = initrd_files(files)?
        .into_iter()
        .partition(|name| name.starts_with("modules/") && name.ends_with(".ko"));
    let in_initrd = |names: Vec<String>| names.into_iter().map(|n| format!("{}{n}", bill::INITRD));
    let kernel = match &lock.kernel {
        None => kernel.clone(),
        Some(locked) => Some(Component {
            name: locked.name.clone(),
            version: locked.version.clone(),
            kind: "operating-system",
            purl: Some(urls.for_locked(locked, store)?),
            sha256: Some(locked.sha256.clone()),
            licences: copyright::terms(&locked.name, &copyright(&locked.name)?.unwrap_or_default()),
            ..Component::default()
        }),
    };
    if let Some(kernel) = kernel {
        let other_files = kernel_file(files).into_iter().chain(in_initrd(modules)).collect();
        components.push(Component { files: kernel_files, other_files, ..kernel });
    }
    // Ubuntu's modules are in packages of their own; as files they stand below the kernel.
    for package in &lock.kernel_modules {
        components.push(Component {
            name: package.name.clone(),
            version: package.version.clone(),
            kind: "library",
            purl: Some(urls.for_locked(package, store)?),
            sha256: Some(package.sha256.clone()),
            licences: copyright::terms(
                &package.name,
                &copyright(&package.name)?.unwrap_or_default(),
            ),
            ..Component::default()
        });
    }
    if below.is_none() {
        let files = in_initrd(others).collect();
        components.push(Component { parts: parts.to_vec(), ..agent(version, files) });
    }
    for wheel in &recipe.body.wheel {
        let places = Recipe::places_of(wheel);
        let paths = crate::packages::owned(tree, places.iter().map(String::as_bytes));
        let (files, others) = recipe_files.into_iter().partition(|path| paths.contains(path));
        recipe_files = others;
        components.push(Component {
            name: wheel.name.clone(),
            version: wheel.version.clone(),
            kind: "application",
            purl: Some(format!("pkg:pypi/{}@{}", wheel.name, wheel.version)),
            licences: BTreeSet::from([format!("({})", wheel.licence)]),
            files,
            ..Component::default()
        });
    }
    components.push(Component {
        name: format!("recipe of {}", recipe.name),
        version: recipe.body.version.clone(),
        kind: "data",
        licences: match is_ours {
            true => ours(),
            false => BTreeSet::from([format!("LicenseRef-{}", recipe.name)]),
        },
        files: recipe_files,
        ..Component::default()
    });
    Ok(components)
}

/// What the agent is called in a bill.
pub(crate) const AGENT: &str = "quicksand-agent";
/// The file among a wheel's licences with those of what is compiled into the agent.
pub const AGENT_TEXTS: &str = "LICENSES-agent.txt";

/// The agent, which is linked statically with the GNU C library.
fn agent(version: &str, files: BTreeSet<String>) -> Component {
    let mut licences = ours();
    licences.insert("LGPL-2.1-or-later".to_owned());
    Component {
        name: AGENT.to_owned(),
        version: version.to_owned(),
        kind: "application",
        licences,
        other_files: files,
        ..Component::default()
    }
}

fn ours() -> BTreeSet<String> {
    BTreeSet::from(["(MIT OR Apache-2.0)".to_owned()])
}

fn kernel_file(files: &[(PathBuf, String)]) -> Option<String> {
    files.iter().map(|(_, name)| name).find(|name| name.ends_with(KERNEL)).cloned()
}

/// The files of the initrd among the finished files.
fn initrd_files(files: &[(PathBuf, String)]) -> Result<Vec<String>, Error> {
    let initrd = files.iter().find(|(_, name)| name.ends_with(INITRD));
    let Some((path, _)) = initrd else { return Ok(Vec::new()) };
    cpio::files(&fs::read(path)?)
        .ok_or_else(|| Error::Kernel(KernelError::BadInitrd { path: path.clone() }))
}

/// What a wheel says of its contents.
pub struct DistInfo<'a> {
    /// Where the files come from.
    pub components: &'a [Component],
    /// The copyright files of packages.
    pub copyrights: &'a Copyrights,
    /// The texts of our own licences by file name.
    pub our_licences: &'a [(String, Vec<u8>)],
    /// The distributions that the wheel needs, as pip writes them.
    pub requires: Vec<String>,
    /// The kernel as `wheel_retag::pack` wrote it, where somebody did.
    pub packed_kernel: Option<PathBuf>,
}

/// The wheel of an image, from its finished files and their names.
pub fn spec(
    recipe: &Recipe,
    arch: Arch,
    version: &str,
    lock: &ArchLock,
    dist_info: DistInfo,
    files: &[(PathBuf, String)],
) -> WheelSpec {
    let DistInfo { components, copyrights, our_licences, requires, packed_kernel } = dist_info;
    let package = image::package(&recipe.name);
    let folder = image::images_dir(&recipe.name);
    let mut contents: Vec<WheelFile> = files
        .iter()
        .map(|(path, name)| {
            // An overlay's files are published in a folder of its name, and alone in its wheel.
            let name = name.strip_prefix(&format!("{}/", recipe.name)).unwrap_or(name);
            let (place, source) = (format!("{folder}/{name}"), Source::Path(path.clone()));
            match &packed_kernel {
                // Its clusters are compressed already.
                _ if name.ends_with(image::DISK_SUFFIX) => WheelFile::stored(place, source),
                Some(packed) if name.ends_with(KERNEL) => {
                    WheelFile::deflated(place, Source::Packed(packed.clone()))
                }
                _ => WheelFile::deflated(place, source),
            }
        })
        .collect();
    let is_overlay = !files.iter().any(|(_, name)| name.ends_with(INITRD));
    // An overlay's manifest is among its files. Of a base there is one to hold its defaults: this
    // folder is the image's own, as one with the files of several images is not.
    let config = recipe.body.defaults.config();
    if !is_overlay && !config.is_empty() {
        let manifest = Manifest::new(config, arch.qemu_name()).to_json();
        let place = format!("{folder}/{}", image::MANIFEST_FILE);
        contents.push(WheelFile::deflated(place, Source::Bytes(manifest.into_bytes())));
    }
    let module = if is_overlay { OVERLAY_MODULE } else { MODULE };
    let module =
        module.replace("IMAGE_NAME", &recipe.name).replace("IMAGE_VERSION", &recipe.body.version);
    contents.push(WheelFile::deflated(
        format!("{package}/__init__.py"),
        Source::Bytes(module.into_bytes()),
    ));

    let mut terms: BTreeSet<String> = components.iter().flat_map(Component::terms).collect();
    // The module above is ours.
    terms.extend(ours());
    let mut licenses: Vec<(String, Vec<u8>)> = our_licences.to_vec();
    licenses.push(("COPYRIGHT-packages.txt".to_owned(), bundle(copyrights)));
    let bill = bill::bill(
        &recipe.name,
        &recipe.body.version,
        lock.release.iter().map(|one| (&*one.archive, &*one.suite, &*one.sha256)),
        components,
    );
    WheelSpec {
        name: image::distribution(&recipe.name),
        version: version.to_owned(),
        build: None,
        tag: WheelTag::new("py3", "none", [platform(arch)]),
        metadata: Metadata {
            summary: recipe.body.summary.clone(),
            license_expression: copyright::all_of(&terms),
            requires_python: ">=3.10".to_owned(),
            requires_dist: requires,
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
/// The platform of an image's wheel: that of the machine that runs it natively, on the system that bakes. Which
/// other ones it ships for is the release's matter.
fn platform(arch: Arch) -> String {
    let os = host_platform::Os::Linux;
    host_platform::wheel_platform_tag(&host_platform::Host { os, arch, process_arch: arch }, None)
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

/// The text of one package in the file that `bundle` writes.
pub(crate) fn copyright_of<'a>(bundle: &'a str, package: &str) -> Option<&'a str> {
    bundle.split("==== ").skip(1).find_map(|group| {
        let (packages, text) = group.split_once(" ====\n")?;
        packages.split(", ").any(|name| name == package).then(|| text.trim_start_matches('\n'))
    })
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
