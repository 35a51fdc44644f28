//! Downloads through apt, with a private configuration: apt's own downloader, proxies and
//! certificates of the host, but lists, caches and state in the build cache. The host's apt knows
//! nothing of it afterwards. Every file is checked against its hash each time it is used.

use super::{
    pins::{File, Pin, Sha256Hex},
    source,
};
use anyhow::{Context as _, Result};
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    apt::{self, APT_HELPER, Private, Repository},
    recipe::DistributionName,
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
};
use xtask_host::setup;

/// Archives of distributions, known by the last part of their URI: mirrors keep the original's
/// layout. Other vendors' repositories are none of our business.
/// With each, the keyring of its distribution, for entries that name none.
const ARCHIVES: &[(&str, &str)] = &[
    ("debian", "/usr/share/keyrings/debian-archive-keyring.gpg"),
    ("debian-security", "/usr/share/keyrings/debian-archive-keyring.gpg"),
    ("ubuntu", "/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
    ("ubuntu-ports", "/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
];

/// What names a mirror on a host that is not Debian.
pub const PACKAGES: &[&str] = &["mmdebstrap"];

/// An apt of our own: pinned sources come from Debian's archive, the sources of what the host's
/// libraries were built from out of the host's own distribution.
pub struct PrivateApt {
    apt: Private,
    has_source_lines: bool,
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
        // The mirror of a host that is not Debian is the one that mmdebstrap falls back to.
        setup::ensure_packages(context, PACKAGES)?;
        let mirrors = apt::archives(DistributionName::Debian, host_platform::native_arch())?;
        let lines = lines("deb-src", &apt::repositories(Path::new("/etc/apt"))?);
        Ok(Self {
            apt: Private::new(&context.cache.folder("apt/sources")?, Arch::OF_PROCESS, &lines)?,
            has_source_lines: !lines.is_empty(),
            mirrors: mirrors.into_iter().map(|archive| archive.uri).collect(),
        })
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
        // Not checked by apt already: a file with another hash must be told from an absent one.
        let args = ["download-file", url, part_name].map(str::to_owned);
        if step.run(self.apt.command(APT_HELPER, args)).is_err() {
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
            .apt
            .command("apt-cache", ["showsrc", "--only-source", package].map(str::to_owned))
            .stderr_null()
            .unchecked()
            .read()?;
        Ok(checksums(&records, version))
    }

    /// Fetches the indexes of source packages of the host's own repositories.
    pub fn update(&self, context: &Context, step: &Step) -> Result<()> {
        if !self.has_source_lines || context.offline {
            return Ok(());
        }
        step.say("fetching the indexes of source packages");
        step.run(self.apt.update())
    }
}

/// The distribution's archives of the host's binary packages as repositories of sources (`deb-src`), or of
/// packages of any architecture (`deb`).
pub fn lines(kind: &str, repositories: &[Repository]) -> String {
    let mut lines = String::new();
    for repository in
        repositories.iter().filter(|found| found.types.iter().any(|kind| kind == "deb"))
    {
        for uri in &repository.uris {
            let name = uri.trim_end_matches('/').rsplit('/').next();
            let Some((_, keyring)) = ARCHIVES.iter().find(|(known, _)| Some(*known) == name) else {
                continue;
            };
            let keyring = repository.signed_by.as_deref().unwrap_or(keyring);
            let components = repository.components.join(" ");
            for suite in &repository.suites {
                let _ = writeln!(lines, "{kind} [signed-by={keyring}] {uri} {suite} {components}");
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
    fn only_archives_of_distributions_are_asked_for_source_with_their_keys() {
        let repository = Repository {
            types: vec!["deb".to_owned()],
            uris: ["http://m.example/debian", "http://vendor.example/apt"]
                .map(str::to_owned)
                .into(),
            suites: vec!["a".to_owned(), "a-updates".to_owned()],
            components: vec!["main".to_owned()],
            signed_by: Some("/k.gpg".to_owned()),
        };
        let keyless =
            Repository { signed_by: None, suites: vec!["b".to_owned()], ..repository.clone() };
        let source = Repository { types: vec!["deb-src".to_owned()], ..repository.clone() };
        assert_eq!(
            lines("deb-src", &[repository, keyless, source]),
            "deb-src [signed-by=/k.gpg] http://m.example/debian a main\n\
             deb-src [signed-by=/k.gpg] http://m.example/debian a-updates main\n\
             deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m.example/debian b main\n"
        );
    }
}
