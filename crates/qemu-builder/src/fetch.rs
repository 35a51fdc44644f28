//! Where pinned sources come from: the mirrors of Debian's archive, and the archive's past for what they have
//! dropped. All by an apt with a private configuration: proxies and certificates of the host, but lists,
//! caches and state in the build cache. The host's apt knows nothing of it afterwards.

use super::{
    download::{self, Answer},
    pins::{File, Pin, Sha256Hex},
};
use anyhow::Result;
use host_platform::Arch;
use image_builder::{
    apt::{self, Archive, Private, Repository, snapshot},
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
    archives: Vec<Archive>,
    /// What the person named for an archive's past.
    past: fn(&str) -> Option<String>,
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
        let archives = apt::archives(DistributionName::Debian, host_platform::native_arch())?;
        let lines = lines("deb-src", &apt::repositories(Path::new("/etc/apt"))?);
        Ok(Self {
            apt: Private::new(&context.cache.folder("apt/sources")?, Arch::OF_PROCESS, &lines)?,
            has_source_lines: !lines.is_empty(),
            archives,
            past: |archive| std::env::var(snapshot::variable(archive)).ok(),
        })
    }

    /// The archives on the day of a pin; none where it has no day or nobody says where the past is.
    fn past(&self, pin: &Pin) -> Vec<Archive> {
        let day = pin.day.iter();
        day.flat_map(|day| {
            snapshot::for_day(&self.archives, day.as_str(), &self.past, &self.apt.lists())
        })
        .collect()
    }

    /// The first pin of the list whose files the cache or a mirror has, fetched and checked; else the first
    /// that the archive's past has. What could not be asked for is an error, not a reason for another version.
    pub fn fetch(
        &self,
        context: &Context,
        step: &Step,
        what: &str,
        pins: &[Pin],
    ) -> Result<Fetched> {
        let of = |addresses: &[String], file: &File| {
            first_that_has(&file.path, addresses, |url| {
                self.download(context, step, url, &file.sha256)
            })
        };
        if let Some(found) = first(pins, |_, file| of(&below(&self.archives, file), file))? {
            return Ok(found);
        }
        let mut is_past_known = false;
        if !context.offline {
            // Its releases may say where the archive's past is.
            self.update(context, step)?;
            let found = first(pins, |pin, file| {
                let past = self.past(pin);
                is_past_known |= !past.is_empty();
                of(&below(&past, file), file)
            })?;
            if let Some(found) = found {
                step.say(format!("{what} {} is from the archive's past", found.pin.version));
                return Ok(found);
            }
        }
        let versions: Vec<&str> = pins.iter().map(|pin| pin.version.as_str()).collect();
        let versions = versions.join(", ");
        if context.offline {
            return Err(hinted(
                format!("No pinned version of `{what}` is in the cache: {versions}"),
                "run once without --offline",
            ));
        }
        let past = match is_past_known {
            true => "and the archive's past has none".to_owned(),
            false => format!(
                "and nobody says where the archive's past is ({}=URL)",
                snapshot::variable("debian")
            ),
        };
        Err(hinted(
            format!("No mirror has a pinned version of `{what}` any more: {versions}"),
            format!(
                "{past}; move the pins with `cargo xtask build-qemu --renew`, or give QEMU's source with \
                 --source; log: {}",
                step.log().display()
            ),
        ))
    }

    /// A file of the archive, by the first mirror that has it.
    pub fn file(&self, context: &Context, step: &Step, file: &File) -> Result<Answer> {
        let found = first_that_has(&file.path, &below(&self.archives, file), |url| {
            self.download(context, step, url, &file.sha256)
        })?;
        Ok(found.map_or(Answer::Absent, Answer::Here))
    }

    /// Downloads a URL into the cache, unless it is there. A file with another hash is an error.
    pub fn download(
        &self,
        context: &Context,
        step: &Step,
        url: &str,
        sha256: &Sha256Hex,
    ) -> Result<Answer> {
        match download::cached(context, download::name_of(url), sha256)? {
            Some(place) => Ok(Answer::Here(place)),
            None if context.offline => Ok(Answer::Absent),
            None => download::fetch(context, step, &self.apt, url, sha256),
        }
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

/// The first pin of which `get` gives each file.
fn first(
    pins: &[Pin],
    mut get: impl FnMut(&Pin, &File) -> Result<Option<PathBuf>>,
) -> Result<Option<Fetched>> {
    for pin in pins {
        let main = File { path: pin.path.clone(), sha256: pin.sha256.clone() };
        let Some(file) = get(pin, &main)? else { continue };
        let debian = match &pin.debian {
            Some(changes) => match get(pin, changes)? {
                Some(path) => Some(path),
                None => continue,
            },
            None => None,
        };
        return Ok(Some(Fetched { pin: pin.clone(), file, debian }));
    }
    Ok(None)
}

/// A file's addresses.
fn below(archives: &[Archive], file: &File) -> Vec<String> {
    archives.iter().map(|archive| format!("{}/{}", archive.uri, file.path)).collect()
}

/// The file from the first of its addresses that has it; none when all that were asked say that they do not.
fn first_that_has(
    path: &str,
    addresses: &[String],
    mut download: impl FnMut(&str) -> Result<Answer>,
) -> Result<Option<PathBuf>> {
    let mut failures = Vec::new();
    for url in addresses {
        match download(url)? {
            Answer::Here(place) => return Ok(Some(place)),
            Answer::Absent => {}
            Answer::Failed(reason) => failures.push(format!("{url}: {reason}")),
        }
    }
    match failures.is_empty() {
        true => Ok(None),
        false => Err(hinted(
            format!("`{path}` could not be fetched: {}", failures.join("; ")),
            "nothing was decided by it: run the same command again when the mirror answers and the disk \
             has room",
        )),
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
    use xtask_base::{cache::Cache, ui::Ui};

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

    fn pin(version: &str, bytes: &str) -> Pin {
        let text = format!(
            "version = '{version}'\nday = '2026-11-29'\npath = 'pool/x_{version}.tar'\nsha256 = '{}'",
            checksum::sha256(bytes.as_bytes())
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn another_version_is_taken_only_when_all_say_that_they_lack_the_first() {
        let pins = [pin("2", "two"), pin("1", "one")];
        let archives = ["http://a.test/debian", "http://b.test/debian"];
        let archives =
            archives.map(|uri| Archive { name: "debian".to_owned(), uri: uri.to_owned() });
        let fetch = |answer: &dyn Fn(&str) -> Answer| {
            first(&pins, |_, file| {
                first_that_has(&file.path, &below(&archives, file), |url| Ok(answer(url)))
            })
        };
        let here = |url: &str| Answer::Here(PathBuf::from(url));
        let of_both = fetch(&here).unwrap().unwrap();
        assert_eq!(of_both.file, Path::new("http://a.test/debian/pool/x_2.tar"));
        let dropped = |url: &str| if url.contains("_2") { Answer::Absent } else { here(url) };
        assert_eq!(fetch(&dropped).unwrap().unwrap().pin.version, "1");
        assert!(fetch(&|_| Answer::Absent).unwrap().is_none());
        // A mirror that cannot be reached may have it: it is no reason for an older version.
        let unreached = |url: &str| match url.contains("b.test") {
            true => Answer::Failed("Could not resolve 'b.test'".to_owned()),
            false => dropped(url),
        };
        let error = fetch(&unreached).map(drop).unwrap_err().to_string();
        assert_eq!(
            error,
            "`pool/x_2.tar` could not be fetched: http://b.test/debian/pool/x_2.tar: Could not resolve 'b.test'"
        );
        // Nor does it matter while another has it.
        let one = |url: &str| match url.contains("a.test") {
            true => Answer::Failed("503  Service Unavailable".to_owned()),
            false => here(url),
        };
        assert_eq!(fetch(&one).unwrap().unwrap().pin.version, "2");
    }

    /// A context and an apt whose mirror and past are folders.
    fn world(folder: &Path) -> (Context, PrivateApt) {
        let cache = Cache::at(&folder.join("cache")).unwrap();
        let ui = Ui::new(cache.logs());
        let context = Context { root: folder.to_owned(), cache, ui, offline: false };
        let private =
            Private::new(&context.cache.folder("apt").unwrap(), Arch::OF_PROCESS, "").unwrap();
        let uri = format!("file://{}", folder.join("now/debian").display());
        let archives = vec![Archive { name: "debian".to_owned(), uri }];
        let apt = PrivateApt { apt: private, has_source_lines: false, archives, past: |_| None };
        (context, apt)
    }

    #[test]
    fn what_the_mirror_has_dropped_comes_from_the_archives_past() {
        if !Path::new(apt::APT_HELPER).is_file() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (context, mut apt) = world(folder.path());
        let write = |place: &str, text: &str| {
            let place = folder.path().join(place);
            fs_err::create_dir_all(place.parent().unwrap()).unwrap();
            fs_err::write(place, text).unwrap();
        };
        write("now/debian/pool/x_3.tar", "three");
        write("past/debian/20261129T235959Z/pool/x_2.tar", "two");
        let fetch = |apt: &PrivateApt, pins: &[Pin]| {
            context.ui.step("Fetch", |step| apt.fetch(&context, step, "x", pins))
        };
        let two = [pin("2", "two")];
        let error = format!("{:#}", fetch(&apt, &two).map(drop).unwrap_err());
        assert!(error.contains("No mirror has a pinned version of `x` any more: 2"), "{error}");
        // The past of a mirror that is itself of one day lies beside it.
        let root = folder.path().join("past/debian/20200101T000000Z");
        apt.archives[0].uri = format!("file://{}", root.display());
        let found = fetch(&apt, &two).unwrap();
        assert_eq!(fs_err::read_to_string(&found.file).unwrap(), "two");
        assert!(!found.file.is_symlink(), "the cache has a copy of its own");
        // What a mirror has comes before what is to be had from the past, whatever stands first.
        apt.archives[0].uri = format!("file://{}", folder.path().join("now/debian").display());
        let both = [pin("4", "four"), pin("3", "three")];
        assert_eq!(fetch(&apt, &both).unwrap().pin.version, "3");
        // Another file under the name is an error and nothing else.
        let error = format!("{:#}", fetch(&apt, &[pin("3", "other")]).map(drop).unwrap_err());
        assert!(error.contains("has the sha256"), "{error}");
    }
}
