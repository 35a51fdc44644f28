//! Unpacked and patched source, and commands that run in it with nothing of the caller's settings.

use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};
use xtask_base::ui::{Step, hinted};

/// Settings of the caller that a build needs: where programs and temporary files are.
const INHERITED: &[&str] = &["HOME", "TMPDIR", "SYSTEMROOT"];

/// The folders that a command finds things in.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    /// The folders of programs that are found before the host's: the Python tools, a compiler's.
    pub programs: &'a [PathBuf],
    /// The libraries' headers, archives and descriptions.
    pub libraries: &'a Path,
    /// The folders with the headers of the C library (see `headers`).
    pub headers: &'a [PathBuf],
}

/// A command that finds these places alone. Any other setting of the caller's, such as `CC` or `CFLAGS`,
/// would make another program of the same inputs.
pub fn command(
    folder: &Path,
    program: impl duct::IntoExecutablePath,
    args: &[String],
    places: Places<'_>,
) -> Result<duct::Expression> {
    let Places { programs, libraries, headers } = places;
    let mut paths = programs.to_vec();
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut settings: BTreeMap<OsString, OsString> = INHERITED
        .iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
        .collect();
    settings.insert("PATH".into(), std::env::join_paths(paths)?);
    settings.insert("PKG_CONFIG_LIBDIR".into(), libraries.join("lib/pkgconfig").into());
    // The compiler looks here whether or not it looks in the host's own folders.
    let include = std::iter::once(libraries.join("include")).chain(headers.iter().cloned());
    settings.insert("C_INCLUDE_PATH".into(), std::env::join_paths(include)?);
    settings.insert("LIBRARY_PATH".into(), libraries.join("lib").into());
    // QEMU would look for one that has the target's name.
    settings.insert("PKG_CONFIG".into(), "pkg-config".into());
    settings.insert("LC_ALL".into(), "C.UTF-8".into());
    Ok(cmd(program, args).dir(folder).full_env(settings))
}

/// Unpacks a tarball, with its single top folder renamed to `place`.
pub fn unpack(step: &Step, tarball: &Path, place: &Path) -> Result<()> {
    fs::create_dir_all(place)?;
    step.say(format!("unpacking {}", tarball.display()));
    let top = "--strip-components=1";
    step.run(cmd!("tar", "--extract", top, "--file", tarball, "--directory", place))
}

/// Applies the distribution's changes (`debian/patches`, in the order of its `series`).
pub fn patch_as_distributor(step: &Step, debian: &Path, source: &Path) -> Result<()> {
    step.run(cmd!("tar", "--extract", "--file", debian, "--directory", source))?;
    let patches = source.join("debian/patches");
    let series = fs::read_to_string(patches.join("series")).unwrap_or_default();
    for name in series.lines().filter_map(|line| line.split('#').next()?.split_whitespace().next())
    {
        patch(step, &patches.join(name), source)?;
    }
    Ok(())
}

/// Applies one patch, whole or not at all.
pub fn patch(step: &Step, patch: &Path, source: &Path) -> Result<()> {
    let apply = cmd!("patch", "--strip=1", "--forward", "--batch", "--fuzz=0", "--input", patch)
        .dir(source);
    step.run(apply).map_err(|error| {
        hinted(
            format!("The patch `{}` does not fit the source: {error}", patch.display()),
            "it was made for another version: mend it in qemu/patches, or build a pinned version",
        )
    })
}

/// A path as an argument of configure, make or meson.
pub fn text(path: &Path) -> Result<String> {
    let text = path.to_str().context("The cache's path is not valid UTF-8")?;
    // configure and make split their flags at spaces, whatever one quotes, and pkg-config prints each byte
    // of a letter that is not ASCII behind a backslash.
    if text.contains(char::is_whitespace) || !text.is_ascii() {
        return Err(hinted(
            format!(
                "QEMU cannot be built below `{text}`: its path has a space or a letter that is not ASCII"
            ),
            "set QUICKSAND_CACHE to a folder without one",
        ));
    }
    Ok(text.to_owned())
}
