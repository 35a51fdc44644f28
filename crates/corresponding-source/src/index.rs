//! Where source packages are: the indexes of the archives that the wheels' packages come from, fetched by an apt
//! of our own, which checks their signatures and hashes.
//!
//! A package may hold parts of others (`Built-Using`): the signed kernel is put together from the one that is
//! built from the real source. The indexes of binary packages say so.

use crate::{Error, SourcePackage};
use duct::Expression;
use host_platform::Arch;
use image_builder::{
    apt::{self, Archive, Download, Private, Repository, snapshot},
    deb,
    lock::ArchLock,
    packages::Source,
    recipe::DistributionName,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The distributions whose source packages are known, with the components that have them.
const DISTRIBUTIONS: [(DistributionName, &str); 2] =
    [(DistributionName::Debian, "main"), (DistributionName::Ubuntu, "main universe")];

/// One mirror of an archive, with its keyring and components.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirror {
    archive: Archive,
    keyring: PathBuf,
    components: &'static str,
}

/// The mirrors of some distributions' archives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<Mirror>);

impl Mirrors {
    /// Those of these distributions, by the host's configuration or what the person named.
    ///
    /// # Errors
    /// A distribution is not known, or no mirror or keyring of it is.
    pub fn for_distributions<'a>(
        distributions: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        let mut mirrors = Vec::new();
        for wanted in BTreeSet::from_iter(distributions) {
            let known = DISTRIBUTIONS.iter().find(|(name, _)| name.as_str() == wanted);
            let (name, components) = known.ok_or_else(|| Error::Distribution {
                distribution: wanted.to_owned(),
                known: DISTRIBUTIONS.map(|(name, _)| name.as_str().to_owned()).into(),
            })?;
            let keyring = apt::keyring(*name)?;
            // Sources are where the first architecture is, also where others have an archive of their own.
            for archive in apt::archives(*name, Arch::Amd64)? {
                mirrors.push(Mirror { archive, keyring: keyring.clone(), components });
            }
        }
        Ok(Self(mirrors))
    }

    /// The mirror of an archive by the name that a lock gives it. Ubuntu's other archives are separate on some
    /// hosts only, and sources are in the first.
    fn find(&self, archive: &str) -> Option<&Mirror> {
        let named = |name: &str| self.0.iter().find(|mirror| mirror.archive.name == name);
        named(archive).or_else(|| named("ubuntu").filter(|_| archive.starts_with("ubuntu-")))
    }

    /// apt's list of these suites.
    fn list(&self, suites: &BTreeSet<(String, String)>, kinds: &[&str]) -> String {
        let mut lines = BTreeSet::new();
        for (archive, suite) in suites {
            let Some(mirror) = self.find(archive) else { continue };
            let Mirror { archive, keyring, components } = mirror;
            // What is dated has expired, as was asked for.
            let past = if apt::is_dated(&archive.uri) { " check-valid-until=no" } else { "" };
            let (keyring, uri) = (keyring.display(), &archive.uri);
            for kind in kinds {
                lines.insert(format!(
                    "{kind} [signed-by={keyring}{past}] {uri} {suite} {components}\n"
                ));
            }
        }
        lines.into_iter().collect()
    }
}

/// The archives and suites of the host's own packages: what its compiler added to programs comes from there.
fn suites_of_host(repositories: &[Repository]) -> BTreeSet<(String, String)> {
    let mut suites = BTreeSet::new();
    for repository in repositories.iter().filter(|it| it.types.iter().any(|kind| kind == "deb")) {
        for uri in &repository.uris {
            let name = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            suites.extend(repository.suites.iter().map(|suite| (name.to_owned(), suite.clone())));
        }
    }
    suites
}

/// Where the person says that the past of an archive is.
fn past_of_person(archive: &str) -> Option<String> {
    std::env::var(snapshot::variable(archive)).ok()
}

/// A file of a source package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its places below a mirror of one of the archives.
    pub paths: Vec<String>,
    pub name: String,
    /// Its size in bytes; 0 where it is not known.
    pub size: u64,
    pub sha256: String,
}

/// An apt that knows the archives' source packages, and for each architecture one that knows the others.
pub struct Index {
    mirrors: Mirrors,
    sources: Private,
    binaries: Vec<Private>,
}

