//! Paths of a recipe: places in the image, targets of links, patterns. Checked as they are parsed, so
//! that a wrong one is reported where it stands; whether something is there is not known here.

use serde::Deserialize;

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
        let is_clean = text.starts_with('/') && text[1..].split('/').all(is_name);
        match is_clean && text.len() <= MAX_PATH {
            true => Ok(Self(text)),
            false => Err(format!(
                "`{}` is not an absolute path without `..`, of names of at most 255 bytes",
                shown(&text)
            )),
        }
    }
}

/// The longest path that Linux takes, and the longest target of a link, in bytes.
const MAX_PATH: usize = 4095;

/// Whether a file can be called so: no more than Linux's 255 bytes, and no path.
fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(['/', '\0']) && !matches!(text, "." | "..")
}

/// The beginning of a text for a message, without what would break the line.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    let dots = if start.len() < text.len() { "..." } else { "" };
    format!("{}{dots}", start.escape_debug())
}

/// A file's name without folders.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct FileName(pub String);

impl TryFrom<String> for FileName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match is_name(&text) {
            true => Ok(Self(text)),
            false => Err(format!("`{}` is not the name of a file without folders", shown(&text))),
        }
    }
}

/// What a symbolic link points to: any path at all.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct LinkTarget(pub String);

impl TryFrom<String> for LinkTarget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (1..=MAX_PATH).contains(&text.len()) && !text.contains('\0') {
            true => Ok(Self(text)),
            false => Err(format!("`{}` is nothing that a link can point to", shown(&text))),
        }
    }
}

/// A login shell: a path that a line of passwd(5) can hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Shell(String);

impl Shell {
    /// Its path with the leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Shell {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = !text.contains(|c: char| c == ':' || c.is_control() || c.is_whitespace());
        match AbsolutePath::try_from(text) {
            Ok(path) if is_plain => Ok(Self(path.0)),
            Ok(path) => Err(format!("`{}` is not the path of a shell", shown(&path.0))),
            Err(error) => Err(error),
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
    fn paths_names_and_targets_are_checked() {
        let (long, deep) = (format!("/{}", "x".repeat(256)), "/x".repeat(2048));
        for path in ["etc/x", "/", "/a/../b", "/a//b", "/a/", "/a\0", "", &long, &deep] {
            assert!(AbsolutePath::try_from(path.to_owned()).is_err(), "{path}");
        }
        assert!(AbsolutePath::try_from(format!("/{}", "x".repeat(255))).is_ok());
        for name in ["", "..", "a/b", "a\0"] {
            assert!(FileName::try_from(name.to_owned()).is_err(), "{name}");
        }
        assert!(FileName::try_from("[".to_owned()).is_ok());
        for target in ["", "a\0", &"x".repeat(4096)] {
            assert!(LinkTarget::try_from((*target).to_owned()).is_err(), "{target}");
        }
        assert!(LinkTarget::try_from("../x y".to_owned()).is_ok());
        for shell in ["/bin/sh:x", "/bin/sh\nevil:x:0:0::/:/bin/sh", "/bin/s h", "sh"] {
            assert!(Shell::try_from(shell.to_owned()).is_err(), "{shell}");
        }
    }
}
