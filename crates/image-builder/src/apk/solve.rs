//! Chooses the packages that a list of dependencies needs, out of the records of an index. Pure.
//!
//! Alpine's repositories hold one version of each package, so there is little to search: what is
//! needed is taken as it is met, and where a later dependency rules an earlier choice out, the work begins
//! again with that dependency known from the start.

use super::{
    index::{Dependency, Record},
    version,
};
use crate::{Error, PackageError};
use std::collections::BTreeSet;

/// How often the work may begin again.
const MAX_ATTEMPTS: usize = 64;

/// The places in `records` of what is to be installed. `installed` is there already and stays.
pub fn solve(
    records: &[Record],
    wanted: &[Dependency],
    installed: &[Record],
) -> Result<Vec<usize>, Error> {
    let mut learned: Vec<Dependency> = Vec::new();
    for _ in 0..MAX_ATTEMPTS {
        let mut attempt = Attempt {
            records,
            installed,
            learned: &learned,
            chosen: BTreeSet::new(),
            conflicts: Vec::new(),
        };
        match attempt.all(wanted) {
            Ok(()) => return Ok(attempt.chosen.into_iter().collect()),
            Err(Trouble::Impossible(error)) => return Err(error),
            Err(Trouble::Learned(learned_now)) => {
                let (dependency, error) = *learned_now;
                if learned.contains(&dependency) {
                    return Err(error);
                }
                learned.push(dependency);
            }
        }
    }
    let dependencies: Vec<String> = learned.iter().map(describe).collect();
    Err(Error::Package(PackageError::Unsolvable {
        dependency: dependencies.join(" "),
        by: "the recipe".to_owned(),
    }))
}

enum Trouble {
    Impossible(Error),
    /// A dependency that is to be known from the start, and the error if it is known already.
    Learned(Box<(Dependency, Error)>),
}

struct Attempt<'a> {
    records: &'a [Record],
    installed: &'a [Record],
    learned: &'a [Dependency],
    chosen: BTreeSet<usize>,
    /// What must not be there, and who says so.
    conflicts: Vec<(&'a Dependency, &'a str)>,
}

impl<'a> Attempt<'a> {
    fn all(&mut self, wanted: &'a [Dependency]) -> Result<(), Trouble> {
        let installed = self.installed;
        for record in installed {
            let conflicts = record.depends.iter().filter(|dependency| dependency.is_conflict);
            self.conflicts.extend(conflicts.map(|dependency| (dependency, record.name.as_str())));
        }
        // What was asked for by name is there before anything comes along with it: it decides who
        // provides a shared name.
        let (names, rest): (Vec<_>, Vec<_>) = wanted.iter().partition(|dependency| {
            self.records.iter().any(|record| record.name == dependency.name)
        });
        let mut taken = Vec::new();
        for dependency in names {
            if let Some(place) = self.pick(dependency, "the recipe")? {
                self.chosen.insert(place);
                taken.push(place);
            }
        }
        taken.into_iter().try_for_each(|place| self.follow(place))?;
        rest.into_iter().try_for_each(|dependency| self.need(dependency, "the recipe"))?;
        // What comes along by itself may make more come along.
        let records = self.records;
        loop {
            let next = records.iter().enumerate().position(|(place, record)| {
                !record.install_if.is_empty()
                    && self.holder(&record.name).is_none()
                    && self.may_come(place).is_ok()
                    && record.install_if.iter().all(|dependency| {
                        dependency.is_conflict
                            != self.present().any(|it| it.answer(dependency).is_some())
                    })
            });
            let Some(place) = next else { return Ok(()) };
            self.take(place)?;
        }
    }