impl Index {
    /// Writes its configuration into `folder`, for these suites and the host's.
    ///
    /// # Errors
    /// The host's configuration cannot be read, or ours not be written.
    pub fn new(
        folder: &Path,
        mirrors: &Mirrors,
        suites: &BTreeSet<(String, String)>,
    ) -> Result<Self, Error> {
        let mut suites = suites.clone();
        suites.extend(suites_of_host(&apt::repositories(Path::new("/etc/apt"))?));
        let of = |name: &str, arch, kinds: &[&str]| {
            Private::new(&folder.join(name), arch, &mirrors.list(&suites, kinds))
        };
        let binaries = [Arch::Amd64, Arch::Arm64].map(|arch| of(arch.image_name(), arch, &["deb"]));
        Ok(Self {
            mirrors: mirrors.clone(),
            sources: of("sources", Arch::Amd64, &["deb-src"])?,
            binaries: binaries.into_iter().collect::<Result<_, _>>()?,
        })
    }

    /// The commands that fetch the indexes and check their signatures.
    pub fn update(&self) -> Vec<Expression> {
        std::iter::once(&self.sources).chain(&self.binaries).map(Private::update).collect()
    }

    /// The files of each source package that the indexes have.
    ///
    /// # Errors
    /// apt cannot be asked.
    pub fn files(
        &self,
        packages: &BTreeSet<SourcePackage>,
    ) -> Result<BTreeMap<SourcePackage, Vec<SourceFile>>, Error> {
        if packages.is_empty() {
            return Ok(BTreeMap::new());
        }
        let names: BTreeSet<String> = packages.iter().map(|source| source.name.clone()).collect();
        let args = ["showsrc", "--only-source"].map(str::to_owned).into_iter().chain(names);
        // It ends with an error where it knows one of them not; what is missing shows below.
        let records = self.sources.command("apt-cache", args).stderr_null().unchecked().read()?;
        Ok(packages
            .iter()
            .map(|source| (source.clone(), files_of(&records, source)))
            .filter(|(_, files)| !files.is_empty())
            .collect())
    }

    /// The same archives as they were when a lock was written, the likeliest time first; none where nobody says
    /// where their past is.
    pub fn past(&self, lock: &ArchLock) -> Vec<Mirrors> {
        let states =
            snapshot::for_lock(&self.archives(), lock, &past_of_person, &self.sources.lists());
        states.into_iter().map(|archives| self.mirrors.at(archives)).collect()
    }

    /// The same as they were at the end of a day.
    pub fn past_of_day(&self, day: &str) -> Mirrors {
        let archives = self.archives();
        self.mirrors.at(snapshot::for_day(&archives, day, &past_of_person, &self.sources.lists()))
    }

    fn archives(&self) -> Vec<Archive> {
        self.mirrors.0.iter().map(|mirror| mirror.archive.clone()).collect()
    }

    /// The sources that binary packages were built using besides their own, by the source that those are of. Of
    /// a source whose binary packages are not named all count.
    ///
    /// # Errors
    /// Nothing is known of a package that is put together from others' results by its name (`…-signed…`).
    pub fn built_using(
        &self,
        packages: &BTreeSet<SourcePackage>,
        binaries: &BTreeMap<SourcePackage, BTreeSet<String>>,
    ) -> Result<BTreeMap<SourcePackage, BTreeSet<SourcePackage>>, Error> {
        let sources: BTreeSet<String> = packages.iter().map(|it| it.name.clone()).collect();
        let args = ["showsrc", "--only-source"].map(str::to_owned).into_iter().chain(sources);
        let records = self.sources.command("apt-cache", args).stderr_null().unchecked().read()?;
        let names_of = |source: &SourcePackage| match binaries.get(source) {
            Some(names) => names.clone(),
            None => binaries_of(&records, &source.name, &source.version),
        };
        let names: BTreeSet<String> = packages.iter().flat_map(names_of).collect();
        let mut all = String::new();
        for apt in &self.binaries {
            let args = std::iter::once("show".to_owned()).chain(names.iter().cloned());
            all += &apt.command("apt-cache", args).stderr_null().unchecked().read()?;
            all += "\n\n";
        }
        let mut found = BTreeMap::new();
        let mut unknown = Vec::new();
        for source in packages {
            match used(&all, source) {
                Some(used) if used.is_empty() => {}
                Some(used) => drop(found.insert(source.clone(), used)),
                None if source.name.contains("-signed") => unknown.push(source.words()),
                None => {}
            }
        }
        match unknown.is_empty() {
            true => Ok(found),
            false => Err(Error::BuiltUsing { packages: unknown }),
        }
    }

