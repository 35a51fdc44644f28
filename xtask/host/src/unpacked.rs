//! Packages of the distribution unpacked in the build cache instead of installed: tools that would
//! stand in the way of the host's own, or change what it does.

use anyhow::{Result, ensure};
use duct::cmd;
use fs_err as fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use xtask_base::{cache::Key, context::Context, ui::hinted};

/// How old an index of our own may be.
const INDEX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Packages to unpack.
pub struct Packages<'a> {
    /// The kind of the cache's entry.
    pub kind: &'a str,
    /// What the step is called.
    pub title: &'a str,
    /// The packages; what they depend on and the host lacks comes along.
    pub names: &'a [&'a str],
    /// The one that tells whether all are there: a host that has it installed needs no copy.
    pub main: &'a str,
    /// The only paths that are kept; all where there is none. An asterisk stands for any text.
    pub keep: &'a [&'a str],
}

/// The root folder below which the packages' files are.
pub fn root(context: &Context, packages: &Packages) -> Result<PathBuf> {
    let index = index(context)?;
    let mut line = vec!["install", "--print-uris", "--yes", "--no-install-recommends"];
    line.extend(packages.names);
    let text = apt_get(index.as_deref(), &line).stderr_null().read().map_err(|_| {
        hinted(
            format!("apt knows no {}", packages.names.join(" and ")),
            "they are packages of Debian (bookworm and later)",
        )
    })?;
    let files = files_of(&text);
    if !files.iter().any(|file| name_of(file) == packages.main) {
        return Ok(PathBuf::from("/"));
    }
    let mut key = Key::new(packages.kind);
    files.iter().for_each(|file| key.add("file", file.as_bytes()));
    packages.keep.iter().for_each(|path| key.add("keep", path.as_bytes()));
    context.cache.entry(packages.kind, &key, |place| {
        let what = packages.names.join(", ");
        ensure!(!context.offline, "These packages are not in the cache: {what}");
        context.ui.step(packages.title, |step| {
            let fetched = tempfile::tempdir()?;
            let mut line = vec!["download"];
            line.extend(files.iter().map(|file| name_of(file)));
            step.run(apt_get(index.as_deref(), &line).dir(fetched.path()))?;
            for entry in fs::read_dir(fetched.path())? {
                step.run(unpack(&entry?.path(), place, packages.keep))?;
            }
            Ok(())
        })
    })
}

/// An index of the host's sources, of today and of our own: the host's may be months old, and name
/// packages that are gone from the mirror, or a compiler that is too old. `None` where it cannot be had:
/// the host's has to do.
fn index(context: &Context) -> Result<Option<PathBuf>> {
    let lists = context.cache.folder("apt/index")?;
    let _turn = context.cache.turn("apt-index")?;
    let stamp = lists.join("read");
    let is_of_today = |written: SystemTime| written.elapsed().is_ok_and(|age| age < INDEX_AGE);
    let written = fs::metadata(&stamp).and_then(|read| read.modified()).ok();
    if context.offline || written.is_some_and(is_of_today) {
        return Ok(written.map(|_| lists));
    }
    let reading = context.ui.step("Read the index of the distribution's packages", |step| {
        step.run(apt_get(Some(&lists), &["update", "--error-on=any"]))
    });
    if let Err(error) = reading {
        context.ui.line(&format!("    an older index is used: {error:#}"));
        return Ok(written.map(|_| lists));
    }
    fs::write(stamp, "")?;
    Ok(Some(lists))
}

/// apt-get with an index of our own where there is one.
fn apt_get(index: Option<&Path>, args: &[&str]) -> duct::Expression {
    let mut line: Vec<std::ffi::OsString> = Vec::new();
    if let Some(lists) = index {
        let mut folder = std::ffi::OsString::from("Dir::State::Lists=");
        folder.push(lists);
        // What apt keeps of the host's own index is not of this one.
        for option in [folder, "Dir::Cache::pkgcache=".into(), "Dir::Cache::srcpkgcache=".into()] {
            line.extend(["-o".into(), option]);
        }
    }
    line.extend(args.iter().map(Into::into));
    cmd("apt-get", line)
}

/// The command that unpacks one package.
fn unpack(package: &Path, place: &Path, keep: &[&str]) -> duct::Expression {
    if keep.is_empty() {
        return cmd!("dpkg-deb", "--extract", package, place);
    }
    let mut line: Vec<std::ffi::OsString> = ["-x", "-C"].map(Into::into).into();
    line.push(place.into());
    line.push("--wildcards".into());
    line.extend(keep.iter().map(|path| format!("./{path}").into()));
    // A package without any of the paths is not an error.
    cmd!("dpkg-deb", "--fsys-tarfile", package).pipe(cmd("tar", line).stderr_null().unchecked())
}

/// A file in apt's list of addresses.
pub struct Address {
    /// Where it is.
    pub uri: String,
    /// Its name.
    pub file: String,
    /// Its sha256 in hexadecimal; empty where the list has none.
    pub sha256: String,
}

/// Reads apt's list: `'URI' NAME SIZE SHA256:HASH`.
pub fn addresses(text: &str) -> Vec<Address> {
    let address = |line: &str| {
        let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let mut words = rest.split(' ');
        let file = words.next()?.to_owned();
        let sha256 = words.next_back().and_then(|hash| hash.strip_prefix("SHA256:"));
        Some(Address { uri: uri.to_owned(), file, sha256: sha256.unwrap_or_default().to_owned() })
    };
    text.lines().filter_map(address).collect()
}

/// The file names alone.
fn files_of(text: &str) -> Vec<String> {
    addresses(text).into_iter().map(|address| address.file).collect()
}

/// The package of a file called `NAME_VERSION_ARCH.deb`.
fn name_of(file: &str) -> &str {
    file.split('_').next().unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_list_is_read() {
        let text = "Reading package lists...\n\
                    'http://mirror.example/pool/rustc-web_1.96.0%2bdfsg1-1_amd64.deb' rustc-web_1.96.0+dfsg1-1_amd64.deb 4450500 SHA256:8f\n";
        assert_eq!(files_of(text), ["rustc-web_1.96.0+dfsg1-1_amd64.deb"]);
        assert_eq!(name_of(&files_of(text)[0]), "rustc-web");
        assert_eq!(addresses(text)[0].sha256, "8f");
        assert_eq!(files_of("E: Unable to locate package\n"), [""; 0]);
    }
}
