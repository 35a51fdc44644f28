//! What wheels say that they are made of: the parts in the CycloneDX bills that they carry (PEP 770).

use crate::Error;
use bill_of_materials::Purl;
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};

/// Where a wheel's bills lie.
const FOLDER: &str = ".dist-info/sboms/";
/// How the names of CycloneDX's bills end.
const SUFFIX: &str = ".cdx.json";
/// What stands before archive and suite in a bill's properties.
const RELEASE: &str = "quicksand:release:";

/// The bills of one wheel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Its parts, and theirs.
    pub parts: Vec<Part>,
    /// The archives and suites that its packages come from.
    pub suites: BTreeSet<(String, String)>,
}

/// One part of a wheel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The file name of the wheel.
    pub wheel: String,
    pub name: String,
    pub version: String,
    /// Its package URL; none of what is this project's own.
    pub purl: Option<Purl>,
    /// Its licence, as an SPDX expression; empty where none is named.
    pub licence: String,
    /// The files of its source and our patches to it: names with their SHA-256.
    pub sources: Vec<(String, String)>,
}

impl Part {
    /// The part as people call it.
    pub fn words(&self) -> String {
        format!("{} {}", self.name, self.version)
    }
}

/// Reads the bills of a wheel.
///
/// # Errors
/// It cannot be read, or says nothing of what it is made of.
pub fn read(wheel: &Path) -> Result<Bill, Error> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found: Option<Bill> = None;
    wheel_retag::read_entries(wheel, |path, _, reader| {
        if path.contains(FOLDER) && path.ends_with(SUFFIX) {
            let document: Value = serde_json::from_reader(reader)?;
            let bill = parse(&name, &document);
            let whole = found.get_or_insert_with(Bill::default);
            whole.parts.extend(bill.parts);
            whole.suites.extend(bill.suites);
        }
        Ok(())
    })?;
    found.ok_or(Error::NoBill { wheel: name })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn parse(wheel: &str, document: &Value) -> Bill {
    let mut parts = Vec::new();
    add(wheel, &document["components"], &mut parts);
    let suites = list(&document["metadata"]["properties"])
        .iter()
        .filter_map(|property| property["name"].as_str()?.strip_prefix(RELEASE)?.split_once(':'))
        .map(|(archive, suite)| (archive.to_owned(), suite.to_owned()))
        .collect();
    Bill { parts, suites }
}

fn add(wheel: &str, components: &Value, parts: &mut Vec<Part>) {
    for component in list(components).iter().filter(|it| it["type"] != "file") {
        let text = |key: &str| component[key].as_str().unwrap_or_default().to_owned();
        parts.push(Part {
            wheel: wheel.to_owned(),
            name: text("name"),
            version: text("version"),
            purl: component["purl"].as_str().and_then(Purl::parse),
            licence: licence(&component["licenses"]),
            sources: sources(&component["externalReferences"]),
        });
        // What is compiled into it.
        add(wheel, &component["components"], parts);
    }
}

fn licence(licences: &Value) -> String {
    let one = |it: &Value| {
        let licence = &it["license"];
        let name = licence["id"].as_str().or_else(|| licence["name"].as_str());
        name.map(str::to_owned).or_else(|| Some(format!("({})", it["expression"].as_str()?)))
    };
    let terms: Vec<String> = list(licences).iter().filter_map(one).collect();
    terms.join(" AND ")
}

fn sources(references: &Value) -> Vec<(String, String)> {
    let one = |it: &Value| {
        let is_sum = |hash: &&Value| hash["alg"] == "SHA-256";
        let sum = list(&it["hashes"]).iter().find(is_sum)?["content"].as_str()?;
        Some((it["url"].as_str()?.to_owned(), sum.to_owned()))
    };
    list(references).iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bill_of_materials::{Component, How, Subject, image};

    fn zlib() -> Component {
        Component {
            name: "zlib".to_owned(),
            version: "1.3".to_owned(),
            how: How::StaticallyLinked,
            license: "Zlib AND GPL-2.0-only".to_owned(),
            distributor: Some("debian-13".to_owned()),
            files: vec![],
            sources: vec![("zlib.tar.xz".to_owned(), "ab".repeat(32))],
            patches: vec![("ours.patch".to_owned(), "cd".repeat(32))],
        }
    }

    /// As the crate writes them that makes our bills.
    #[test]
    fn both_forms_of_our_bills_are_read() {
        let subject =
            Subject { name: "q".to_owned(), version: "1".to_owned(), license: "MIT".to_owned() };
        let text = bill_of_materials::bill(&subject, &[zlib()]);
        let bill = parse("q.whl", &serde_json::from_str(&text).unwrap());
        let expect = ["zlib.tar.xz", "ours.patch"];
        assert_eq!(bill.parts.len(), 1);
        let names: Vec<&str> = bill.parts[0].sources.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, expect);
        assert_eq!(bill.parts[0].licence, "(Zlib AND GPL-2.0-only)");

        let agent = image::Component {
            name: "agent".to_owned(),
            kind: "application",
            licences: ["LicenseRef-x", "MIT"].map(str::to_owned).into(),
            other_files: BTreeSet::from(["initrd:/init".to_owned()]),
            parts: vec![image::Component::from(&zlib())],
            ..image::Component::default()
        };
        let text = image::bill("debian", "13", [("debian", "trixie", "00")], &[agent]);
        let bill = parse("i.whl", &serde_json::from_slice(&text).unwrap());
        assert_eq!(bill.suites, BTreeSet::from([("debian".to_owned(), "trixie".to_owned())]));
        let names: Vec<&str> = bill.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["agent", "zlib"], "what is compiled in is a part, and a file is not");
        assert_eq!(bill.parts[0].licence, "LicenseRef-x AND MIT");
        assert_eq!(bill.parts[1].purl.as_ref().unwrap().kind, "deb/debian");
    }
}