    /// The command that fetches files to their places, each checked against its hash.
    pub fn fetch(&self, files: &[Download]) -> Expression {
        self.sources.download(files)
    }
}

impl Mirrors {
    /// The same archives at other places; those without one are left out.
    fn at(&self, archives: Vec<Archive>) -> Self {
        let moved = |archive: Archive| {
            let mirror = self.0.iter().find(|mirror| mirror.archive.name == archive.name)?;
            Some(Mirror { archive, ..mirror.clone() })
        };
        Self(archives.into_iter().filter_map(moved).collect())
    }

    /// Where a path below the mirrors may be.
    pub fn addresses(&self, path: &str) -> Vec<String> {
        // As security archives have it.
        let is_security = path.starts_with("pool/updates/");
        let mut mirrors: Vec<&Archive> = self.0.iter().map(|mirror| &mirror.archive).collect();
        mirrors.sort_by_key(|archive| archive.name.ends_with("-security") != is_security);
        mirrors.into_iter().map(|archive| format!("{}/{path}", archive.uri)).collect()
    }
}

/// The files of a source package, of records as `apt-cache showsrc` prints; none where no record is of it.
fn files_of(records: &str, source: &SourcePackage) -> Vec<SourceFile> {
    let mut files: BTreeMap<String, SourceFile> = BTreeMap::new();
    for record in records_of(records, &source.name, &source.version) {
        let folder = deb::field(record, "Directory").unwrap_or_default();
        for (name, size, sha256) in continued(record, "Checksums-Sha256:").filter_map(sum) {
            let file = SourceFile { paths: Vec::new(), name: name.to_owned(), size, sha256 };
            let file = files.entry(name.to_owned()).or_insert(file);
            file.paths.push(format!("{folder}/{name}"));
        }
    }
    files.into_values().collect()
}

/// A line of `Checksums-Sha256`: name, size and hash.
fn sum(line: &str) -> Option<(&str, u64, String)> {
    let mut words = line.split_whitespace();
    let (sum, size, name) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    Some((name, size, sum.to_owned()))
}

/// The records of a source package of this version.
fn records_of<'a>(records: &'a str, name: &str, version: &str) -> Vec<&'a str> {
    let is_it = |record: &&str| {
        deb::field(record, "Package") == Some(name)
            && deb::field(record, "Version") == Some(version)
    };
    records.split("\n\n").filter(is_it).collect()
}

/// The binary packages of a source package.
fn binaries_of(records: &str, name: &str, version: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for record in records_of(records, name, version) {
        let first = deb::field(record, "Binary").unwrap_or_default();
        let names = std::iter::once(first).chain(continued(record, "Binary:"));
        found.extend(names.flat_map(|line| line.split(',')).map(|name| name.trim().to_owned()));
    }
    found.remove("");
    found
}

/// The lines that continue a field.
fn continued<'a>(record: &'a str, field: &'a str) -> impl Iterator<Item = &'a str> {
    let after = record.lines().skip_while(move |line| !line.starts_with(field)).skip(1);
    after.take_while(|line| line.starts_with(' '))
}

