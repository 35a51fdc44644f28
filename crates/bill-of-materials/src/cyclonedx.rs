//! The document that every bill is: CycloneDX 1.6 as JSON, <https://cyclonedx.org/docs/1.6/json/>.

use serde_json::{Value, json};

/// A document of `components`; `metadata` says what they are components of.
pub fn document(metadata: Value, components: Vec<Value>) -> Value {
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": components,
    })
}

/// A hash as the format writes it.
pub fn sha256(digest: &str) -> Value {
    json!([{ "alg": "SHA-256", "content": digest }])
}
