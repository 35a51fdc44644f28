//! Records of pax extended headers: pairs of key and value, each with its own length, so that a value
//! may hold any byte, newlines included. It owns reading them; what a key means is its reader's.
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>

use std::io::{Error, Result};

/// The records of one header, in the order in which they stand there.
#[derive(Clone, Debug, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Reads `LENGTH KEY=VALUE\n`, repeated; what some writers pad with (zeros) ends them.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self> {
        let mut records = Vec::new();
        while bytes.first().is_some_and(|byte| *byte != 0) {
            let (record, rest) = record(bytes).ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            bytes = rest;
        }
        Ok(Self(records))
    }

    /// Takes the records of a later header, which count more.
    pub(super) fn extend(&mut self, later: Self) {
        let is_named = |key: &[u8]| later.0.iter().any(|(other, _)| other == key);
        self.0.retain(|(key, _)| !is_named(key));
        self.0.extend(later.0);
    }

    /// The last value of a key. An empty one takes back what an earlier header said.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let last = self.0.iter().rev().find(|(other, _)| other == key.as_bytes())?;
        Some(last.1.as_slice()).filter(|value| !value.is_empty())
    }

    /// All records whose key begins so, with the rest of the key.
    pub(super) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.iter().filter_map(move |(key, value)| {
            Some((key.strip_prefix(prefix.as_bytes())?, value.as_slice()))
        })
    }

    /// A value in whole numbers.
    pub(super) fn number(&self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| broken())?;
        text.trim().parse().map(Some).map_err(|_| wrong(key, text))
    }

    /// A time in whole seconds, fractions rounded down as clocks do: -0.5 is in the second before 0.
    pub(super) fn time(&self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| broken())?.trim();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().map_err(|_| wrong(key, text))?;
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong(key, text));
        }
        let is_before = whole.starts_with('-') && fraction.bytes().any(|byte| byte != b'0');
        Ok(Some(seconds.saturating_sub(i64::from(is_before))))
    }
}

/// Names of attributes in keys, which a `=` ends: GNU tar writes that and `%` as numbers, and nothing
/// else.
pub(super) mod keyword {
    /// The name as a key has it.
    pub(in crate::tree) fn encoded(name: &str) -> String {
        name.replace('%', "%25").replace('=', "%3D")
    }

    /// The name that a key means.
    pub(in crate::tree) fn decoded(key: &[u8]) -> Vec<u8> {
        let mut name = Vec::with_capacity(key.len());
        let mut rest = key;
        while let Some((first, tail)) = rest.split_first() {
            let (byte, next) = match rest {
                [b'%', b'2', b'5', next @ ..] => (b'%', next),
                [b'%', b'3', b'D', next @ ..] => (b'=', next),
                _ => (*first, tail),
            };
            name.push(byte);
            rest = next;
        }
        name
    }
}

/// The first record without its length and newline, and what is behind it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &bytes[length..]))
}

fn broken() -> Error {
    Error::other("a pax header of it is broken")
}

fn wrong(key: &str, text: &str) -> Error {
    Error::other(format!("a pax header says `{key}={text}`, which is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(pairs: &[(&str, &[u8])]) -> Records {
        let mut bytes = Vec::new();
        for (key, value) in pairs {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            bytes.extend(format!("{length} {key}=").bytes());
            bytes.extend(*value);
            bytes.push(b'\n');
        }
        Records::parse(&bytes).unwrap()
    }

    #[test]
    fn values_hold_any_byte() {
        let found = records(&[("SCHILY.xattr.user.a", b"1\n2=\0\n"), ("path", b"a\nb")]);
        assert_eq!(found.get("SCHILY.xattr.user.a"), Some(&b"1\n2=\0\n"[..]));
        assert_eq!(found.get("path"), Some(&b"a\nb"[..]));
        for broken in [&b"5 a=1\n"[..], b"99 a=1\n", b"x a=1\n", b"6 ab1\n", b"0 a=1\n"] {
            assert!(Records::parse(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn later_headers_count_more_and_empty_values_take_back() {
        let mut all = records(&[("uid", b"1"), ("gid", b"2")]);
        all.extend(records(&[("uid", b"7"), ("gid", b"")]));
        assert_eq!(all.number("uid").unwrap(), Some(7));
        assert_eq!(all.number("gid").unwrap(), None);
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, seconds) in [
            ("4102444800", 4_102_444_800),
            ("1.9", 1),
            ("-1", -1),
            ("-1.0", -1),
            ("-1.5", -2),
            ("-0.25", -1),
        ] {
            let found = records(&[("mtime", text.as_bytes())]).time("mtime").unwrap();
            assert_eq!(found, Some(seconds), "{text}");
        }
        assert!(records(&[("mtime", b"1e99")]).time("mtime").is_err());
    }
}