/// What the binary packages of a source were built using; none where no record is of it.
fn used(records: &str, source: &SourcePackage) -> Option<BTreeSet<SourcePackage>> {
    let is_of = |record: &&str| {
        let (name, version) = (deb::field(record, "Package"), deb::field(record, "Version"));
        let own = Source::from_control(record);
        let name = own.as_ref().map(|own| own.name.as_str()).or(name);
        let version = own.as_ref().and_then(|own| own.version.as_deref()).or(version);
        name == Some(&source.name) && version == Some(&source.version)
    };
    let mut records = records.split("\n\n").filter(is_of).peekable();
    records.peek()?;
    let fields = records.flat_map(|record| {
        ["Built-Using", "Static-Built-Using"].into_iter().filter_map(|key| deb::field(record, key))
    });
    let one = |text: &str| {
        let (name, version) = text.trim().strip_suffix(')')?.split_once(" (= ")?;
        Some(SourcePackage {
            distribution: source.distribution.clone(),
            name: name.to_owned(),
            version: version.to_owned(),
        })
    };
    Some(
        fields.flat_map(|list| list.split(',')).filter_map(one).filter(|it| it != source).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(name: &str, version: &str) -> SourcePackage {
        SourcePackage {
            distribution: "debian".to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }

    const SOURCES: &str = "Package: linux-signed-amd64\nBinary: linux-headers-amd64,\n linux-image-6.12-amd64\n\
        Version: 6.12.1+1\nDirectory: pool/updates/l\nFiles:\n c5 10 a.dsc\nChecksums-Sha256:\n f6 10 a.dsc\n 71 20 a.tar.xz\nHomepage: x\n\n\
        Package: linux-signed-amd64\nVersion: 6.12.2+1\nChecksums-Sha256:\n 00 1 b.dsc\n";

    fn mirrors() -> Mirrors {
        let mirror = |name: &str, uri: &str| Mirror {
            archive: Archive { name: name.to_owned(), uri: uri.to_owned() },
            keyring: "/k.gpg".into(),
            components: "main",
        };
        Mirrors(vec![
            mirror("debian", "http://m.test/debian"),
            mirror("debian-security", "http://s.test/archive/debian-security/20260101T000000Z"),
        ])
    }

    #[test]
    fn the_record_of_the_version_is_read() {
        let found = files_of(SOURCES, &linux("linux-signed-amd64", "6.12.1+1"));
        let files: Vec<_> = found.iter().map(|it| (&*it.name, it.size, &*it.sha256)).collect();
        assert_eq!(files, [("a.dsc", 10, "f6"), ("a.tar.xz", 20, "71")]);
        assert_eq!(found[0].paths, ["pool/updates/l/a.dsc"]);
        // An index may name what only the other archive has.
        assert_eq!(
            mirrors().addresses(&found[0].paths[0]),
            [
                "http://s.test/archive/debian-security/20260101T000000Z/pool/updates/l/a.dsc",
                "http://m.test/debian/pool/updates/l/a.dsc"
            ]
        );
        assert!(files_of(SOURCES, &linux("linux-signed-amd64", "6.12.3+1")).is_empty());
        assert!(files_of(SOURCES, &linux("linux", "6.12.1+1")).is_empty());
        let names = binaries_of(SOURCES, "linux-signed-amd64", "6.12.1+1");
        let expect = ["linux-headers-amd64", "linux-image-6.12-amd64"];
        assert_eq!(names, BTreeSet::from(expect.map(str::to_owned)));
    }

    /// The signed kernel's own source is a script that signs what another source has built.
    #[test]
    fn what_a_package_was_built_using_is_source_too() {
        let binaries = "Package: linux-image-6.12-amd64\nSource: linux-signed-amd64 (6.12.1+1)\nVersion: 6.12.1-1\n\
            Built-Using: linux (= 6.12.1-1), gcc-14 (= 14.2.0-19)\n\n\
            Package: linux-image-6.12-amd64\nSource: linux-signed-amd64 (6.12.2+1)\nVersion: 6.12.2-1\n\
            Built-Using: linux (= 6.12.2-1)\n\nPackage: bash\nVersion: 5.2-1\n";
        let found = used(binaries, &linux("linux-signed-amd64", "6.12.1+1")).unwrap();
        assert_eq!(
            found,
            BTreeSet::from([linux("gcc-14", "14.2.0-19"), linux("linux", "6.12.1-1")])
        );
        assert_eq!(used(binaries, &linux("bash", "5.2-1")), Some(BTreeSet::new()));
        assert_eq!(used(binaries, &linux("linux-signed-amd64", "6.12.3+1")), None);
    }

    #[test]
    fn suites_are_asked_at_the_mirror_of_their_archive() {
        let mirrors = mirrors();
        let suite = |archive: &str, suite: &str| (archive.to_owned(), suite.to_owned());
        let suites = BTreeSet::from([
            suite("debian", "trixie"),
            suite("debian-security", "trixie-security"),
            suite("elsewhere", "x"),
        ]);
        assert_eq!(
            mirrors.list(&suites, &["deb-src"]),
            "deb-src [signed-by=/k.gpg check-valid-until=no] http://s.test/archive/debian-security/20260101T000000Z trixie-security main\n\
             deb-src [signed-by=/k.gpg] http://m.test/debian trixie main\n"
        );
        let past = mirrors
            .at(vec![Archive { name: "debian".to_owned(), uri: "http://p.test".to_owned() }]);
        let suites = BTreeSet::from([suite("debian", "trixie"), suite("debian-security", "x")]);
        let text = past.list(&suites, &["deb-src"]);
        assert_eq!(text, "deb-src [signed-by=/k.gpg] http://p.test trixie main\n");
        let error = Mirrors::for_distributions(["alpine"]).unwrap_err().to_string();
        assert!(error.contains("`alpine`") && error.contains("debian, ubuntu"), "{error}");
    }
}
