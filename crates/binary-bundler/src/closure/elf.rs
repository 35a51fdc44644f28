//! Where glibc's and musl's loaders look for a library.
//!
//! glibc: ld.so(8) and `elf/dl-load.c`; musl: `ldso/dynlink.c`. Differences from the crate `elb-dl`,
//! which was tried: the default folders of Debian and Fedora, `glibc-hwcaps`, the machine of a
//! candidate, and links that stay inside the root.

use super::{Hit, Object, Root, ld_so_conf};
use crate::{
    error::Error,
    inspect::{Elf, Format, Libc, inspect},
};
use std::path::{Path, PathBuf};

/// The library `name` for the first of `chain`; the others are what loaded it, up to the program.
pub(super) fn search(
    root: &Root,
    name: &str,
    chain: &[&Object],
    loaded: &[Object],
) -> Result<Option<Hit>, Error> {
    let Some((asking, elf)) = elf_of(chain[0]) else { return Ok(None) };
    // What is loaded under this name already is not searched again.
    let is_it = |object: &&Object| {
        !object.is_asked_for
            && elf_of(object).is_some_and(|(_, other)| {
                other.arch == elf.arch
                    && (object.name == name || other.soname.as_deref() == Some(name))
            })
    };
    if let Some(object) = loaded.iter().find(is_it) {
        return Ok(Some(Hit { file: object.file.clone(), variants: object.variants.clone() }));
    }
    if name.contains('/') {
        let path = expand(name, asking, elf, root);
        return Ok(root.file(&path).map(Hit::plain));
    }
    let chain: Vec<(&Object, &Elf)> = chain.iter().filter_map(|object| elf_of(object)).collect();
    let libc = chain.iter().rev().find_map(|(_, elf)| elf.libc()).unwrap_or(Libc::Glibc);
    let folders = match libc {
        Libc::Glibc | Libc::Bionic => glibc_folders(root, &chain),
        Libc::Musl => musl_folders(root, &chain),
    };
    for folder in folders {
        let Some(file) = candidate(root, &folder.join(name), elf) else { continue };
        let variants = match libc {
            Libc::Glibc => variants(root, &folder, name, elf),
            Libc::Musl | Libc::Bionic => Vec::new(),
        };
        return Ok(Some(Hit { file, variants }));
    }
    Ok(None)
}

fn elf_of(object: &Object) -> Option<(&Object, &Elf)> {
    match &object.binary.format {
        Format::Elf(elf) => Some((object, elf)),
        _ => None,
    }
}

/// A file of another machine is passed over, as both loaders do it.
fn candidate(root: &Root, path: &Path, asking: &Elf) -> Option<PathBuf> {
    let file = root.file(path)?;
    let binary = inspect(&file, &fs_err::read(&file).ok()?).ok()??;
    matches!(&binary.format, Format::Elf(elf) if elf.arch == asking.arch).then_some(file)
}

/// DT_RPATH of the asking file and of all that loaded it (unless the file has DT_RUNPATH), then
/// DT_RUNPATH of the file alone, then ld.so.conf's folders and the built-in ones.
fn glibc_folders(root: &Root, chain: &[(&Object, &Elf)]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let (asking, elf) = chain[0];
    if elf.runpath.is_none() {
        for (object, elf) in chain.iter().filter(|(_, elf)| elf.runpath.is_none()) {
            folders.extend(elf.rpath.iter().map(|folder| expand(folder, object, elf, root)));
        }
    }
    let own = elf.runpath.iter().flatten();
    folders.extend(own.map(|folder| expand(folder, asking, elf, root)));
    if !elf.no_default_folders {
        folders.extend(ld_so_conf::folders(root));
        // Debian's folders, Fedora's, and those of glibc itself; a file of another machine in one of
        // them is passed over.
        let triplet = triplet(&elf.arch);
        for folder in [&format!("lib/{triplet}"), &format!("usr/lib/{triplet}")] {
            folders.push(Path::new("/").join(folder));
        }
        folders.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from));
    }
    folders
}

/// musl treats both tags alike, and lets both be inherited; then `/etc/ld-musl-ARCH.path`, or the
/// built-in folders where there is no such file.
fn musl_folders(root: &Root, chain: &[(&Object, &Elf)]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (object, elf) in chain {
        folders.extend(elf.own_search().iter().map(|folder| expand(folder, object, elf, root)));
    }
    let arch = &chain[0].1.arch;
    let conf = root.file(&PathBuf::from(format!("/etc/ld-musl-{arch}.path")));
    match conf.and_then(|conf| fs_err::read_to_string(conf).ok()) {
        Some(text) => folders.extend(
            text.split([':', '\n'])
                .map(str::trim)
                .filter(|f| f.starts_with('/'))
                .map(PathBuf::from),
        ),
        None => folders.extend(["/lib", "/usr/local/lib", "/usr/lib"].map(PathBuf::from)),
    }
    folders
}

/// Replaces the loader's variables: the file's folder, the library folder's name, the processor.
fn expand(text: &str, object: &Object, elf: &Elf, root: &Root) -> PathBuf {
    let folder = object.file.parent().unwrap_or(Path::new("/"));
    let origin = match folder.strip_prefix(root.path()) {
        Ok(inside) => Path::new("/").join(inside),
        Err(_) => folder.to_path_buf(),
    };
    let multiarch = format!("lib/{}", triplet(&elf.arch));
    let lib = match root.join(&Path::new("/").join(&multiarch)).is_dir() {
        true => multiarch.as_str(),
        false => "lib64",
    };
    let mut text = text.to_owned();
    for (name, value) in
        [("ORIGIN", &*origin.to_string_lossy()), ("LIB", lib), ("PLATFORM", &elf.arch)]
    {
        text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    }
    PathBuf::from(text)
}

/// Debian's name of the folder for a machine's libraries.
fn triplet(arch: &str) -> String {
    match arch {
        "armv7l" => "arm-linux-gnueabihf".to_owned(),
        "i686" => "i386-linux-gnu".to_owned(),
        "ppc64le" => "powerpc64le-linux-gnu".to_owned(),
        arch => format!("{arch}-linux-gnu"),
    }
}

/// The same library built for newer processors (`glibc-hwcaps/x86-64-v3`), which the loader prefers
/// where the processor allows.
fn variants(root: &Root, folder: &Path, name: &str, asking: &Elf) -> Vec<(String, PathBuf)> {
    let Ok(hwcaps) = root.real(&folder.join("glibc-hwcaps")) else { return Vec::new() };
    let Ok(entries) = fs_err::read_dir(&hwcaps) else { return Vec::new() };
    let mut variants: Vec<(String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let file = candidate(root, &entry.path().join(name), asking)?;
            Some((entry.file_name().to_string_lossy().into_owned(), file))
        })
        .collect();
    variants.sort();
    variants
}
