//! The bill of materials of an image in CycloneDX's JSON, see
//! <https://cyclonedx.org/docs/1.6/json/>: each package with its version, licences and files. No
//! time of day and no random number goes into it: the same lock gives the same bytes.

use crate::{cyclonedx, expression};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What stands before the path of a file that is not on the disk but in the initrd.
pub const INITRD: &str = "initrd:/";

/// One origin of files.
#[derive(Clone, Debug, Default)]
pub struct Component {
    pub name: String,
    pub version: String,
    /// What it is in CycloneDX's words: `library`, `operating-system`, `application`, `data`.
    pub kind: &'static str,
    /// Its package URL, where it is a package; see [`crate::purl`].
    pub purl: Option<String>,
    /// The sha256 of the package file.
    pub sha256: Option<String>,
    /// SPDX terms that all hold for it.
    pub licences: BTreeSet<String>,
    /// Its files on the disk.
    pub files: BTreeSet<Vec<u8>>,
    /// Its files elsewhere in the image: the kernel's file, and those of the initrd behind
    /// [`INITRD`].
    pub other_files: BTreeSet<String>,
    /// What is compiled into it, such as the libraries of a static program.
    pub parts: Vec<Self>,
}

impl From<&crate::Component> for Component {
    /// What is linked into a program, as a part of an image.
    fn from(linked: &crate::Component) -> Self {
        Self {
            name: linked.name.clone(),
            version: linked.version.clone(),
            kind: "library",
            purl: Some(linked.purl()),
            sha256: linked.sources.first().map(|(_, sha256)| sha256.clone()),
            licences: match linked.license.contains(" OR ") {
                true => BTreeSet::from([format!("({})", linked.license)]),
                false => linked.license.split(" AND ").map(str::to_owned).collect(),
            },
            ..Self::default()
        }
    }
}

impl Component {
    /// The terms of it and of all that is compiled into it.
    pub fn terms(&self) -> BTreeSet<String> {
        let parts = self.parts.iter().flat_map(Self::terms);
        self.licences.iter().cloned().chain(parts).collect()
    }
}

