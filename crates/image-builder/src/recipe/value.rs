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
        let factor: u64 = match &text[digits.len()..] {
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            "T" | "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        // The parser alone would take a sign.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = digits.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        let bytes = number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(wrong)?;
        Ok(Self(bytes))
    }
}

/// The size of a disk: room for a file system of ours at least, and no more than a disk that is read
/// back may have.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct DiskSize(pub u64);

impl TryFrom<String> for DiskSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = ByteSize::try_from(text.clone())?.0;
        match (4 << 20..=4 << 40).contains(&bytes) {
            true => Ok(Self(bytes)),
            false => Err(format!("`{text}` is not the size of a disk; write from 4M to 4T")),
        }
    }
}

/// The version in the names of an image's files.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Version(pub String);

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_part =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if text.len() <= 32 && text.split('.').all(is_part) {
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
        // For apt a minus behind a name means that the package must not be installed.
        if plain.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && !plain.ends_with('-')
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

/// The name of a kernel module; with a `?` behind it the module comes along where the kernel has it.
/// What one kernel has as a module is built into a later one, or is called otherwise there.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct ModuleName(pub String);

impl TryFrom<String> for ModuleName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Plain::try_from(text.strip_suffix('?').unwrap_or(&text).to_owned())?;
        Ok(Self(text))
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
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        u16::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| is_number && *mode <= 0o7777)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no octal mode; write one like \"0755\""))
    }
}

/// The exit code of a command.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "i64")]
pub struct ExitCode(pub i32);

impl TryFrom<i64> for ExitCode {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match u8::try_from(number) {
            Ok(number) => Ok(Self(i32::from(number))),
            Err(_) => Err(format!("{number} is not an exit code; write 0 to 255")),
        }
    }
}

/// How long a check may take, in seconds: a day at most.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "i64")]
pub struct Within(pub u32);

impl TryFrom<i64> for Within {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let seconds = u32::try_from(number).ok().filter(|seconds| *seconds <= 86_400);
        seconds
            .map(Self)
            .ok_or_else(|| format!("{number} is not a time limit; write 0 to 86400 seconds"))
    }
}

/// A user's or group's name, as useradd(8) takes it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct UserName(String);

impl UserName {
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
        for text in
            ["lots", "4", "-1G", "+1G", "0G", "99999999999T", "4X", "1MiBiB", "1iB", "", "G"]
        {
            let message = ByteSize::try_from(text.to_owned()).unwrap_err();
            assert!(message.contains(&format!("`{text}`")), "{message}");
        }
    }

    #[test]
    fn modes_names_and_numbers_are_checked() {
        assert!(Mode::try_from("+644".to_owned()).is_err());
        for version in ["..", "1.", ".1", "", "1..2", "1-2"] {
            assert!(Version::try_from(version.to_owned()).is_err(), "{version}");
        }
        assert!(PackageName::try_from("g++".to_owned()).is_ok());
        assert!(PackageName::try_from("bash-".to_owned()).is_err());
        assert_eq!(DiskSize::try_from("4T".to_owned()), Ok(DiskSize(4 << 40)));
        for size in ["1M", "5T", "8000000T"] {
            assert!(DiskSize::try_from(size.to_owned()).is_err(), "{size}");
        }
        assert_eq!(ExitCode::try_from(255), Ok(ExitCode(255)));
        assert!(ExitCode::try_from(256).is_err() && ExitCode::try_from(-1).is_err());
        assert!(Within::try_from(1 << 40).is_err() && Within::try_from(-1).is_err());
        assert_eq!(Mode::try_from("4755".to_owned()), Ok(Mode(0o4755)));
        assert!(Mode::try_from("888".to_owned()).is_err());
        for name in ["Root", "1a", "", "a b", &"x".repeat(33)] {
            assert!(UserName::try_from((*name).to_owned()).is_err(), "{name}");
        }
    }
}
