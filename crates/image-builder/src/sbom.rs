//! Names the packages of an image in CycloneDX's JSON, see
//! <https://cyclonedx.org/docs/1.6/json/>. No time of day and no random number goes into it: the
//! same lock gives the same bytes.

use crate::lock::ArchLock;
use serde_json::json;

/// The bill of materials of an image.
pub fn cyclonedx(
    name: &str,
    version: &str,
    lock: &ArchLock,
    licences: impl Fn(&str) -> Vec<String>,
) -> Vec<u8> {
    let components: Vec<_> = lock
        .all()
        .map(|package| {
            let licences: Vec<_> = licences(&package.name)
                .into_iter()
                .map(|term| json!({"license": licence(&term)}))
                .collect();
            json!({
                "type": if Some(package) == lock.kernel.as_ref() { "operating-system" } else { "library" },
                "bom-ref": purl(&package.name, &package.version, &package.arch),
                "name": package.name,
                "version": package.version,
                "purl": purl(&package.name, &package.version, &package.arch),
                "hashes": [{"alg": "SHA-256", "content": package.sha256}],
                "licenses": licences,
            })
        })
        .collect();
    let releases: Vec<_> = lock
        .release
        .iter()
        .map(|release| {
            json!({
                "name": format!("quicksand:release:{}:{}", release.archive, release.suite),
                "value": release.sha256,
            })
        })
        .collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "operating-system", "name": name, "version": version},
            "properties": releases,
        },
        "components": components,
    });
    let mut bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// An SPDX licence has an id, any other one a name.
fn licence(term: &str) -> serde_json::Value {
    if term.starts_with("LicenseRef-") { json!({"name": term}) } else { json!({"id": term}) }
}

/// <https://github.com/package-url/purl-spec>
fn purl(name: &str, version: &str, arch: &str) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                    (byte as char).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect()
    };
    format!("pkg:deb/debian/{}@{}?arch={}", escape(name), escape(version), escape(arch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::tests::package;

    #[test]
    fn every_package_is_named_with_version_hash_and_licence() {
        let lock = ArchLock {
            request: String::new(),
            source_date: 0,
            release: Vec::new(),
            package: vec![package("libstdc++6", "1:14-3")],
            kernel: Some(package("linux-image-6.12", "6.12-1")),
            kernel_modules: Vec::new(),
        };
        let bytes =
            cyclonedx("debian", "13", &lock, |_| vec!["MIT".to_owned(), "LicenseRef-x".to_owned()]);
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let components = document["components"].as_array().unwrap();
        assert_eq!(components.len(), 2);
        assert_eq!(components[0]["purl"], "pkg:deb/debian/libstdc%2B%2B6@1%3A14-3?arch=amd64");
        assert_eq!(components[0]["licenses"][1]["license"]["name"], "LicenseRef-x");
        assert_eq!(components[1]["type"], "operating-system");
    }
}
