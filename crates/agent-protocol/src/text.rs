//! Text of the guest: bytes that are nearly always UTF-8, and need not be.
//!
//! File names, arguments and variables of Linux are bytes. In JSON, which has no form for bytes, such
//! a text is a plain string when it is UTF-8 and `{"base64": "…"}` otherwise. This module also owns
//! how such text is shown to people: nothing in it may steer a terminal.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are text to whoever reads them in the guest.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestText(Vec<u8>);

impl GuestText {
    /// The bytes, as the guest's kernel sees them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, when it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The bytes themselves.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for GuestText {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for GuestText {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&[u8]> for GuestText {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for GuestText {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// The argument's bytes, where the host's system has byte strings.
#[cfg(unix)]
impl From<&std::ffi::OsStr> for GuestText {
    fn from(text: &std::ffi::OsStr) -> Self {
        Self(std::os::unix::ffi::OsStrExt::as_bytes(text).to_vec())
    }
}

/// Text of Windows is UTF-16; what is no character (a lone surrogate) becomes U+FFFD.
#[cfg(not(unix))]
impl From<&std::ffi::OsStr> for GuestText {
    fn from(text: &std::ffi::OsStr) -> GuestText {
        GuestText(text.to_string_lossy().into_owned().into_bytes())
    }
}

impl AsRef<[u8]> for GuestText {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for GuestText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for GuestText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for GuestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl fmt::Debug for GuestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", shown(&self.0))
    }
}

/// Text for messages and terminals: control characters, and those that change the direction of
/// writing, become `\x1b` or `\u{202e}`, and bytes that are not UTF-8 become `\xff`.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\0'..='\x1f' | '\x7f' => text.push_str(&format!("\\x{:02x}", character as u32)),
                '\u{80}'..='\u{9f}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' => text.extend(character.escape_unicode()),
                character => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

impl Serialize for GuestText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.as_str() {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &STANDARD.encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for GuestText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = GuestText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an object with `base64`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GuestText, E> {
        Ok(text.into())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<GuestText, E> {
        Ok(text.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GuestText, A::Error> {
        let Some((key, value)) = map.next_entry::<String, String>()? else {
            return Err(A::Error::custom("an object without `base64`"));
        };
        if key != "base64" || map.next_key::<String>()?.is_some() {
            return Err(A::Error::custom("an object with a key other than `base64`"));
        }
        STANDARD.decode(value).map(GuestText).map_err(A::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_json() {
        for (bytes, expect) in [
            (&b"plain"[..], r#""plain""#),
            ("gr\u{fc}\u{fffd}".as_bytes(), "\"gr\u{fc}\u{fffd}\""),
            (b"", r#""""#),
            (b"a\xffb", r#"{"base64":"Yf9i"}"#),
        ] {
            let text = GuestText::from(bytes);
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(json, expect);
            assert_eq!(serde_json::from_str::<GuestText>(&json).unwrap(), text);
        }
        for json in ["1", "null", "[]", "{}", r#"{"base64":"?"}"#, r#"{"base64":"","x":"y"}"#] {
            assert!(serde_json::from_str::<GuestText>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_shown_steers_no_terminal() {
        for (bytes, expect) in [
            (&b"a b/c"[..], "a b/c"),
            (b"\x1b[2Jgone\r\n\0\x7f", r"\x1b[2Jgone\x0d\x0a\x00\x7f"),
            (b"caf\xe9", r"caf\xe9"),
            ("\u{202e}gpj\u{9b}0m\u{e4}".as_bytes(), "\\u{202e}gpj\\u{9b}0m\u{e4}"),
        ] {
            assert_eq!(shown(bytes), expect);
        }
    }
}
