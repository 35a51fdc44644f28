//! Which wheels an installation needs: what was asked for, and what that needs in turn.
//!
//! Differences from pip: there is no going back. A distribution is taken at the newest version that
//! everything known so far allows; a later requirement that it does not meet is an error that names
//! both. Our packages depend on each other by exact versions, where this is the same.

use crate::{Error, environment::Environment, names::Request, page::Offer};
use pep440_rs::{Operator, Version, VersionSpecifiers};
use pep508_rs::{ExtraName, Requirement, VerbatimUrl, VersionOrUrl};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

/// Where offers and wheels come from.
pub trait Supply {
    /// Every wheel of a distribution that can be had.
    fn offers(&mut self, distribution: &str) -> Result<Vec<Offer>, Error>;
    /// The wheel itself, verified.
    fn fetch(&mut self, offer: &Offer) -> Result<PathBuf, Error>;
    /// The text of METADATA of a fetched wheel.
    fn metadata(&mut self, wheel: &std::path::Path) -> Result<String, Error>;
}

/// A wheel to install.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    pub distribution: String,
    pub version: Version,
    pub wheel: PathBuf,
    /// Asked for by its name, not needed by another one.
    pub is_requested: bool,
    /// Why it was fetched, for messages.
    asked_by: String,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Solution {
    pub chosen: Vec<Chosen>,
    /// Distributions with the version that is there already.
    pub already: Vec<(String, Version)>,
    /// Optional ones that are not offered, with the reason.
    pub left_out: Vec<(String, String)>,
}

struct Constraint {
    distribution: String,
    versions: VersionSpecifiers,
    extras: Vec<ExtraName>,
    file: Option<Offer>,
    is_optional: bool,
    /// The distribution that needs it; `None` when it was asked for.
    by: Option<String>,
}

/// Chooses and fetches everything.
pub fn solve(
    environment: &Environment,
    requests: &[Request],
    upgrade: bool,
    supply: &mut dyn Supply,
) -> Result<Solution, Error> {
    let mut constraints: VecDeque<Constraint> =
        requests.iter().map(Constraint::from_request).collect();
    let mut solution = Solution::default();
    let mut extras_done: BTreeMap<String, Vec<ExtraName>> = BTreeMap::new();
    while let Some(constraint) = constraints.pop_front() {
        let known = solution
            .chosen
            .iter()
            .position(|chosen| chosen.distribution == constraint.distribution);
        let index = match known {
            Some(index) => {
                meet(&constraint, &solution.chosen[index])?;
                index
            }
            None => {
                if let Some(version) = enough(environment, &constraint, upgrade) {
                    let entry = (constraint.distribution.clone(), version);
                    if !solution.already.contains(&entry) {
                        solution.already.push(entry);
                    }
                    continue;
                }
                let offer = match choose(environment, &constraint, supply)? {
                    Ok(offer) => offer,
                    Err(reason) if constraint.is_optional => {
                        solution.left_out.push((constraint.distribution, reason));
                        continue;
                    }
                    Err(reason) => return Err(not_offered(&constraint, &reason)),
                };
                let wheel = supply.fetch(&offer)?;
                solution.chosen.push(Chosen {
                    distribution: constraint.distribution.clone(),
                    version: offer.version,
                    wheel,
                    is_requested: constraint.by.is_none(),
                    asked_by: constraint.asked_by(),
                });
                solution.chosen.len() - 1
            }
        };
        let chosen = &mut solution.chosen[index];
        chosen.is_requested |= constraint.by.is_none();
        let done = extras_done.entry(constraint.distribution.clone()).or_default();
        let is_new = known.is_none() || constraint.extras.iter().any(|extra| !done.contains(extra));
        if !is_new {
            continue;
        }
        done.extend(constraint.extras.clone());
        let metadata = supply.metadata(&chosen.wheel)?;
        for requirement in requirements(&metadata, &constraint.distribution)? {
            if requirement.marker.evaluate(&environment.markers, &constraint.extras) {
                constraints.push_back(Constraint::from_requirement(
                    requirement,
                    &constraint.distribution,
                )?);
            }
        }
    }
    Ok(solution)
}