/// The bill of an image. `releases` are the lists of packages that it was made from: archive and suite, and the
/// sha256 of each.
pub fn bill<'a>(
    name: &str,
    version: &str,
    releases: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
    components: &[Component],
) -> Vec<u8> {
    let releases: Vec<Value> = releases
        .into_iter()
        .map(|(archive, suite, sha256)| {
            json!({ "name": format!("quicksand:release:{archive}:{suite}"), "value": sha256 })
        })
        .collect();
    let metadata = json!({
        "component": {"type": "operating-system", "name": name, "version": version},
        "properties": releases,
    });
    let document = cyclonedx::document(metadata, components.iter().map(component).collect());
    // Thousands of files: indentation would be most of it.
    let mut bytes = serde_json::to_vec(&document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn component(part: &Component) -> Value {
    let mut value = json!({
        "type": part.kind,
        "name": part.name,
        "version": part.version,
        "licenses": licences(&part.licences),
    });
    if let Some(purl) = &part.purl {
        value["bom-ref"] = json!(purl);
        value["purl"] = json!(purl);
    }
    if let Some(sha256) = &part.sha256 {
        value["hashes"] = cyclonedx::sha256(sha256);
    }
    let files: Vec<Value> = part
        .files
        .iter()
        .map(|path| format!("/{}", String::from_utf8_lossy(path)))
        .chain(part.other_files.iter().cloned())
        .map(|name| json!({"type": "file", "name": name}))
        .chain(part.parts.iter().map(compiled_in))
        .collect();
    if !files.is_empty() {
        value["components"] = Value::from(files);
    }
    value
}

/// A part of a component. It has no reference of its own: those are one for each component of a document, and
/// the same library may be in two.
fn compiled_in(part: &Component) -> Value {
    let mut value = component(part);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("bom-ref");
    }
    value
}

/// An SPDX licence has an id, any other one a name; where there is a choice, all are one expression.
fn licences(terms: &BTreeSet<String>) -> Value {
    if terms.iter().any(|term| term.contains(' ')) {
        return json!([{"expression": expression::all_of(terms)}]);
    }
    let one = |term: &String| match term.starts_with("LicenseRef-") {
        true => json!({"license": {"name": term}}),
        false => json!({"license": {"id": term}}),
    };
    terms.iter().map(one).collect()
}

/// The kernel that a bill names, without its files.
pub fn kernel(bill: &str) -> Option<Component> {
    let bill: Value = serde_json::from_str(bill).ok()?;
    let parts = bill["components"].as_array()?;
    parts.iter().find(|part| part["type"] == "operating-system").and_then(read)
}

/// What a bill says is compiled into the component of this name.
pub fn compiled_into(bill: &str, name: &str) -> Vec<Component> {
    let bill: Value = serde_json::from_str(bill).unwrap_or_default();
    let list = |value: &Value| value["components"].as_array().cloned().unwrap_or_default();
    let whole = list(&bill).into_iter().find(|part| part["name"] == name).unwrap_or_default();
    list(&whole).iter().filter(|part| part["type"] == "library").filter_map(read).collect()
}

/// A component of a bill, without its files.
fn read(part: &Value) -> Option<Component> {
    let text = |key: &str| part[key].as_str().map(str::to_owned);
    let term = |one: &Value| {
        let licence = &one["license"];
        let term = licence["id"].as_str().or_else(|| licence["name"].as_str());
        term.or_else(|| one["expression"].as_str()).map(str::to_owned)
    };
    Some(Component {
        name: text("name")?,
        version: text("version")?,
        kind: match part["type"].as_str() {
            Some("operating-system") => "operating-system",
            _ => "library",
        },
        purl: text("purl"),
        sha256: part["hashes"][0]["content"].as_str().map(str::to_owned),
        licences: part["licenses"].as_array()?.iter().filter_map(term).collect(),
        ..Component::default()
    })
}

/// Who a bill says the files are of: `NAME VERSION` by the file's path on the disk.
pub fn owners(bill: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut owners = BTreeMap::new();
    for part in list(&bill["components"]) {
        for file in list(&part["components"]).iter().filter(|it| it["type"] == "file") {
            owners.insert(text(file, "name"), text(&part, "name"));
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_named_with_version_hash_licence_and_files() {
        let terms = |terms: &[&str]| terms.iter().map(|term| (*term).to_owned()).collect();
        let package = Component {
            name: "libstdc++6".to_owned(),
            version: "1:14-3".to_owned(),
            kind: "library",
            purl: Some(crate::purl("deb/debian", "libstdc++6", "1:14-3", Some("amd64"))),
            sha256: Some("00".to_owned()),
            licences: terms(&["MIT", "LicenseRef-x"]),
            files: BTreeSet::from([b"usr/lib/x.so".to_vec()]),
            ..Component::default()
        };
        let ours = Component {
            name: "agent".to_owned(),
            kind: "application",
            licences: terms(&["(MIT OR Apache-2.0)", "LGPL-2.1-or-later"]),
            other_files: BTreeSet::from([format!("{INITRD}init")]),
            parts: vec![Component::from(&crate::component::tests::zlib())],
            ..Component::default()
        };
        assert_eq!(ours.terms().len(), 3, "{:?}", ours.terms());
        let bytes = bill("debian", "13", [], &[package, ours]);
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        let components = document["components"].as_array().unwrap();
        assert_eq!(components[0]["purl"], "pkg:deb/debian/libstdc%2B%2B6@1%3A14-3?arch=amd64");
        assert_eq!(components[0]["licenses"][0]["license"]["name"], "LicenseRef-x");
        assert_eq!(components[0]["licenses"][1]["license"]["id"], "MIT");
        assert_eq!(
            components[1]["licenses"][0]["expression"],
            "(MIT OR Apache-2.0) AND LGPL-2.1-or-later"
        );
        let owners = owners(&document);
        assert_eq!(owners["/usr/lib/x.so"], "libstdc++6");
        assert_eq!(owners["initrd:/init"], "agent");
        assert_eq!(owners.len(), 2, "a library is no file");
        let text = String::from_utf8(bytes).unwrap();
        let zlib = compiled_into(&text, "agent").remove(0);
        assert_eq!(zlib.purl, Some(crate::component::tests::zlib().purl()));
        assert_eq!(zlib.licences, terms(&["Zlib"]));
        assert!(compiled_into(&text, "libstdc++6").is_empty());
        assert!(components[1]["components"][1].get("bom-ref").is_none());
    }
}
