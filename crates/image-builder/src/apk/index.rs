//! Reads an index of Alpine's, `APKINDEX`: a record for each package, a letter for each field, see
//! apk-repositories(5) and the wiki's "Apk spec". Pure.

use super::version::Constraint;
use crate::{Error, PackageError};
use std::path::Path;

/// A package as an index describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub version: String,
    /// Its architecture.
    pub arch: String,
    /// The file's size in bytes.
    pub size: u64,
    /// `Q1` and the sha1 of its control segment in base64.
    pub checksum: String,
    /// What it needs, and what it cannot be beside.
    pub depends: Vec<Dependency>,
    /// The other names that it answers to.
    pub provides: Vec<Provided>,
    /// It comes by itself where all of these are.
    pub install_if: Vec<Dependency>,
    /// Which of several that provide a name is taken: the one with the largest.
    pub priority: u64,
    /// When it was built, in seconds since the epoch.
    pub built: i64,
    /// Where its repository lies below the mirror's root: `v3.22/main/x86_64`.
    pub repository: String,
}

/// What a package needs: `name`, `name>=1.2`, `so:libc.musl-x86_64.so.1`, or `!name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    pub name: String,
    /// Which versions will do; any when there is none.
    pub constraint: Option<Constraint>,
    /// Whether it must not be there.
    pub is_conflict: bool,
}

/// A name that a package answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provided {
    pub name: String,
    /// The version that it answers with. Packages may share a name that has none.
    pub version: Option<String>,
}

impl Dependency {
    /// Reads a dependency; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_conflict, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // `name@tag` picks a repository of that tag, which images have none of.
        let text = text.split('@').next().unwrap_or(text);
        let start = text.find(['<', '>', '=', '~']).unwrap_or(text.len());
        let (name, rest) = text.split_at(start);
        let end = rest.find(|c| !"<>=~".contains(c)).unwrap_or(rest.len());
        let (operator, version) = rest.split_at(end);
        let constraint = match operator {
            "" => None,
            operator => Some(Constraint::new(operator, version)?),
        };
        (!name.is_empty()).then(|| Self { name: name.to_owned(), constraint, is_conflict })
    }

    /// Whether a version will do.
    pub fn is_met_by(&self, version: Option<&str>) -> bool {
        match (&self.constraint, version) {
            (None, _) => true,
            (Some(constraint), Some(version)) => constraint.is_met_by(version),
            // A name without a version cannot promise one.
            (Some(_), None) => false,
        }
    }
}

impl Provided {
    fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, version)) => {
                Self { name: name.to_owned(), version: Some(version.to_owned()) }
            }
            None => Self { name: text.to_owned(), version: None },
        }
    }
}

impl Record {
    /// The version by which it meets a dependency: `Some(None)` for a name that has none.
    pub fn answer(&self, dependency: &Dependency) -> Option<Option<&str>> {
        let own = (self.name == dependency.name).then_some(Some(self.version.as_str()));
        own.into_iter()
            .chain(
                self.provides
                    .iter()
                    .filter(|provided| provided.name == dependency.name)
                    .map(|provided| provided.version.as_deref()),
            )
            .find(|version| dependency.is_met_by(*version))
    }

    /// The path of its file below the mirror's root.
    pub fn path(&self) -> String {
        format!("{}/{}-{}.apk", self.repository, self.name, self.version)
    }
}

/// Reads an index. `repository` is where it lies below the mirror's root, `path` is for messages.
pub fn parse(text: &str, repository: &str, path: &Path) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for stanza in text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
        let record = record(stanza, repository).ok_or_else(|| {
            Error::Package(PackageError::BadIndex {
                path: path.to_owned(),
                record: stanza.lines().take(3).collect::<Vec<_>>().join(" "),
            })
        })?;
        records.push(record);
    }
    Ok(records)
}

fn record(stanza: &str, repository: &str) -> Option<Record> {
    let mut record = Record { repository: repository.to_owned(), ..Record::default() };
    for line in stanza.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once(':')?;
        let dependencies =
            || value.split_whitespace().map(Dependency::parse).collect::<Option<Vec<_>>>();
        match key {
            "P" => record.name = value.to_owned(),
            "V" => record.version = value.to_owned(),
            "A" => record.arch = value.to_owned(),
            "S" => record.size = value.parse().ok()?,
            "C" => record.checksum = value.to_owned(),
            "D" => record.depends = dependencies()?,
            "i" => record.install_if = dependencies()?,
            "p" => record.provides = value.split_whitespace().map(Provided::parse).collect(),
            "k" => record.priority = value.parse().ok()?,
            "t" => record.built = value.parse().ok()?,
            _ => {}
        }
    }
    // Both become parts of a path.
    let is_plain =
        |text: &str| !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\\', ' ']);
    (is_plain(&record.name) && is_plain(&record.version) && record.checksum.starts_with("Q1"))
        .then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_with_all_that_matters() {
        let text = "C:Q1abc=\nP:bash\nV:5.2.37-r0\nA:x86_64\nS:470000\nI:1\nT:a shell\nL:GPL-3.0-or-later\nD:/bin/sh so:libc.musl-x86_64.so.1 readline>=8 !old~1.2\np:cmd:bash=5.2.37-r0 sh\ni:docs bash-base=5\nk:10\n\n";
        let records = parse(text, "v3.22/main/x86_64", Path::new("x")).unwrap();
        let [bash] = &records[..] else { panic!("{records:?}") };
        assert_eq!(bash.path(), "v3.22/main/x86_64/bash-5.2.37-r0.apk");
        assert_eq!((bash.size, bash.priority, bash.depends.len()), (470_000, 10, 4));
        assert!(bash.depends[3].is_conflict && bash.depends[3].is_met_by(Some("1.2.9-r0")));
        let asks = |text: &str| bash.answer(&Dependency::parse(text).unwrap());
        assert_eq!(asks("bash>5"), Some(Some("5.2.37-r0")));
        assert_eq!(asks("cmd:bash<5"), None);
        assert_eq!(asks("sh"), Some(None));
        assert_eq!(asks("sh=1"), None);
    }

    #[test]
    fn a_malformed_index_is_an_error_with_the_files_name() {
        for text in ["P:x\nV:1\nno field\n", "P:../x\nV:1\nC:Q1a\n", "P:x\nV:1\nC:Q1a\nD:a><Q1b\n"]
        {
            let error = parse(text, "r", Path::new("APKINDEX")).unwrap_err();
            assert!(error.to_string().contains("APKINDEX"), "{error}");
        }
    }
}