impl Constraint {
    fn from_request(request: &Request) -> Self {
        let file = request.file.as_ref().and_then(|path| {
            Offer::new(&path.file_name()?.to_string_lossy(), crate::page::Place::File(path.clone()))
        });
        Self {
            distribution: request.distribution.clone(),
            versions: request.versions.clone(),
            extras: Vec::new(),
            file,
            is_optional: request.is_optional,
            by: None,
        }
    }

    fn from_requirement(requirement: Requirement<VerbatimUrl>, by: &str) -> Result<Self, Error> {
        let distribution = requirement.name.to_string();
        let versions = match requirement.version_or_url {
            None => VersionSpecifiers::default(),
            Some(VersionOrUrl::VersionSpecifier(versions)) => versions,
            Some(VersionOrUrl::Url(url)) => {
                let (by, url) = (by.to_owned(), url.to_string());
                return Err(Error::UrlRequirement { by, distribution, url });
            }
        };
        let (extras, by) = (requirement.extras, Some(by.to_owned()));
        Ok(Self { distribution, versions, extras, file: None, is_optional: false, by })
    }

    fn asked_by(&self) -> String {
        match &self.by {
            Some(by) => format!("{by} needs {}{}", self.distribution, self.versions_text()),
            None => format!("{}{} was asked for", self.distribution, self.versions_text()),
        }
    }

    fn versions_text(&self) -> String {
        if self.versions.is_empty() { String::new() } else { format!(" {}", self.versions) }
    }
}

/// What is installed, if it will do.
fn enough(environment: &Environment, constraint: &Constraint, upgrade: bool) -> Option<Version> {
    if constraint.file.is_some() || (upgrade && constraint.by.is_none()) {
        return None;
    }
    let installed = environment.installed(&constraint.distribution)?;
    constraint.versions.contains(&installed.version).then_some(installed.version)
}

fn meet(constraint: &Constraint, chosen: &Chosen) -> Result<(), Error> {
    if constraint.versions.contains(&chosen.version) {
        return Ok(());
    }
    Err(Error::Conflict {
        wanted: constraint.asked_by(),
        chosen: chosen.asked_by.clone(),
        version: chosen.version.to_string(),
    })
}

fn not_offered(constraint: &Constraint, reason: &str) -> Error {
    let by = constraint.by.as_ref().map_or_else(String::new, |by| format!(" (needed by {by})"));
    Error::NotOffered {
        distribution: constraint.distribution.clone(),
        by,
        reason: reason.to_owned(),
    }
}

/// The best offer, or why there is none.
fn choose(
    environment: &Environment,
    constraint: &Constraint,
    supply: &mut dyn Supply,
) -> Result<Result<Offer, String>, Error> {
    let offers = match &constraint.file {
        Some(offer) => vec![offer.clone()],
        None => supply.offers(&constraint.distribution)?,
    };
    let python = environment.python.as_ref().and_then(crate::python::Interpreter::version);
    Ok(best(&offers, constraint, environment, python.as_ref()))
}

