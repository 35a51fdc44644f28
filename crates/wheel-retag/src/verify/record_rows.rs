//! RECORD against the bytes: every file has one row, every row one file, hash and size fit.

use super::{Check, Findings};
use crate::{archive::Archive, parse_record};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::collections::BTreeMap;

/// What was seen of an entry while it was hashed.
pub(super) struct Hashed {
    /// Its first bytes, enough for the headers that are looked at.
    pub(super) head: Vec<u8>,
}

const HEAD: usize = 64;

/// Hashes every file and compares with RECORD. One result for each entry of the archive; `None`
/// for folders and what cannot be read.
pub(super) fn check(
    archive: &mut Archive,
    info: Option<&str>,
    findings: &mut Findings,
) -> Vec<Option<Hashed>> {
    let rows = info.map(|info| read_rows(archive, info, findings)).unwrap_or_default();
    let mut hashed = Vec::with_capacity(archive.entries.len());
    for index in 0..archive.entries.len() {
        let entry = archive.entries[index].clone();
        if entry.is_dir() {
            hashed.push(None);
            continue;
        }
        let row = rows.get(&entry.name);
        let algorithm = row.and_then(|(hash, _)| hash.split_once('=')).map(|(name, _)| name);
        let (digest, seen) = match hash(archive, index, algorithm.unwrap_or("sha256")) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("Its contents cannot be read: {error}");
                findings.add_for(&entry.name, Check::Contents, message);
                hashed.push(None);
                continue;
            }
        };
        hashed.push(Some(seen));
        let Some((hash, size)) = row else {
            if info.is_some() && !rows.is_empty() && !is_signature(&entry.name, info) {
                findings.add_for(&entry.name, Check::Record, "RECORD has no row for it");
            }
            continue;
        };
        if info.is_some_and(|info| entry.name == format!("{info}/RECORD")) {
            if !hash.is_empty() || !size.is_empty() {
                findings.add_for(&entry.name, Check::Record, "RECORD's own row is not empty");
            }
            continue;
        }
        match digest {
            None => {
                let message = format!("RECORD's hash `{hash}` is not one that is trusted");
                findings.add_for(&entry.name, Check::Hash, message);
            }
            Some(digest) if digest != *hash => {
                let message = format!("Its hash is {digest}, RECORD says {hash}");
                findings.add_for(&entry.name, Check::Hash, message);
            }
            Some(_) => {}
        }
        // The size may be left out; a size that is there has to be true.
        if !size.is_empty() && *size != entry.size.to_string() {
            let message = format!("It has {} bytes, RECORD says {size}", entry.size);
            findings.add_for(&entry.name, Check::Hash, message);
        }
    }
    for path in rows.keys() {
        if archive.position(path).is_none() {
            findings.add_for(path, Check::Record, "RECORD has a row for it, the archive no entry");
        }
    }
    hashed
}

/// Hash and size by path.
fn read_rows(
    archive: &mut Archive,
    info: &str,
    findings: &mut Findings,
) -> BTreeMap<String, (String, String)> {
    let record = format!("{info}/RECORD");
    let mut rows = BTreeMap::new();
    let Some(index) = archive.position(&record) else {
        findings.add(Check::Record, "RECORD is missing");
        return rows;
    };
    let text = match archive.read_text(index) {
        Ok(text) => text,
        Err(error) => {
            findings.add_for(&record, Check::Record, format!("It cannot be read: {error}"));
            return rows;
        }
    };
    let parsed = match parse_record(&text) {
        Ok(parsed) => parsed,
        Err(reason) => {
            findings.add_for(&record, Check::Record, format!("It is not valid: {reason}"));
            return rows;
        }
    };
    for row in parsed {
        if rows.insert(row.path.clone(), (row.hash, row.size)).is_some() {
            findings.add_for(&row.path, Check::Record, "RECORD has two rows for it");
        }
    }
    if !rows.contains_key(&record) {
        findings.add_for(&record, Check::Record, "RECORD has no row for itself");
    }
    rows
}

/// Signatures are made after RECORD and cannot be in it.
fn is_signature(name: &str, info: Option<&str>) -> bool {
    info.is_some_and(|info| {
        [".jws", ".p7s"].iter().any(|end| name == format!("{info}/RECORD{end}"))
    })
}

/// The hash column for an entry, `None` for an algorithm that PEP 427 does not allow.
fn hash(
    archive: &mut Archive,
    index: usize,
    algorithm: &str,
) -> std::io::Result<(Option<String>, Hashed)> {
    match algorithm {
        "sha256" => hash_with::<Sha256>(archive, index).map(|(d, s)| (column(algorithm, &d), s)),
        "sha384" => hash_with::<Sha384>(archive, index).map(|(d, s)| (column(algorithm, &d), s)),
        "sha512" => hash_with::<Sha512>(archive, index).map(|(d, s)| (column(algorithm, &d), s)),
        _ => hash_with::<Sha256>(archive, index).map(|(_, seen)| (None, seen)),
    }
}

fn column(algorithm: &str, digest: &[u8]) -> Option<String> {
    Some(format!("{algorithm}={}", URL_SAFE_NO_PAD.encode(digest)))
}

fn hash_with<D: Digest>(archive: &mut Archive, index: usize) -> std::io::Result<(Vec<u8>, Hashed)> {
    let mut digest = D::new();
    let mut head = Vec::new();
    archive.read_pieces(index, |piece| {
        digest.update(piece);
        let missing = HEAD.saturating_sub(head.len()).min(piece.len());
        head.extend_from_slice(&piece[..missing]);
    })?;
    Ok((digest.finalize().to_vec(), Hashed { head }))
}
