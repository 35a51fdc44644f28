//! The dist-info folder: WHEEL, METADATA, licences and SBOMs, and whether they agree with the
//! file name.

use super::{Check, Findings};
use crate::{
    WheelFileName, WheelTag, archive::Archive, metadata::GENERATOR, normalize_distribution,
    normalize_version,
};
use std::collections::BTreeSet;

/// What the other checks need to know.
#[derive(Default)]
pub(super) struct DistInfo {
    /// The folder's name, when there is exactly one.
    pub(super) folder: Option<String>,
    /// Whether our own writer made the wheel.
    pub(super) is_our_own: bool,
}

pub(super) fn check(
    archive: &mut Archive,
    name: Option<&WheelFileName>,
    findings: &mut Findings,
) -> DistInfo {
    let top: BTreeSet<String> = archive
        .entries
        .iter()
        .filter_map(|entry| Some(entry.name.split_once('/')?.0.to_owned()))
        .collect();
    let infos: Vec<&String> = top.iter().filter(|folder| folder.ends_with(".dist-info")).collect();
    let [folder] = infos[..] else {
        let message = format!("There are {} dist-info folders instead of one", infos.len());
        findings.add(Check::Wheel, message);
        return DistInfo::default();
    };
    if let Some(name) = name {
        for (suffix, folder) in [".dist-info", ".data"].into_iter().flat_map(|suffix| {
            top.iter().filter_map(move |f| Some((suffix, f.strip_suffix(suffix)?)))
        }) {
            check_folder(folder, suffix, name, findings);
        }
    }
    let wheel = read_fields(archive, folder, "WHEEL", Check::Wheel, findings);
    let metadata = read_fields(archive, folder, "METADATA", Check::Metadata, findings);
    let mut is_our_own = false;
    if let Some(wheel) = &wheel {
        is_our_own = wheel.first("Generator") == Some(GENERATOR);
        check_wheel(wheel, name, findings);
    }
    if let Some(metadata) = &metadata {
        check_metadata(archive, folder, metadata, name, findings);
    }
    check_sboms(archive, folder, findings);
    DistInfo { folder: Some(folder.clone()), is_our_own }
}

/// Whether `NAME-VERSION` of a folder is that of the file name, in normal forms: the one rule for names,
/// whoever asks.
pub(crate) fn belongs(stem: &str, name: &WheelFileName) -> bool {
    stem.split_once('-').is_some_and(|(distribution, version)| {
        is_same_name(distribution, &name.distribution) && is_same_version(version, &name.version)
    })
}

fn check_folder(stem: &str, suffix: &str, name: &WheelFileName, findings: &mut Findings) {
    if !belongs(stem, name) {
        let expect = format!("{}-{}{suffix}", name.distribution, name.version);
        let message = format!(
            "The folder `{stem}{suffix}` does not belong to the file name: `{expect}` does"
        );
        findings.add(Check::Name, message);
    }
}

fn is_same_name(a: &str, b: &str) -> bool {
    matches!((normalize_distribution(a), normalize_distribution(b)), (Ok(a), Ok(b)) if a == b)
}

fn is_same_version(a: &str, b: &str) -> bool {
    // Older makers write `_` where the version has `-` or `+`.
    let normal = |version: &str| {
        normalize_version(version).or_else(|_| normalize_version(&version.replace('_', "+"))).ok()
    };
    normal(a).is_some() && normal(a) == normal(b)
}

