//! Which components of an image have known flaws: its bills of materials against a file of advisories in the
//! form of the Open Source Vulnerability project (<https://ossf.github.io/osv-schema/>). Nothing is fetched.
//!
//! Distributions name what they mend by source package and release, so components are compared by the
//! `upstream` and `distro` of their package URLs. This module must not know where bills and advisories lie
//! beyond the paths that it is given.

mod advisory;
pub mod bills;
mod version;

pub use advisory::Advisories;
use advisory::{Advisory, Range, Verdict};
use bill_of_materials::Purl;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use version::Ecosystem;
pub use version::debian as debian_order;

/// A component that an advisory is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Its name.
    pub component: String,
    pub version: String,
    /// The component that it is compiled into, where it is no package of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// The advisory.
    pub id: String,
    /// What others call it, such as `CVE-2026-1`.
    pub aliases: Vec<String>,
    /// What it says in a line.
    pub summary: String,
    /// The first version that is mended, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many components could be looked up.
    pub n_components: usize,
    /// How many of them are compiled into others.
    pub n_compiled_in: usize,
    /// How many files the bills name.
    pub n_files: usize,
    /// Components that have no package URL, so that no advisory can name them.
    pub unknown: Vec<String>,
    /// Whether packages are named without their release and source, as bills of earlier releases do: then
    /// advisories of other releases count too, and those that name another source are missed.
    pub is_rough: bool,
    /// How many advisories were read.
    pub n_advisories: usize,
    /// When the newest of them was changed, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// What has known flaws.
    pub findings: Vec<Finding>,
    /// Advisories whose versions cannot be compared with a component's: they may be about it.
    pub undecided: Vec<String>,
}

/// What may have a flaw.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Suspect {
    component: String,
    version: String,
    within: Option<String>,
    ecosystem: Ecosystem,
    /// The release of the distribution, where it is known.
    release: Option<String>,
    /// The name that advisories have for it, and the version that theirs are compared with.
    advised: (String, String),
}

/// Compares bills, CycloneDX documents, with advisories.
pub fn audit<'a>(bills: impl IntoIterator<Item = &'a Value>, advisories: &Advisories) -> Report {
    let mut report = Report {
        n_advisories: advisories.len(),
        newest: advisories.newest().map(str::to_owned),
        ..Report::default()
    };
    let mut suspects = BTreeSet::new();
    for bill in bills {
        collect(&bill["components"], None, &mut suspects, &mut report);
    }
    report.n_components = suspects.len();
    report.n_compiled_in = suspects.iter().filter(|suspect| suspect.within.is_some()).count();
    report.unknown.sort();
    report.unknown.dedup();
    let mut findings = BTreeSet::new();
    let mut undecided = BTreeSet::new();
    for suspect in &suspects {
        for advisory in advisories.about(suspect.ecosystem, &suspect.advised.0) {
            match judge(advisory, suspect) {
                Verdict::Sound => {}
                Verdict::Flawed(fixed) => {
                    findings.insert(finding(advisory, suspect, fixed));
                }
                Verdict::Undecided => {
                    let (component, version) = (&suspect.component, &suspect.version);
                    undecided.insert(format!("{}: {component} {version}", advisory.id));
                }
            }
        }
    }
    report.findings = findings.into_iter().collect();
    report.undecided = undecided.into_iter().collect();
    report
}

/// Gathers the components of a list and those compiled into them.
fn collect(
    list: &Value,
    within: Option<&str>,
    suspects: &mut BTreeSet<Suspect>,
    report: &mut Report,
) {
    for part in list.as_array().into_iter().flatten() {
        let text = |key: &str| part[key].as_str().unwrap_or_default();
        if text("type") == "file" {
            report.n_files += 1;
            continue;
        }
        let purl = part["purl"].as_str().and_then(Purl::parse);
        match purl.and_then(|purl| suspect(text("name"), text("version"), within, &purl)) {
            Some(suspect) => {
                let is_deb = matches!(suspect.ecosystem, Ecosystem::Debian | Ecosystem::Ubuntu);
                report.is_rough |= is_deb && suspect.release.is_none();
                suspects.insert(suspect);
            }
            None => report.unknown.push(text("name").to_owned()),
        }
        collect(&part["components"], Some(text("name")), suspects, report);
    }
}

fn suspect(name: &str, version: &str, within: Option<&str>, purl: &Purl) -> Option<Suspect> {
    let ecosystem = Ecosystem::from_purl(&purl.kind)?;
    let release = purl.qualifier("distro").and_then(|distro| distro.split_once('-'));
    let (source, source_version) = match purl.qualifier("upstream") {
        Some(upstream) => match upstream.split_once('@') {
            Some((source, version)) => (source.to_owned(), version.to_owned()),
            None => (upstream.to_owned(), purl.version.clone()),
        },
        None => (purl.name.clone(), purl.version.clone()),
    };
    // Signed kernels are packed again under versions of their own; what they hold has the package's.
    let advised = match source.strip_prefix("linux-signed") {
        Some(rest) if rest.is_empty() || rest.starts_with('-') => {
            ("linux".to_owned(), purl.version.clone())
        }
        _ => (ecosystem.name(&source), source_version),
    };
    Some(Suspect {
        component: name.to_owned(),
        version: version.to_owned(),
        within: within.map(str::to_owned),
        ecosystem,
        release: release.map(|(_, release)| release.to_owned()),
        advised,
    })
}

