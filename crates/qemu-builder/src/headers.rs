//! The headers of the compiler, the C library and the kernel in a folder of their own. What else the host has
//! installed below `/usr/include` is not to decide what a configure script finds: the compiler is told not
//! to look there (`-nostdinc`), and where to look instead.
//!
//! ```text
//! ENTRY/compiler    what GCC brings: stddef.h, limits.h, which goes on to the next one
//! ENTRY/system      what the packages of `toolchain::HEADERS` have below /usr/include
//! ```

use super::{
    libraries::copy_tree,
    sysroot::Sysroot,
    toolchain::{self, CLibrary, Toolchain},
};
use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use std::path::{Path, PathBuf};
use xtask_base::{cache::Key, context::Context};

/// Where the packages' headers are, and those of them that are for this architecture alone.
const SYSTEM: &str = "/usr/include";

/// Where MinGW's packages have theirs.
const MINGW: &[&str] = &["/usr/x86_64-w64-mingw32/include", "/usr/share/mingw-w64/include"];

/// The folders with a toolchain's headers, in the order in which they are looked into; none where the
/// compiler brings its own and looks nowhere else.
pub fn prepare(
    context: &Context,
    toolchain: &Toolchain,
    sysroot: Option<&Sysroot>,
) -> Result<Vec<PathBuf>> {
    Ok(match toolchain.c_library() {
        None => {
            let both = from_packages(context, &toolchain.cc, toolchain::HEADERS, &[SYSTEM])?;
            vec![both.join("compiler"), both.join("system")]
        }
        Some(CLibrary::Mingw) => {
            let both = from_packages(context, &toolchain.cc, toolchain::HEADERS_OF_MINGW, MINGW)?;
            vec![both.join("compiler"), both.join("system")]
        }
        Some(CLibrary::Sysroot) => {
            let sysroot = sysroot.context("A toolchain without its C library")?;
            let mut folders = vec![];
            for name in ["include", "include-fixed"] {
                folders.extend(toolchain.file(name)?);
            }
            folders.extend(sysroot.headers());
            folders
        }
        Some(CLibrary::OfCompiler) => vec![],
    })
}

/// The folder with the compiler's headers and those of packages, in the cache.
fn from_packages(
    context: &Context,
    compiler: &str,
    packages: &[&str],
    roots: &[&str],
) -> Result<PathBuf> {
    let multiarch = cmd!(compiler, "-print-multiarch").read()?;
    let list = [&["--listfiles"], packages].concat();
    let list = cmd("dpkg-query", list).read().context("Failed to ask dpkg")?;
    let mut key = Key::new("c-headers 1");
    key.add("headers", toolchain::versions(packages)?.as_bytes());
    key.add("compiler", cmd!(compiler, "--version").read()?.as_bytes());
    context.cache.entry("c-headers", &key, |entry| {
        for name in ["include-fixed", "include"] {
            let folder = cmd!(compiler, format!("-print-file-name={name}")).read()?;
            // The compiler repeats the name of a folder that it does not have.
            if Path::new(&folder).is_absolute() {
                copy_tree(Path::new(&folder), &entry.join("compiler"))?;
            }
        }
        for path in list.lines().map(Path::new) {
            let place = roots.iter().find_map(|root| place(path, root, multiarch.trim()));
            if let Some(place) = place {
                copy(path, &entry.join("system").join(place))?;
            }
        }
        Ok(())
    })
}

/// Where a file of a package belongs; nowhere when it is no header.
fn place<'a>(path: &'a Path, root: &str, multiarch: &str) -> Option<&'a Path> {
    let below = path.strip_prefix(root).ok()?;
    // A compiler for Windows has no such name, and an empty one begins every path.
    let place = match multiarch {
        "" => below,
        name => below.strip_prefix(name).unwrap_or(below),
    };
    (!place.as_os_str().is_empty()).then_some(place)
}

/// Copies a file, or all that a link to a folder leads to; the files of plain folders are on the list.
fn copy(path: &Path, place: &Path) -> Result<()> {
    if path.is_file() {
        fs::create_dir_all(place.parent().context("A header has a folder")?)?;
        fs::copy(path, place)?;
    } else if path.is_symlink() {
        copy_tree(path, place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_architecture_lie_beside_the_others() {
        let place = |path: &'static str| place(Path::new(path), SYSTEM, "x86_64-linux-gnu");
        assert_eq!(place("/usr/include/stdio.h"), Some(Path::new("stdio.h")));
        let machine = place("/usr/include/x86_64-linux-gnu/sys/io.h");
        assert_eq!(machine, Some(Path::new("sys/io.h")));
        for other in ["/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/share/doc/libc6-dev"] {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