    fn present(&self) -> impl Iterator<Item = &'a Record> {
        let records = self.records;
        self.installed.iter().chain(self.chosen.iter().map(move |place| &records[*place]))
    }

    fn holder(&self, name: &str) -> Option<&'a Record> {
        self.present().find(|record| record.name == name)
    }

    fn need(&mut self, dependency: &'a Dependency, by: &'a str) -> Result<(), Trouble> {
        match self.pick(dependency, by)? {
            Some(place) => self.take(place),
            None => Ok(()),
        }
    }

    /// The package that a dependency needs, unless it is met already.
    fn pick(&mut self, dependency: &'a Dependency, by: &'a str) -> Result<Option<usize>, Trouble> {
        if dependency.is_conflict {
            // A package may forbid what it provides itself.
            let there = self.present().find(|it| it.name != by && it.answer(dependency).is_some());
            self.conflicts.push((dependency, by));
            return match there {
                Some(there) => Err(Trouble::Impossible(conflict(&there.name, by))),
                None => Ok(None),
            };
        }
        if self.present().any(|record| record.answer(dependency).is_some()) {
            return Ok(None);
        }
        let mut hindrance = None;
        let mut candidates: Vec<usize> = Vec::new();
        for (place, record) in self.records.iter().enumerate() {
            if record.answer(dependency).is_none() || self.is_ruled_out(record) {
                continue;
            }
            match self.may_come(place) {
                Ok(()) => candidates.push(place),
                Err(error) => hindrance = Some(error),
            }
        }
        let best = self.best(&candidates, dependency).map_err(Trouble::Impossible)?;
        if best.is_none() {
            let error = hindrance.unwrap_or_else(|| {
                Error::Package(PackageError::Unsolvable {
                    dependency: describe(dependency),
                    by: by.to_owned(),
                })
            });
            // Another version of it was taken before anybody asked for this one.
            let is_taken = self.chosen.iter().any(|place| {
                let record = &self.records[*place];
                let named = Dependency { constraint: None, ..dependency.clone() };
                record.answer(&named).is_some()
            });
            return Err(match is_taken {
                true => Trouble::Learned(Box::new((dependency.clone(), error))),
                false => Trouble::Impossible(error),
            });
        }
        Ok(best)
    }

    fn take(&mut self, place: usize) -> Result<(), Trouble> {
        self.chosen.insert(place);
        self.follow(place)
    }

    /// Brings what a package that is taken needs.
    fn follow(&mut self, place: usize) -> Result<(), Trouble> {
        let record = &self.records[place];
        // What it forbids is known before anything comes along with it.
        let (conflicts, needs): (Vec<_>, Vec<_>) =
            record.depends.iter().partition(|dependency| dependency.is_conflict);
        conflicts
            .into_iter()
            .chain(needs)
            .try_for_each(|dependency| self.need(dependency, &record.name))
    }

    /// Whether a dependency that is known from the start speaks against it.
    fn is_ruled_out(&self, record: &Record) -> bool {
        self.learned.iter().any(|dependency| {
            let named = Dependency { constraint: None, ..dependency.clone() };
            record.answer(&named).is_some() && record.answer(dependency).is_none()
        })
    }

    /// Whether nothing that is there speaks against it.
    fn may_come(&self, place: usize) -> Result<(), Error> {
        let record = &self.records[place];
        if let Some(there) = self.holder(&record.name) {
            return Err(conflict(&there.name, &record.name));
        }
        let forbidden = self
            .conflicts
            .iter()
            .find(|(dependency, by)| *by != record.name && record.answer(dependency).is_some());
        if let Some((_, by)) = forbidden {
            return Err(conflict(&record.name, by));
        }
        // A name with a version belongs to one package alone.
        let claims = |record: &Record| -> BTreeSet<String> {
            let versioned = record.provides.iter().filter(|provided| provided.version.is_some());
            versioned.map(|provided| provided.name.clone()).chain([record.name.clone()]).collect()
        };
        let own = claims(record);
        match self.present().find(|there| !claims(there).is_disjoint(&own)) {
            Some(there) => Err(conflict(&there.name, &record.name)),
            None => Ok(()),
        }
    }

    /// The package of that name before those that provide it, a larger priority before a smaller,
    /// a later version before an earlier.
    fn best(&self, candidates: &[usize], dependency: &Dependency) -> Result<Option<usize>, Error> {
        let record = |place: &usize| &self.records[*place];
        let rank = |place: &usize| (record(place).name == dependency.name, record(place).priority);
        let Some(top) = candidates.iter().map(rank).max() else { return Ok(None) };
        let mut best: Vec<usize> =
            candidates.iter().copied().filter(|place| rank(place) == top).collect();
        best.sort_by(|a, b| {
            let (a, b) = (record(a), record(b));
            version::compare(&b.version, &a.version).then_with(|| a.name.cmp(&b.name))
        });
        let names: BTreeSet<&str> = best.iter().map(|place| record(place).name.as_str()).collect();
        let is_open = top == (false, 0)
            && best.iter().any(|place| record(place).answer(dependency) == Some(None));
        if names.len() > 1 && is_open {
            // apk leaves this choice to the person too.
            return Err(Error::Package(PackageError::ManyProviders {
                dependency: describe(dependency),
                packages: names.into_iter().map(str::to_owned).collect(),
            }));
        }
        Ok(best.first().copied())
    }
}

fn describe(dependency: &Dependency) -> String {
    match &dependency.constraint {
        Some(version) => format!("{}{version}", dependency.name),
        None => dependency.name.clone(),
    }
}

