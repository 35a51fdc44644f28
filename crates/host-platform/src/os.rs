//! The three operating systems that a sandbox can be hosted on.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The operating system of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// Any Linux, whatever its C library.
    Linux,
    /// Apple's macOS.
    Macos,
    /// Microsoft Windows.
    Windows,
}

impl Os {
    /// All three, in the order of the tables in the documentation.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Macos, Self::Windows];

    /// What this process was compiled for; unlike the architecture it cannot be emulated away.
    pub const OF_PROCESS: Self = if cfg!(windows) {
        Self::Windows
    } else if cfg!(target_os = "macos") {
        Self::Macos
    } else {
        Self::Linux
    };

    /// The lower-case word, also used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Macos => "macos",
            Self::Windows => "windows",
        }
    }

    /// What the file name of an executable ends with.
    pub fn executable_suffix(self) -> &'static str {
        if self == Self::Windows { ".exe" } else { "" }
    }
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names none of the three systems.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unknown operating system `{text}`")]
pub struct ParseOsError {
    /// The word as it was given.
    pub text: String,
}

impl ParseOsError {
    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        Some("use `linux`, `macos` or `windows`".to_owned())
    }
}

impl FromStr for Os {
    type Err = ParseOsError;

    /// Accepts our names and those of Python's `sys.platform` and `platform.system()`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "linux" => Ok(Self::Linux),
            "macos" | "darwin" | "osx" => Ok(Self::Macos),
            "windows" | "win32" => Ok(Self::Windows),
            _ => Err(ParseOsError { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_match_serde() {
        for os in Os::ALL {
            assert_eq!(os.name().parse(), Ok(os));
            assert_eq!(serde_json::to_string(&os).unwrap(), format!("\"{os}\""));
        }
        assert_eq!("Darwin".parse(), Ok(Os::Macos));
        assert_eq!("win32".parse(), Ok(Os::Windows));
        assert!("beos".parse::<Os>().is_err());
    }
}
