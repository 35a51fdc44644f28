//! RECORD: one row of path, hash and size for each file of a wheel (PEP 376, PEP 427).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordRow {
    /// The path inside the wheel.
    pub path: String,
    /// The algorithm and the digest, like `sha256=…`; empty only for RECORD itself and its
    /// signatures.
    pub hash: String,
    /// The size in bytes; empty where the hash is.
    pub size: String,
}

impl RecordRow {
    /// The row of a file with that digest and size.
    pub fn new(path: impl Into<String>, sha256: &[u8], size: u64) -> Self {
        Self { path: path.into(), hash: encode(sha256), size: size.to_string() }
    }

    /// RECORD's own row, which has neither hash nor size.
    pub fn own(path: impl Into<String>) -> Self {
        Self { path: path.into(), hash: String::new(), size: String::new() }
    }
}

/// The hash column for these bytes: `sha256=` and the digest in URL-safe base64 without padding.
pub fn record_hash(bytes: &[u8]) -> String {
    encode(&Sha256::digest(bytes))
}

fn encode(sha256: &[u8]) -> String {
    format!("sha256={}", URL_SAFE_NO_PAD.encode(sha256))
}

/// The text of RECORD: comma separated, quoted where needed, each line ended by a line feed.
pub fn format_record(rows: &[RecordRow]) -> String {
    let mut text = String::new();
    for row in rows {
        for (index, column) in [&row.path, &row.hash, &row.size].into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            if column.contains([',', '"', '\n', '\r']) {
                text.push('"');
                text.push_str(&column.replace('"', "\"\""));
                text.push('"');
            } else {
                text.push_str(column);
            }
        }
        text.push('\n');
    }
    text
}

/// Reads RECORD as installers do (Python's `csv` dialect). `Err` says in which row what is wrong.
pub fn parse_record(text: &[u8]) -> Result<Vec<RecordRow>, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| format!("row {}: {error}", index + 1))?;
        let columns: Vec<&str> = record.iter().collect();
        let [path, hash, size] = columns[..] else {
            return Err(format!("row {} has {} columns instead of 3", index + 1, columns.len()));
        };
        rows.push(RecordRow { path: path.into(), hash: hash.into(), size: size.into() });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_urlsafe_and_unpadded() {
        // The digest of the empty string, from FIPS 180-4's test vectors, in RFC 4648's section 5.
        assert_eq!(record_hash(b""), "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    }

    #[test]
    fn rows_with_any_path_come_back() {
        let rows: Vec<RecordRow> = ["plain", "with,comma", "with \"quotes\"", "two\nlines", "é"]
            .iter()
            .map(|path| RecordRow::new(*path, &[7; 32], 3))
            .chain([RecordRow::own("a-1.dist-info/RECORD")])
            .collect();
        let text = format_record(&rows);
        assert_eq!(parse_record(text.as_bytes()).unwrap(), rows);
        assert!(text.ends_with("\na-1.dist-info/RECORD,,\n"), "{text}");
    }

    #[test]
    fn rows_of_another_shape_are_refused() {
        for text in ["a,b\n", "a,b,c,d\n", "a\n"] {
            let error = parse_record(text.as_bytes()).unwrap_err();
            assert!(error.starts_with("row 1 has"), "{error}");
        }
        assert!(parse_record(b"a\xff,,\n").is_err());
        assert_eq!(parse_record(b"").unwrap(), []);
    }
}
