//! What an attestation beside a wheel says (PEP 740), held against the wheel that is to be uploaded with it.
//!
//! Read is the statement alone: which file it is about, by name and SHA-256, and that it is about publishing. Whether
//! the signature is that of somebody whom the project trusts is for the index to say, which keeps that list; a file
//! that was cut, or one that belongs to another build of the wheel, is found here, before anything is sent.

use crate::{Error, name_of};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fs_err as fs;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What follows a wheel's name in that of its attestation, as uploaders look for it.
pub const SUFFIX: &str = ".publish.attestation";

/// The kind of statement that says who published a file, as PEP 740's index names it below an address of its own.
const PUBLISH: &str = "/attestations/publish/v1";

/// The form of statement that PEP 740 asks for.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// An attestation is a few kilobytes; what is far larger is something else.
const MAX_BYTES: u64 = 1 << 20;

/// Which attestations a wheel must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attestations {
    /// Those that lie beside the wheels.
    AsFound,
    /// One for every wheel.
    Required,
    /// None, and none is looked at.
    Ignored,
}

/// The object of PEP 740.
#[derive(Deserialize)]
struct Attestation {
    version: u64,
    verification_material: Material,
    envelope: Envelope,
}

#[derive(Deserialize)]
struct Material {
    certificate: String,
    transparency_entries: Vec<Value>,
}

#[derive(Deserialize)]
struct Envelope {
    statement: String,
    signature: String,
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    form: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: Digest,
}

#[derive(Deserialize)]
struct Digest {
    sha256: String,
}

