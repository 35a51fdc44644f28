//! A version of glibc, as files ask for it and as platform tags name it.

use std::fmt;

/// A version of glibc, for example 2.17.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LibcVersion {
    /// The number before the dot.
    pub major: u32,
    /// The number after it; a third number (2.2.5) does not count for a platform tag.
    pub minor: u32,
}

impl fmt::Display for LibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
