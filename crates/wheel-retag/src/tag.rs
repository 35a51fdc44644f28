//! Compatibility tags (PEP 425): what a wheel says it runs on.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A tag with a compressed set of platforms, like `py3-none-manylinux_2_17_x86_64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WheelTag {
    /// The interpreters, joined by `.`, like `py3` or `py2.py3`.
    pub python: String,
    /// The binary interfaces, joined by `.`, like `none` or `abi3`.
    pub abi: String,
    /// The platforms, like `win_amd64`. Written sorted and each once.
    pub platforms: Vec<String>,
}

impl Default for WheelTag {
    /// `py3-none-any`: any Python 3, on anything.
    fn default() -> Self {
        Self::new("py3", "none", ["any"])
    }
}

impl WheelTag {
    /// A tag of these parts.
    pub fn new<P: Into<String>>(
        python: impl Into<String>,
        abi: impl Into<String>,
        platforms: impl IntoIterator<Item = P>,
    ) -> Self {
        Self {
            python: python.into(),
            abi: abi.into(),
            platforms: platforms.into_iter().map(Into::into).collect(),
        }
    }

    /// The same tag for other platforms.
    pub fn with_platforms<P: Into<String>>(&self, platforms: impl IntoIterator<Item = P>) -> Self {
        Self::new(self.python.clone(), self.abi.clone(), platforms)
    }

    /// The platforms in the order of the file name: sorted, each once.
    pub fn sorted_platforms(&self) -> Vec<&str> {
        let mut platforms: Vec<&str> = self.platforms.iter().map(String::as_str).collect();
        platforms.sort_unstable();
        platforms.dedup();
        platforms
    }

    /// Each member of the expanded set, sorted: the values of WHEEL's `Tag` lines.
    pub fn expanded(&self) -> Vec<String> {
        let mut members = Vec::new();
        for python in self.python.split('.') {
            for abi in self.abi.split('.') {
                for platform in self.sorted_platforms() {
                    members.push(format!("{python}-{abi}-{platform}"));
                }
            }
        }
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Checks that each part can stand in a file name and be read back from it.
    pub fn check(&self) -> Result<(), Error> {
        let error = |reason| Err(Error::Tag { tag: self.to_string(), reason });
        let in_file_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let sound = |set: &str| {
            set.split('.').all(|member| !member.is_empty() && member.chars().all(in_file_name))
        };
        if self.platforms.is_empty() {
            return error("it names no platform");
        }
        if !sound(&self.python) || !sound(&self.abi) {
            return error("a part is empty or has other characters than letters, digits and `_`");
        }
        let platform = |p: &String| !p.is_empty() && p.chars().all(in_file_name);
        if !self.platforms.iter().all(platform) {
            return error(
                "a platform is empty or has other characters than letters, digits and `_`",
            );
        }
        Ok(())
    }
}

impl fmt::Display for WheelTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.python, self.abi, self.sorted_platforms().join("."))
    }
}

impl FromStr for WheelTag {
    type Err = Error;

    /// Reads `python-abi-platform` with compressed sets.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('-').collect();
        let [python, abi, platforms] = parts[..] else {
            return Err(Error::Tag {
                tag: text.to_owned(),
                reason: "it does not have three parts",
            });
        };
        let tag = Self::new(python, abi, platforms.split('.'));
        tag.check()?;
        Ok(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sorted_and_expanded() {
        let tag: WheelTag =
            "py2.py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64".parse().unwrap();
        assert_eq!(tag.to_string(), "py2.py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64");
        assert_eq!(
            tag.expanded(),
            [
                "py2-none-manylinux2014_x86_64",
                "py2-none-manylinux_2_17_x86_64",
                "py3-none-manylinux2014_x86_64",
                "py3-none-manylinux_2_17_x86_64",
            ]
        );
        assert_eq!(tag.to_string().parse::<WheelTag>().unwrap().to_string(), tag.to_string());
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let a = WheelTag::new("py3", "none", ["win_arm64", "win_amd64", "win_arm64"]);
        assert_eq!(a.to_string(), "py3-none-win_amd64.win_arm64");
        assert_eq!(a.expanded(), ["py3-none-win_amd64", "py3-none-win_arm64"]);
    }

    #[test]
    fn unsound_tags_are_refused() {
        for text in [
            "",
            "py3",
            "py3-none",
            "py3-none-",
            "py3--any",
            "py3-none-win-amd64",
            "py3-none-a..b",
            "py3-none-../x",
        ] {
            assert!(text.parse::<WheelTag>().is_err(), "{text}");
        }
        assert!(WheelTag::new("py3", "none", Vec::<String>::new()).check().is_err());
        assert!(WheelTag::new("py3", "none", ["a.b"]).check().is_err());
    }
}
