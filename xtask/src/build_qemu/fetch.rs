//! Downloads through apt, with a private configuration: apt's own downloader, proxies and
//! certificates of the host, but lists, caches and state in the build cache. The host's apt knows
//! nothing of it afterwards. Every file is checked against its hash each time it is used.

use super::{
    host_apt::{self, OsRelease, Repository},
    pins::{File, Pin, Sha256Hex},
    source,
};
use crate::{
    context::Context,
    setup,
    ui::{Step, hinted},
};
use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// apt's downloader for single files; part of every apt.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// An apt of our own.
pub struct PrivateApt {
    config: PathBuf,
    repositories: Vec<Repository>,
    mirrors: Vec<String>,
}

/// One fetched source: the pin and its files.
pub struct Fetched {
    pub pin: Pin,
    pub file: PathBuf,
    /// The distribution's own changes, when the pin has some.
    pub debian: Option<PathBuf>,
}

impl PrivateApt {
    /// Writes the private configuration into the build cache.
    pub fn open(context: &Context) -> Result<Self> {
        let repositories = host_apt::repositories(Path::new("/etc/apt"))?;
        let os = OsRelease::read()?;
        let mut mirrors = host_apt::debian_mirrors(&repositories, &os);
        if mirrors.is_empty() {
            setup::ensure_packages(context, &["debootstrap"])?;
            let script = fs::read_to_string("/usr/sbin/debootstrap")?;
            let mirror = host_apt::debootstrap_mirror(&script)
                .context("Failed to find a mirror of Debian: debootstrap names none")?;
            mirrors.push(mirror);
        }
        let folder = context.cache.folder("apt")?;
        for below in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(below))?;
        }
        fs::write(folder.join("sources.list"), source_lines(&repositories))?;
        let config = folder.join("apt.conf");
        fs::write(&config, configuration(&folder))?;
        Ok(Self { config, repositories, mirrors })
    }

    /// An apt program that sees the private configuration.
    fn program(&self, program: &str, args: &[&str]) -> duct::Expression {
        cmd(program, args).env("APT_CONFIG", &self.config).env("LC_ALL", "C.UTF-8")
    }

    /// The first pin of the list whose files the cache or a mirror has, fetched and checked.
    pub fn fetch(
        &self,
        context: &Context,
        step: &Step,
        what: &str,
        pins: &[Pin],
    ) -> Result<Fetched> {
        for pin in pins {
            let main = File { path: pin.path.clone(), sha256: pin.sha256.clone() };
            let Some(file) = self.file(context, step, &main)? else { continue };
            let debian = match &pin.debian {
                Some(changes) => match self.file(context, step, changes)? {
                    Some(path) => Some(path),
                    None => continue,
                },
                None => None,
            };
            return Ok(Fetched { pin: pin.clone(), file, debian });
        }
        let versions: Vec<&str> = pins.iter().map(|pin| pin.version.as_str()).collect();
        let versions = versions.join(", ");
        Err(if context.offline {
            hinted(
                format!("No pinned version of `{what}` is in the cache: {versions}"),
                "run once without --offline",
            )
        } else {
            hinted(
                format!(
                    "No pinned version of `{what}` could be fetched from the mirror: {versions}"
                ),
                format!(
                    "is the mirror reachable? else its newest version is not pinned yet: add it to \
                     qemu/pins.toml, or give QEMU's source with --source; log: {}",
                    step.log().display()
                ),
            )
        })
    }

    /// A file of the mirror; none when no mirror has it.
    fn file(&self, context: &Context, step: &Step, file: &File) -> Result<Option<PathBuf>> {
        for mirror in &self.mirrors {
            let url = format!("{mirror}/{}", file.path);
            if let Some(path) = self.download(context, step, &url, &file.sha256)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Downloads a URL into the cache; none when it is not to be had. A file with another hash is an
    /// error: it is not the same as absent.
    pub fn download(
        &self,
        context: &Context,
        step: &Step,
        url: &str,
        sha256: &Sha256Hex,
    ) -> Result<Option<PathBuf>> {
        let name = url.rsplit('/').next().unwrap_or("file");
        let folder = context.cache.folder("downloads")?;
        let place = folder.join(format!("{}-{name}", &sha256.as_str()[..16]));
        if place.is_file() && source::verify(&place, name, sha256).is_ok() {
            return Ok(Some(place));
        }
        if context.offline {
            return Ok(None);
        }
        step.say(format!("downloading {name}"));
        let beside = tempfile::Builder::new().prefix(".part-").tempdir_in(&folder)?;
        let part = beside.path().join("download");
        let part_name = part.to_str().context("The cache's path is not valid UTF-8")?;
        let download = self.program(APT_HELPER, &["download-file", url, part_name]);
        if step.run(download).is_err() {
            return Ok(None);
        }
        source::verify(&part, url, sha256)?;
        fs::rename(&part, &place)?;
        Ok(Some(place))
    }

    /// The files of a source package as the host's own repositories index it, as (name, sha256);
    /// empty when they do not have this version (any more).
    pub fn source_files(&self, package: &str, version: &str) -> Result<Vec<(String, String)>> {
        let records = self
            .program("apt-cache", &["showsrc", "--only-source", package])
            .stderr_null()
            .unchecked()
            .read()?;
        Ok(checksums(&records, version))
    }

    /// Fetches the indexes of source packages of the host's own repositories.
    pub fn update(&self, context: &Context, step: &Step) -> Result<()> {
        if self.repositories.is_empty() || context.offline {
            return Ok(());
        }
        step.say("fetching the indexes of source packages");
        step.run(self.program("apt-get", &["update", "--quiet"]))
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    // Nothing runs as another user here: as root apt would otherwise hand the download to `_apt`,
    // who cannot write into the cache.
    format!(
        "Dir::State \"{folder}/state\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         Dir::Etc::SourceList \"{folder}/sources.list\";\n\
         Dir::Etc::SourceParts \"/dev/null\";\n\
         Acquire::Languages \"none\";\n\
         APT::Sandbox::User \"root\";\n"
    )
}

/// The host's binary repositories as source repositories, with the keys that the host trusts them by.
fn source_lines(repositories: &[Repository]) -> String {
    let mut lines = String::new();
    for repository in
        repositories.iter().filter(|found| found.types.iter().any(|kind| kind == "deb"))
    {
        let options = match &repository.signed_by {
            Some(keyring) => format!("[signed-by={keyring}] "),
            None => String::new(),
        };
        for uri in &repository.uris {
            for suite in &repository.suites {
                let components = repository.components.join(" ");
                let _ = writeln!(lines, "deb-src {options}{uri} {suite} {components}");
            }
        }
    }
    lines
}

/// The `Checksums-Sha256` of the record with this version, of records as `apt-cache showsrc` prints.
fn checksums(records: &str, version: &str) -> Vec<(String, String)> {
    let has_version =
        |record: &&str| record.lines().any(|line| line.strip_prefix("Version: ") == Some(version));
    let Some(record) = records.split("\n\n").find(has_version) else { return vec![] };
    let after = record.lines().skip_while(|line| !line.starts_with("Checksums-Sha256:")).skip(1);
    let mut files: Vec<(String, String)> = after
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (hash, _size, name) = (words.next()?, words.next()?, words.next()?);
            Some((name.to_owned(), hash.to_owned()))
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_the_version_is_read() {
        let records = "Package: zlib\nVersion: 1:1.3\nChecksums-Sha256:\n aa 1 zlib_1.3.dsc\n\n\
                       Package: zlib\nVersion: 1:1.2\nChecksums-Sha1:\n cc 1 zlib_1.2.dsc\n\
                       Checksums-Sha256:\n bb 2 zlib_1.2.orig.tar.gz\n ba 1 zlib_1.2.dsc\nHomepage: x\n";
        let files = checksums(records, "1:1.2");
        let expect = [("zlib_1.2.dsc", "ba"), ("zlib_1.2.orig.tar.gz", "bb")];
        assert_eq!(files, expect.map(|(name, hash)| (name.to_owned(), hash.to_owned())));
        assert!(checksums(records, "1:1.1").is_empty());
    }

    #[test]
    fn only_binary_repositories_are_asked_for_source_with_their_keys() {
        let repository = Repository {
            types: vec!["deb".to_owned()],
            uris: vec!["http://m.example/debian".to_owned()],
            suites: vec!["a".to_owned(), "a-updates".to_owned()],
            components: vec!["main".to_owned()],
            signed_by: Some("/k.gpg".to_owned()),
        };
        let source = Repository { types: vec!["deb-src".to_owned()], ..repository.clone() };
        assert_eq!(
            source_lines(&[repository, source]),
            "deb-src [signed-by=/k.gpg] http://m.example/debian a main\n\
             deb-src [signed-by=/k.gpg] http://m.example/debian a-updates main\n"
        );
    }

    #[test]
    fn state_and_lists_are_private() {
        let text = configuration(Path::new("/cache/apt"));
        for key in ["Dir::State", "Dir::Cache", "Dir::Etc::SourceList"] {
            let is_private = |line: &str| line.starts_with(key) && line.contains("\"/cache/apt/");
            assert!(text.lines().any(is_private), "{key}: {text}");
        }
    }
}
