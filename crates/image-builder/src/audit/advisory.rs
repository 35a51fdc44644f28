//! Advisories: read from files of one or many, and asked whether a version is among the flawed ones.
//! <https://ossf.github.io/osv-schema/>

use super::version::Ecosystem;
use crate::{AuditError, Error};
use fs_err as fs;
use serde::Deserialize;
use serde_json::Value;
use std::{
    cmp::Ordering,
    collections::HashMap,
    path::{Path, PathBuf},
};

/// One advisory: the fields that count here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Advisory {
    pub id: String,
    #[serde(default)]
    pub modified: String,
    #[serde(default)]
    pub withdrawn: Option<String>,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it was made from: a distribution's record names the flaw's number here.
    #[serde(default)]
    pub upstream: Vec<String>,
    #[serde(default)]
    pub summary: String,
    #[serde(default)]
    pub details: String,
    #[serde(default)]
    pub affected: Vec<Affected>,
}

/// A package and its flawed versions.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Affected {
    pub package: Option<Package>,
    #[serde(default)]
    pub ranges: Vec<Range>,
    #[serde(default)]
    pub versions: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Package {
    pub ecosystem: String,
    pub name: String,
}

/// A range of versions.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Range {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

/// Where a range begins and ends.
#[derive(Clone, Debug, Deserialize)]
struct Event {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
    limit: Option<String>,
}

/// What an advisory says of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not about it.
    Sound,
    /// It has the flaw; the version that is mended.
    Flawed(Option<String>),
    /// The versions cannot be compared.
    Undecided,
}

/// Before every version.
const FIRST: &str = "0";

impl Range {
    /// Whether a version is in the range, as the schema's section on evaluation has it; `None` where it cannot be
    /// compared.
    pub fn holds(&self, ecosystem: Ecosystem, version: &str) -> Option<bool> {
        // Ranges of commits say nothing of versions.
        if self.kind == "GIT" {
            return Some(false);
        }
        let compare = |other: &str| match other {
            FIRST => Some(Ordering::Greater),
            other => ecosystem.compare(version, other),
        };
        let mut limits = self.events.iter().filter_map(|event| event.limit.as_deref()).peekable();
        if limits.peek().is_some() {
            let below = limits.map(|limit| Some(limit == "*" || compare(limit)?.is_lt()));
            if !below.collect::<Option<Vec<bool>>>()?.contains(&true) {
                return Some(false);
            }
        }
        // The last change at or below the version decides: of the changes at one version the mend, unless the
        // flaw comes back with it.
        let mut last: Option<(&str, bool)> = None;
        for event in &self.events {
            let changes = [
                (event.introduced.as_deref(), true, true),
                (event.fixed.as_deref(), false, true),
                (event.last_affected.as_deref(), false, false),
            ];
            for (at, is_flawed, is_from_there) in changes {
                let Some(at) = at else { continue };
                let order = compare(at)?;
                if order.is_lt() || (order.is_eq() && !is_from_there) {
                    continue;
                }
                let is_later = match last {
                    None => true,
                    Some((before, _)) => match (before, at) {
                        (FIRST, _) => true,
                        (_, FIRST) => false,
                        (before, at) => ecosystem.compare(at, before)?.is_ge(),
                    },
                };
                if is_later {
                    last = Some((at, is_flawed));
                }
            }
        }
        Some(last.is_some_and(|(_, is_flawed)| is_flawed))
    }

    /// The first mended version above this one.
    pub fn first_fixed(&self, ecosystem: Ecosystem, version: &str) -> Option<String> {
        let fixed = self.events.iter().filter_map(|event| event.fixed.as_deref());
        let above =
            fixed.filter(|fixed| ecosystem.compare(fixed, version).is_some_and(Ordering::is_gt));
        let first =
            above.reduce(
                |a, b| {
                    if ecosystem.compare(b, a).is_some_and(Ordering::is_lt) { b } else { a }
                },
            );
        first.map(str::to_owned)
    }
}

/// Advisories, by what they are about.
#[derive(Debug, Default)]
pub struct Advisories {
    all: Vec<Advisory>,
    by_name: HashMap<(Ecosystem, String), Vec<usize>>,
}

impl Advisories {
    /// Reads files of advisories, and the `.json` files of folders. A file holds one advisory, a list of them, an
    /// object whose `vulns` they are, or one on each line.
    ///
    /// # Errors
    /// A file cannot be read, or what it holds is no advisory.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut found = Self::default();
        for path in paths {
            if path.is_dir() {
                let entries = fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
                let mut files: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).collect();
                files.retain(|file| file.extension().is_some_and(|suffix| suffix == "json"));
                files.sort();
                if files.is_empty() {
                    return Err(bad(path, "the folder holds no .json file"));
                }
                for file in files {
                    found.add_file(&file)?;
                }
            } else {
                found.add_file(path)?;
            }
        }
        Ok(found)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        self.add(&fs::read(path)?).map_err(|detail| bad(path, &detail))
    }

    /// Adds the advisories of a text.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        let documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let mut n_documents = 0;
        for document in documents {
            let document = document.map_err(|error| error.to_string())?;
            n_documents += 1;
            let list = match document {
                Value::Array(list) => list,
                Value::Object(mut fields) => match fields.remove("vulns") {
                    Some(Value::Array(list)) => list,
                    Some(_) => return Err("its `vulns` is no list".to_owned()),
                    None => vec![Value::Object(fields)],
                },
                other => return Err(format!("it holds `{}`, which is no advisory", short(&other))),
            };
            for one in list {
                let name = one["id"].as_str().unwrap_or("without an `id`").to_owned();
                let advisory: Advisory = serde_json::from_value(one)
                    .map_err(|error| format!("the advisory {name}: {error}"))?;
                self.insert(advisory);
            }
        }
        match n_documents {
            0 => Err("it is empty".to_owned()),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, advisory: Advisory) {
        // Taken back by those who wrote it.
        if advisory.withdrawn.is_some() {
            return;
        }
        let number = self.all.len();
        for package in advisory.affected.iter().filter_map(|affected| affected.package.as_ref()) {
            let Some(ecosystem) = Ecosystem::from_name(&package.ecosystem) else { continue };
            let name = ecosystem.name(&package.name);
            let numbers = self.by_name.entry((ecosystem, name)).or_default();
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        }
        self.all.push(advisory);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// When the newest one was changed.
    pub fn newest(&self) -> Option<&str> {
        let times = self.all.iter().map(|one| one.modified.as_str());
        times.max().filter(|time| !time.is_empty())
    }

    pub(super) fn about(
        &self,
        ecosystem: Ecosystem,
        name: &str,
    ) -> impl Iterator<Item = &Advisory> {
        let numbers = self.by_name.get(&(ecosystem, name.to_owned()));
        numbers.into_iter().flatten().map(|number| &self.all[*number])
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

fn bad(path: &Path, detail: &str) -> Error {
    Error::Audit(AuditError::BadAdvisories { path: path.to_owned(), detail: detail.to_owned() })
}