fn check_wheel(wheel: &Fields, name: Option<&WheelFileName>, findings: &mut Findings) {
    match wheel.first("Wheel-Version") {
        Some(version) if version.split('.').next() == Some("1") => {}
        Some(version) => {
            findings.add(Check::Wheel, format!("Wheel-Version `{version}` is not 1.x"));
        }
        None => findings.add(Check::Wheel, "WHEEL does not tell its Wheel-Version"),
    }
    match wheel.first("Root-Is-Purelib").map(str::to_ascii_lowercase).as_deref() {
        Some("true" | "false") => {}
        other => {
            let message = format!("Root-Is-Purelib is `{}`", other.unwrap_or_default());
            findings.add(Check::Wheel, message);
        }
    }
    let Some(name) = name else { return };
    if wheel.first("Build") != name.build.as_deref() {
        let message = format!(
            "WHEEL's build number `{}` is not the file name's `{}`",
            wheel.first("Build").unwrap_or_default(),
            name.build.as_deref().unwrap_or_default()
        );
        findings.add(Check::Tag, message);
    }
    let mut tags = BTreeSet::new();
    for text in wheel.all("Tag") {
        match text.parse::<WheelTag>() {
            Ok(tag) => tags.extend(tag.expanded()),
            Err(error) => findings.add(Check::Tag, error.to_string()),
        }
    }
    let expect: BTreeSet<String> = name.tag.expanded().into_iter().collect();
    for tag in expect.difference(&tags) {
        findings.add(Check::Tag, format!("The file name has the tag `{tag}`, WHEEL does not"));
    }
    for tag in tags.difference(&expect) {
        findings.add(Check::Tag, format!("WHEEL has the tag `{tag}`, the file name does not"));
    }
}

fn check_metadata(
    archive: &Archive,
    folder: &str,
    metadata: &Fields,
    name: Option<&WheelFileName>,
    findings: &mut Findings,
) {
    for field in ["Metadata-Version", "Name", "Version"] {
        if metadata.all(field).count() != 1 {
            let message = format!("METADATA must have the field {field} exactly once");
            findings.add(Check::Metadata, message);
        }
    }
    if let (Some(name), Some(its)) = (name, metadata.first("Name"))
        && !is_same_name(its, &name.distribution)
    {
        let message = format!("METADATA's name `{its}` is not the file name's");
        findings.add(Check::Name, message);
    }
    if let (Some(name), Some(its)) = (name, metadata.first("Version"))
        && !is_same_version(its, &name.version)
    {
        let message = format!("METADATA's version `{its}` is not the file name's");
        findings.add(Check::Name, message);
    }
    // Before 2.4 the field existed without a rule for the place of the files.
    let has_rule = metadata.first("Metadata-Version").is_some_and(|version| {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 4)
    });
    for license in metadata.all("License-File").filter(|_| has_rule) {
        if archive.position(&format!("{folder}/licenses/{license}")).is_none() {
            let message = format!("METADATA names the licence file `{license}`, which is missing");
            findings.add(Check::Metadata, message);
        }
    }
}

/// PEP 770: JSON documents that say which kind of bill they are.
fn check_sboms(archive: &mut Archive, folder: &str, findings: &mut Findings) {
    let start = format!("{folder}/sboms/");
    for index in 0..archive.entries.len() {
        let name = archive.entries[index].name.clone();
        if !name.starts_with(&start) || !name.ends_with(".json") {
            continue;
        }
        let document = archive
            .read_text(index)
            .ok()
            .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        let kind = ["bomFormat", "spdxVersion", "@context"];
        if !document.is_some_and(|document| kind.iter().any(|key| document.get(key).is_some())) {
            findings.add_for(&name, Check::Sbom, "It is no CycloneDX or SPDX document");
        }
    }
}

/// The `Name: value` lines before the first empty line.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn all<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(name, _): &&(String, String)| name.eq_ignore_ascii_case(field);
        self.0.iter().filter(named).map(|(_, value)| value.as_str())
    }

    fn first<'a>(&'a self, field: &'a str) -> Option<&'a str> {
        self.all(field).next()
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().take_while(|line| !line.trim().is_empty());
        // A line that starts with a space goes on with the value before it.
        let fields = lines.filter(|line| !line.starts_with([' ', '\t'])).filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        });
        Self(fields.collect())
    }
}

fn read_fields(
    archive: &mut Archive,
    folder: &str,
    file: &str,
    check: Check,
    findings: &mut Findings,
) -> Option<Fields> {
    let Some(index) = archive.position(&format!("{folder}/{file}")) else {
        findings.add(check, format!("{file} is missing"));
        return None;
    };
    let text = match archive.read_text(index) {
        Ok(bytes) => String::from_utf8(bytes),
        Err(error) => {
            findings.add(check, format!("{file} cannot be read: {error}"));
            return None;
        }
    };
    match text {
        Ok(text) => Some(Fields::parse(&text)),
        Err(_) => {
            findings.add(check, format!("{file} is not UTF-8"));
            None
        }
    }
}