fn best(
    offers: &[Offer],
    constraint: &Constraint,
    environment: &Environment,
    python: Option<&Version>,
) -> Result<Offer, String> {
    if offers.is_empty() {
        let mut reason = "no index or folder that was asked has one".to_owned();
        if crate::names::is_unpublished(&constraint.distribution) {
            reason +=
                "; it is not published, for nobody has baked it from its distribution's mirror yet";
        }
        return Err(reason);
    }
    let in_range: Vec<&Offer> = offers
        .iter()
        .filter(|offer| {
            constraint.versions.is_empty() || constraint.versions.contains(&offer.version)
        })
        .filter(|offer| !offer.is_yanked || is_exactly(&constraint.versions, &offer.version))
        .collect();
    if in_range.is_empty() {
        return Err(format!(
            "none of{}; there are {}",
            constraint.versions_text(),
            list(offers, |it| it.version.to_string())
        ));
    }
    let fits: Vec<(crate::tags::Rank, &Offer)> = in_range
        .iter()
        .filter(|offer| is_for_python(offer, python))
        .filter_map(|offer| Some((environment.compatible.rank(&offer.name.tag)?, *offer)))
        .collect();
    if fits.is_empty() {
        let offers: Vec<Offer> = in_range.into_iter().cloned().collect();
        return Err(format!(
            "none for {}; there are {}",
            environment.compatible.describe(),
            list(&offers, |it| it.name.tag.to_string())
        ));
    }
    // Versions before a release are for those who ask for them, or where there is nothing else.
    let is_final = |offer: &Offer| !offer.version.any_prerelease();
    let only_final = !constraint.versions.iter().any(|it| it.any_prerelease())
        && fits.iter().any(|(_, it)| is_final(it));
    fits.into_iter()
        .filter(|(_, offer)| !only_final || is_final(offer))
        // Of equals the first one wins, so that the order of the sources counts.
        .rev()
        .max_by(|(rank_a, a), (rank_b, b)| {
            a.version.cmp(&b.version).then(rank_b.cmp(rank_a)).then(build(a).cmp(&build(b)))
        })
        .map(|(_, offer)| offer.clone())
        .ok_or_else(|| "none fits".to_owned())
}

/// A build number orders by its digits, then by what follows them (PEP 427).
fn build(offer: &Offer) -> (u64, String) {
    let text = offer.name.build.as_deref().unwrap_or_default();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().unwrap_or(0), text[end..].to_owned())
}

fn is_exactly(versions: &VersionSpecifiers, version: &Version) -> bool {
    versions.iter().any(|it| {
        matches!(it.operator(), Operator::Equal | Operator::ExactEqual) && it.version() == version
    })
}

fn is_for_python(offer: &Offer, python: Option<&Version>) -> bool {
    let (Some(wanted), Some(python)) = (&offer.requires_python, python) else { return true };
    // What cannot be read forbids nothing, as with pip.
    wanted.parse::<VersionSpecifiers>().map_or(true, |wanted| wanted.contains(python))
}

fn list(offers: &[Offer], text: impl Fn(&Offer) -> String) -> String {
    let mut texts: Vec<String> = offers.iter().map(text).collect();
    texts.sort();
    texts.dedup();
    texts.truncate(12);
    texts.join(", ")
}

/// The Requires-Dist lines of METADATA's head.
pub fn requirements(metadata: &str, by: &str) -> Result<Vec<Requirement<VerbatimUrl>>, Error> {
    metadata
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .filter(|(field, _)| field.eq_ignore_ascii_case("Requires-Dist"))
        .map(|(_, value)| {
            let value = value.trim();
            let failed = |reason| Error::Requirement {
                by: by.to_owned(),
                requirement: value.escape_debug().to_string(),
                reason,
            };
            // The parser ends the program at some of what PEP 508 does not allow.
            if !value.is_ascii() {
                return Err(failed("only ASCII characters are allowed".to_owned()));
            }
            if let Some(name) = names_of(value).find(|name| !is_name(name)) {
                return Err(failed(format!("`{name}` must begin and end with a letter or digit")));
            }
            value.parse().map_err(|error: pep508_rs::Pep508Error<_>| failed(error.to_string()))
        })
        .collect()
}

/// The names that a requirement begins with: the distribution's and those of extras.
fn names_of(requirement: &str) -> impl Iterator<Item = &str> {
    let end = requirement.find(|c: char| "<>=!~(;@".contains(c)).unwrap_or(requirement.len());
    requirement[..end].split(|c: char| !c.is_ascii_alphanumeric() && !".-_".contains(c))
}

fn is_name(name: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    name.is_empty() || name.starts_with(is_end) && name.ends_with(is_end)
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
