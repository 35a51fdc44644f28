//! Values of a recipe that are checked as they are parsed, so that a wrong one is reported where
//! it stands.

use serde::Deserialize;

/// A number of bytes: `"4G"`, `"512M"`, `"1GiB"`; a suffix counts in powers of 1024.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct ByteSize(pub u64);

impl TryFrom<String> for ByteSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a size; write a number with K, M, G or T, as in \"4G\"");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor: u64 = match text[digits.len()..].trim_end_matches("iB") {
            "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            "T" => 1 << 40,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let bytes = number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(wrong)?;
        Ok(Self(bytes))
    }
}

/// The version in the names of an image's files.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Version(pub String);

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.';
        if !text.is_empty() && text.len() <= 32 && text.chars().all(is_name) {
            Ok(Self(text))
        } else {
            Err(format!(
                "the version `{text}` cannot be part of a file name; use letters, digits and dots, as in \"13\" or \"24.04\""
            ))
        }
    }
}

/// The name of a package, in which `{arch}` may stand for the architecture.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct PackageName(pub String);

impl TryFrom<String> for PackageName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = text.replace("{arch}", "x");
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-._".contains(c);
        if plain.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && plain.chars().all(allowed)
        {
            Ok(Self(text))
        } else {
            Err(format!(
                "`{text}` is not the name of a package; names hold lower-case letters, digits, `+`, `-`, `.` and `_`"
            ))
        }
    }
}

/// One word without anything that a list, a shell or a path could take for its own: the name of a
/// suite, a component, a kernel module.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Plain(pub String);

impl TryFrom<String> for Plain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not one word of letters, digits, `.`, `-` and `_`"))
        }
    }
}

/// A machine's memory: at least 64 MiB, which no kernel of a distribution starts below.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Memory(String);

impl Memory {
    /// As it was written: `512M`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = ByteSize::try_from(text.clone())?.0;
        if (64 << 20..=1 << 40).contains(&bytes) {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not a machine's memory; write from 64M to 1T"))
        }
    }
}

/// A number of processors.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "i64")]
pub struct Cpus(pub u16);

impl TryFrom<i64> for Cpus {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        u16::try_from(number)
            .ok()
            .filter(|number| (1..=255).contains(number))
            .map(Self)
            .ok_or_else(|| format!("{number} is not a number of processors; write 1 to 255"))
    }
}

/// Permission bits in octal: `"0644"`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Mode(pub u16);

impl Default for Mode {
    fn default() -> Self {
        Self(0o644)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        u16::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no octal mode; write one like \"0755\""))
    }
}

/// A path inside the image, from its root.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// The path with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AbsolutePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_clean = text.len() > 1
            && text.starts_with('/')
            && text[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
        if is_clean {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not an absolute path without `..`"))
        }
    }
}

/// A user's or group's name, as useradd(8) takes it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct UserName(String);

impl UserName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let other = |c: char| first(c) || c.is_ascii_digit() || c == '-';
        if text.len() <= 32 && text.starts_with(first) && text.chars().all(other) {
            Ok(Self(text))
        } else {
            Err(format!(
                "`{text}` is not a user name; write lower-case letters, digits, `-` and `_`"
            ))
        }
    }
}

/// Paths by shell pattern: `*` matches inside one name, `**` across names.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Pattern(String);

impl Pattern {
    /// Whether the pattern matches a path without its leading slash.
    pub fn matches(&self, path: &[u8]) -> bool {
        matches(self.0.as_bytes(), path)
    }

    /// The pattern with its leading slash.
    pub fn as_str(&self) -> String {
        format!("/{}", self.0)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix('/') {
            Some(rest) if !rest.is_empty() => Ok(Self(rest.to_owned())),
            _ => Err(format!("`{text}` is not an absolute pattern, as in \"/usr/share/man/**\"")),
        }
    }
}

fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|skip| matches(rest, &path[skip..])),
        [b'*', rest @ ..] => {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=end).any(|skip| matches(rest, &path[skip..]))
        }
        [first, rest @ ..] => path.first() == Some(first) && matches(rest, &path[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_refused() {
        for (text, bytes) in
            [("4G", 4 << 30), ("512M", 512 << 20), ("1GiB", 1 << 30), ("3K", 3 << 10)]
        {
            assert_eq!(ByteSize::try_from(text.to_owned()), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["lots", "4", "-1G", "0G", "99999999999T", "4X", "", "G"] {
            let message = ByteSize::try_from(text.to_owned()).unwrap_err();
            assert!(message.contains(&format!("`{text}`")), "{message}");
        }
    }

    #[test]
    fn patterns_match_names_and_trees() {
        let check = |pattern: &str, path: &str| {
            Pattern::try_from(pattern.to_owned()).unwrap().matches(path.as_bytes())
        };
        assert!(check("/usr/share/doc/*/copyright", "usr/share/doc/bash/copyright"));
        assert!(!check("/usr/share/doc/*/copyright", "usr/share/doc/a/b/copyright"));
        assert!(check("/usr/share/man/**", "usr/share/man/man1/x.1"));
        assert!(!check("/usr/share/man/**", "usr/share/manual"));
        assert!(Pattern::try_from("usr/*".to_owned()).is_err());
    }

    #[test]
    fn paths_modes_and_names_are_checked() {
        for path in ["etc/x", "/", "/a/../b", "/a//b", "/a/"] {
            assert!(AbsolutePath::try_from(path.to_owned()).is_err(), "{path}");
        }
        assert_eq!(Mode::try_from("4755".to_owned()), Ok(Mode(0o4755)));
        assert!(Mode::try_from("888".to_owned()).is_err());
        for name in ["Root", "1a", "", "a b", &"x".repeat(33)] {
            assert!(UserName::try_from((*name).to_owned()).is_err(), "{name}");
        }
    }
}