fn conflict(package: &str, by: &str) -> Error {
    Error::Package(PackageError::Conflict { package: package.to_owned(), other: by.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apk::index::parse;
    use std::path::Path;

    /// Records from lines `name version; depends; provides; install_if; priority`.
    fn records(lines: &[&str]) -> Vec<Record> {
        let text: String = lines
            .iter()
            .map(|line| {
                let mut parts = line.split(';').map(str::trim);
                let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
                let mut field = |key: &str| match parts.next() {
                    None | Some("") => String::new(),
                    Some(value) => format!("{key}:{value}\n"),
                };
                let (depends, provides, install_if, priority) =
                    (field("D"), field("p"), field("i"), field("k"));
                format!("C:Q1x\nP:{name}\nV:{version}\n{depends}{provides}{install_if}{priority}\n")
            })
            .collect();
        parse(&text, "r", Path::new("index")).unwrap()
    }

    fn chosen(lines: &[&str], wanted: &[&str], installed: &[&str]) -> Result<Vec<String>, String> {
        let (index, installed) = (records(lines), records(installed));
        let wanted: Vec<_> = wanted.iter().map(|text| Dependency::parse(text).unwrap()).collect();
        solve(&index, &wanted, &installed)
            .map(|places| {
                let mut names: Vec<String> = places
                    .into_iter()
                    .map(|place| format!("{}-{}", index[place].name, index[place].version))
                    .collect();
                names.sort();
                names
            })
            .map_err(|error| error.to_string())
    }

    const INDEX: [&str; 12] = [
        "musl 1.2-r0;;so:libc.musl.so.1=1",
        "busybox 1.37-r1;so:libc.musl.so.1;cmd:awk=1.37-r1",
        "busybox-binsh 1.37-r1;busybox=1.37-r1;/bin/sh cmd:sh=1.37-r1;;100",
        "dash-binsh 0.5-r0;;/bin/sh cmd:sh=0.5-r0;;60",
        "bash 5.2-r0;/bin/sh so:libc.musl.so.1",
        "bash-completion 2.1-r0;bash",
        "git 2.4-r0;",
        "git-bash-completion 2.4-r0;;;git=2.4-r0 bash-completion",
        "mta-a 1-r0;;mta",
        "mta-b 1-r0;;mta",
        "lib 1.0-r0",
        "lib 2.0-r0",
    ];

    #[test]
    fn what_is_needed_comes_along() {
        assert_eq!(
            chosen(&INDEX, &["bash"], &[]).unwrap(),
            ["bash-5.2-r0", "busybox-1.37-r1", "busybox-binsh-1.37-r1", "musl-1.2-r0"]
        );
        // The provider that was asked for by name stands in for the preferred one.
        let with_dash = chosen(&INDEX, &["bash", "dash-binsh"], &[]).unwrap();
        assert_eq!(with_dash, ["bash-5.2-r0", "dash-binsh-0.5-r0", "musl-1.2-r0"]);
    }

    #[test]
    fn pieces_come_where_both_halves_are() {
        let git = chosen(&INDEX, &["git"], &[]).unwrap();
        assert_eq!(git, ["git-2.4-r0"]);
        let both = chosen(&INDEX, &["git", "bash-completion"], &[]).unwrap();
        assert!(both.contains(&"git-bash-completion-2.4-r0".to_owned()), "{both:?}");
    }

    #[test]
    fn what_is_below_an_overlay_is_not_chosen_again() {
        let below = ["musl 1.2-r0;;so:libc.musl.so.1=1", "dash-binsh 0.5-r0;;/bin/sh"];
        assert_eq!(chosen(&INDEX, &["bash"], &below).unwrap(), ["bash-5.2-r0"]);
    }

    #[test]
    fn a_later_constraint_overrides_an_earlier_choice() {
        let mut index = INDEX.to_vec();
        index.extend(["a 1;lib", "b 1;lib<2"]);
        assert_eq!(chosen(&index, &["a"], &[]).unwrap(), ["a-1", "lib-2.0-r0"]);
        assert_eq!(chosen(&index, &["a", "b"], &[]).unwrap(), ["a-1", "b-1", "lib-1.0-r0"]);
    }

    #[test]
    fn a_conflict_names_the_packages_that_cause_it() {
        let says = |wanted: &[&str], parts: &[&str]| {
            let mut index = INDEX.to_vec();
            index.extend(["a 1;lib<1", "b 1;!git", "c 1;nothing>=7"]);
            let error = chosen(&index, wanted, &[]).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        };
        says(&["a"], &["lib<1", "`a`"]);
        says(&["git", "b"], &["git", "`b`"]);
        says(&["b", "git"], &["git", "`b`"]);
        says(&["c"], &["nothing>=7"]);
        says(&["mta"], &["mta-a", "mta-b"]);
        says(&["gti"], &["gti"]);
        assert_eq!(chosen(&INDEX, &["mta", "mta-b"], &[]).unwrap(), ["mta-b-1-r0"]);
    }
}