/// What an advisory says of a component.
fn judge(advisory: &Advisory, suspect: &Suspect) -> Verdict {
    let (name, version) = &suspect.advised;
    let mut verdict = Verdict::Sound;
    for affected in &advisory.affected {
        let Some(package) = &affected.package else { continue };
        let ecosystem = suspect.ecosystem;
        if ecosystem.name(&package.name) != *name
            || !ecosystem.is_named_by(&package.ecosystem, suspect.release.as_deref())
        {
            continue;
        }
        let fixed = |ranges: &[Range]| {
            ranges.iter().find_map(|range| range.first_fixed(ecosystem, version))
        };
        if affected.versions.contains(version) {
            return Verdict::Flawed(fixed(&affected.ranges));
        }
        for range in &affected.ranges {
            match range.holds(ecosystem, version) {
                Some(true) => return Verdict::Flawed(fixed(&affected.ranges)),
                Some(false) => {}
                None => verdict = Verdict::Undecided,
            }
        }
    }
    verdict
}

fn finding(advisory: &Advisory, suspect: &Suspect, fixed: Option<String>) -> Finding {
    let mut aliases: Vec<String> =
        advisory.aliases.iter().chain(&advisory.upstream).cloned().collect();
    aliases.sort();
    aliases.dedup();
    let text = match advisory.summary.trim() {
        "" => advisory.details.trim(),
        summary => summary,
    };
    Finding {
        component: suspect.component.clone(),
        version: suspect.version.clone(),
        within: suspect.within.clone(),
        id: advisory.id.clone(),
        aliases,
        summary: text.lines().next().unwrap_or_default().chars().take(SHOWN).collect(),
        fixed,
    }
}

/// How much of an advisory's text is shown, in characters.
const SHOWN: usize = 160;

/// What findings have in common that stand in one line: the advisory, what they are compiled into, and the version
/// that is mended.
type Group<'a> = (&'a str, &'a Option<String>, &'a Option<String>);

impl Report {
    /// The report for people, a line for each component and flaw.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} components ({} of them compiled into others) with {} files; {} advisories{}",
            self.n_components,
            self.n_compiled_in,
            self.n_files,
            self.n_advisories,
            self.newest.as_ref().map(|at| format!(", the newest of {at}")).unwrap_or_default(),
        )];
        let mut groups: BTreeMap<Group<'_>, Vec<&Finding>> = BTreeMap::new();
        for finding in &self.findings {
            groups.entry((&finding.id, &finding.within, &finding.fixed)).or_default().push(finding);
        }
        for ((id, within, fixed), findings) in groups {
            let names: Vec<String> =
                findings.iter().map(|it| format!("{} {}", it.component, it.version)).collect();
            let mut line = format!("{}: {}", names.join(", "), id);
            if let Some(first) = findings.first() {
                if !first.aliases.is_empty() {
                    line += &format!(" ({})", first.aliases.join(", "));
                }
                if let Some(within) = within {
                    line += &format!(", compiled into {within}");
                }
                line += &match fixed {
                    Some(version) => format!(", mended in {version}"),
                    None => ", not mended".to_owned(),
                };
                if !first.summary.is_empty() {
                    line += &format!(": {}", first.summary);
                }
            }
            lines.push(line);
        }
        lines.extend(self.undecided.iter().map(|it| format!("undecided: {it}")));
        if !self.unknown.is_empty() {
            lines.push(format!("not looked up: {}", self.unknown.join(", ")));
        }
        if self.is_rough {
            lines.push(
                "warning: this bill names packages without their release and source, so that flaws are missed \
                 and others named wrongly; bake the image again"
                    .to_owned(),
            );
        }
        // Advisories are others' work too, and a terminal takes some bytes for orders.
        // None of them becomes two.
        lines.iter().map(|line| spelling::printable(line).replace('\n', "\\n")).collect()
    }

    /// What was found in `self` and is not in `later`, by what others call it: what a renewal mends.
    pub fn without(&self, later: &Self) -> BTreeMap<String, BTreeSet<String>> {
        let names = |report: &Self| {
            let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for finding in &report.findings {
                let ids = if finding.aliases.is_empty() {
                    std::slice::from_ref(&finding.id)
                } else {
                    &finding.aliases
                };
                names.entry(finding.component.clone()).or_default().extend(ids.iter().cloned());
            }
            names
        };
        let left = names(later);
        let mut mended = names(self);
        for (component, ids) in &mut mended {
            if let Some(left) = left.get(component) {
                ids.retain(|id| !left.contains(id));
            }
        }
        mended.retain(|_, ids| !ids.is_empty());
        mended
    }
}

#[cfg(test)]
mod tests;