/// The attestations of these wheels, which all lie in `folder`, each held against its wheel.
///
/// # Errors
/// One is missing that has to be there, says something else than its wheel, or has no wheel.
pub fn for_wheels(
    folder: &Path,
    wheels: &[PathBuf],
    wanted: Attestations,
) -> Result<Vec<PathBuf>, Error> {
    if wanted == Attestations::Ignored {
        return Ok(Vec::new());
    }
    let names: Vec<String> = wheels.iter().map(|wheel| name_of(wheel)).collect();
    for file in files(folder)? {
        let name = name_of(&file);
        if !names.iter().any(|wheel| name.strip_suffix(SUFFIX) == Some(wheel)) {
            return Err(Error::Attestation { file: name, what: "there is no such wheel".into() });
        }
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (wheel, name) in wheels.iter().zip(&names) {
        let file = folder.join(format!("{name}{SUFFIX}"));
        if !file.exists() {
            missing.push(name.clone());
            continue;
        }
        let wrong = |what| Error::Attestation { file: name_of(&file), what };
        if fs::metadata(&file)?.len() > MAX_BYTES {
            return Err(wrong(format!("it has more than {MAX_BYTES} bytes")));
        }
        let sha256 = checksum::sha256_of(fs::File::open(wheel)?)?;
        check(name, &sha256, &fs::read(&file)?).map_err(wrong)?;
        found.push(file);
    }
    match wanted == Attestations::Required && !missing.is_empty() {
        true => Err(Error::Unattested { wheels: missing }),
        false => Ok(found),
    }
}

/// An attestation of a wheel in the right form, which nobody has signed: what tests and servers of their own take.
pub fn unsigned(name: &str, sha256: &str) -> Value {
    around(&statement(name, sha256))
}

/// A statement that a file of this name and digest was published.
fn statement(name: &str, sha256: &str) -> Value {
    json!({
        "_type": STATEMENT,
        "subject": [{ "name": name, "digest": { "sha256": sha256 } }],
        "predicateType": format!("https://index.example{PUBLISH}"),
        "predicate": null,
    })
}

/// An attestation with this statement.
fn around(statement: &Value) -> Value {
    json!({
        "version": 1,
        "verification_material": {
            "certificate": BASE64_STANDARD.encode("certificate"),
            "transparency_entries": [{ "logIndex": "1" }],
        },
        "envelope": {
            "statement": BASE64_STANDARD.encode(statement.to_string()),
            "signature": BASE64_STANDARD.encode("signature"),
        },
    })
}

/// All attestations of a folder, of whatever kind.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "attestation") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether an attestation is about the file of this name and digest; what is wrong with it otherwise.
fn check(name: &str, sha256: &str, bytes: &[u8]) -> Result<(), String> {
    let attestation: Attestation = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is not an attestation of PEP 740: {error}"))?;
    if attestation.version != 1 {
        return Err(format!("its version is {} and not 1", attestation.version));
    }
    let material = &attestation.verification_material;
    decoded("certificate", &material.certificate)?;
    if material.transparency_entries.is_empty() {
        return Err("it is in no transparency log".to_owned());
    }
    decoded("signature", &attestation.envelope.signature)?;
    let statement = decoded("statement", &attestation.envelope.statement)?;
    let statement: Statement = serde_json::from_slice(&statement)
        .map_err(|error| format!("its statement is not in-toto's: {error}"))?;
    if statement.form != STATEMENT {
        return Err(format!("its statement is a `{}` and not `{STATEMENT}`", statement.form));
    }
    if !statement.predicate_type.ends_with(PUBLISH) {
        return Err(format!("it attests `{}` and not `…{PUBLISH}`", statement.predicate_type));
    }
    let [subject] = statement.subject.as_slice() else {
        return Err(format!("it is about {} files and not one", statement.subject.len()));
    };
    if subject.name != name {
        return Err(format!("it is about `{}`", subject.name));
    }
    if subject.digest.sha256 != sha256 {
        let other = &subject.digest.sha256;
        return Err(format!("it is about a wheel with the SHA-256 {other}, this one has {sha256}"));
    }
    Ok(())
}

/// The bytes of a field, which is never empty.
fn decoded(field: &str, text: &str) -> Result<Vec<u8>, String> {
    match BASE64_STANDARD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        Ok(_) => Err(format!("its {field} is empty")),
        Err(error) => Err(format!("its {field} is no base64: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "q-1-py3-none-win_amd64.whl";

    fn said(attestation: &Value) -> String {
        check(NAME, "aa", attestation.to_string().as_bytes()).err().unwrap_or_default()
    }

    /// With one value of the object or of its statement replaced.
    fn with(statement: &Value, at: &str, value: Value) -> Value {
        let mut changed = around(statement);
        *changed.pointer_mut(at).unwrap() = value;
        changed
    }

    #[test]
    fn one_that_is_of_the_wheel_is_taken() {
        assert_eq!(said(&around(&statement(NAME, "aa"))), "");
    }

    #[test]
    fn an_attestation_of_another_file_or_damaged_is_refused() {
        let good = statement(NAME, "aa");
        let mut other_kind = good.clone();
        other_kind["predicateType"] = "https://slsa.dev/provenance/v1".into();
        let mut other_form = good.clone();
        other_form["_type"] = "https://in-toto.io/Statement/v0.1".into();
        let mut two = good.clone();
        two["subject"] = json!([good["subject"][0], good["subject"][0]]);
        let cases = [
            (around(&statement("q-2-py3-none-win_amd64.whl", "aa")), "it is about `q-2-"),
            (around(&statement(NAME, "bb")), "the SHA-256 bb, this one has aa"),
            (around(&other_kind), "it attests `https://slsa.dev/provenance/v1`"),
            (around(&other_form), "Statement/v0.1` and not"),
            (around(&two), "about 2 files"),
            (with(&good, "/version", 2.into()), "version is 2"),
            (with(&good, "/envelope/signature", "".into()), "signature is empty"),
            (with(&good, "/envelope/statement", "%".into()), "statement is no base64"),
            (with(&good, "/envelope/statement", "e30=".into()), "not in-toto"),
            (with(&good, "/verification_material/certificate", "".into()), "certificate is empty"),
            (with(&good, "/verification_material/transparency_entries", json!([])), "no trans"),
            (json!({ "version": 1 }), "not an attestation of PEP 740"),
        ];
        for (attestation, expected) in cases {
            assert!(said(&attestation).contains(expected), "{expected}: {}", said(&attestation));
        }
        let whole = around(&good).to_string();
        assert!(check(NAME, "aa", &whole.as_bytes()[..whole.len() / 2]).is_err());
    }

    #[test]
    fn missing_ones_are_named_and_those_without_a_wheel_too() {
        let folder = tempfile::tempdir().unwrap();
        let wheels = ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]
            .map(|name| folder.path().join(name))
            .to_vec();
        wheels.iter().for_each(|wheel| fs::write(wheel, "wheel").unwrap());
        let sha256 = checksum::sha256(b"wheel");
        let attest = |name: &str, statement: &Value| {
            let file = folder.path().join(format!("{name}{SUFFIX}"));
            fs::write(&file, around(statement).to_string()).unwrap();
            file
        };
        let look = |wanted| for_wheels(folder.path(), &wheels, wanted);
        assert_eq!(look(Attestations::AsFound).unwrap(), Vec::<PathBuf>::new());
        let a = attest("a-1-py3-none-any.whl", &statement("a-1-py3-none-any.whl", &sha256));
        assert_eq!(look(Attestations::AsFound).unwrap(), [a]);
        let error = look(Attestations::Required).unwrap_err().to_string();
        assert!(error.contains("b-1-py3") && !error.contains("a-1-py3"), "{error}");
        let b = attest("b-1-py3-none-any.whl", &statement("b-1-py3-none-any.whl", &sha256));
        assert_eq!(look(Attestations::Required).unwrap().len(), 2);
        // Written for the wheel before it was made again.
        attest("b-1-py3-none-any.whl", &statement("b-1-py3-none-any.whl", "00"));
        assert!(look(Attestations::AsFound).is_err());
        assert!(look(Attestations::Ignored).unwrap().is_empty());
        fs::rename(b, folder.path().join(format!("c-1-py3-none-any.whl{SUFFIX}"))).unwrap();
        let error = look(Attestations::AsFound).unwrap_err().to_string();
        assert!(error.contains("no such wheel"), "{error}");
    }
}
