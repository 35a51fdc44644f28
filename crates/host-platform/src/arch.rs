//! The two processor architectures that machines and hosts can have, and their many spellings.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A processor architecture, of a host or of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Arch {
    /// 64-bit x86: `amd64` to Debian, `x86_64` to QEMU.
    Amd64,
    /// 64-bit Arm: `arm64` to Debian, `aarch64` to QEMU.
    Arm64,
}

impl Arch {
    /// Both architectures, in the order in which they are listed to people.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// What this process was compiled for, which emulation can make differ from the hardware.
    #[cfg(target_arch = "x86_64")]
    pub const OF_PROCESS: Self = Self::Amd64;
    /// What this process was compiled for, which emulation can make differ from the hardware.
    #[cfg(target_arch = "aarch64")]
    pub const OF_PROCESS: Arch = Arch::Arm64;

    /// Debian's word, used in image file names and in the Python interface.
    pub fn image_name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// QEMU's word, as in `qemu-system-x86_64`, which is also the kernel's and Rust's.
    pub fn qemu_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// The one that this is not.
    pub fn other(self) -> Self {
        match self {
            Self::Amd64 => Self::Arm64,
            Self::Arm64 => Self::Amd64,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.image_name())
    }
}

impl From<Arch> for &'static str {
    fn from(arch: Arch) -> Self {
        arch.image_name()
    }
}

impl TryFrom<String> for Arch {
    type Error = ParseArchError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A word that names neither architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unknown architecture `{text}`")]
pub struct ParseArchError {
    /// The word as it was given.
    pub text: String,
}

impl ParseArchError {
    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        Some("use `amd64` (also x86_64, x64) or `arm64` (also aarch64)".to_owned())
    }
}

impl FromStr for Arch {
    type Err = ParseArchError;

    /// Accepts the spellings of Debian, QEMU, Python, Rust and Windows in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "amd64" | "x86_64" | "x86-64" | "x64" => Ok(Self::Amd64),
            "arm64" | "aarch64" => Ok(Self::Arm64),
            _ => Err(ParseArchError { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_usual_spellings_are_understood() {
        let table = [
            ("amd64", Some(Arch::Amd64)),
            ("x86_64", Some(Arch::Amd64)),
            ("x86-64", Some(Arch::Amd64)),
            ("X64", Some(Arch::Amd64)),
            ("AMD64", Some(Arch::Amd64)),
            ("arm64", Some(Arch::Arm64)),
            ("ARM64", Some(Arch::Arm64)),
            (" aarch64\n", Some(Arch::Arm64)),
            ("x86", None),
            ("i686", None),
            ("armv7l", None),
            ("riscv64", None),
            ("", None),
        ];
        for (text, expect) in table {
            assert_eq!(text.parse::<Arch>().ok(), expect, "{text:?}");
        }
    }

    #[test]
    fn names_parse_back() {
        for arch in Arch::ALL {
            assert_eq!(arch.image_name().parse(), Ok(arch));
            assert_eq!(arch.qemu_name().parse(), Ok(arch));
            assert_eq!(arch.other().other(), arch);
            assert_ne!(arch.other(), arch);
        }
    }

    #[test]
    fn serde_writes_the_image_name_and_reads_any_spelling() {
        assert_eq!(serde_json::to_string(&Arch::Arm64).unwrap(), "\"arm64\"");
        assert_eq!(serde_json::from_str::<Arch>("\"x86_64\"").unwrap(), Arch::Amd64);
        let error = serde_json::from_str::<Arch>("\"vax\"").unwrap_err().to_string();
        assert!(error.contains("Unknown architecture `vax`"), "{error}");
    }
}
