//! A lock that cannot be read, or that does not fit.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// A lock that cannot be read.
    #[error("Failed to read the lock `{}`", path.display())]
    BadLock {
        /// The lock's file.
        path: PathBuf,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
    /// A lock whose parts do not agree.
    #[error("The lock `{}` is no work of a bake: {detail}", path.display())]
    WrongLock {
        /// The lock's file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The lock was made by a later version of this crate.
    #[error("The lock `{}` has version {found}, and this quicksand knows {known}", path.display())]
    LockVersion {
        /// The lock's file.
        path: PathBuf,
        found: u32,
        /// Ours.
        known: u32,
    },
    /// An image without a lock, and none could be made.
    #[error("`{image}` has no lock for {arch} yet, and none could be made: {detail}")]
    NoLock {
        /// The image's name.
        image: String,
        /// The architecture, as image files call it.
        arch: &'static str,
        /// Why none could be made.
        detail: String,
        /// What to do about it.
        hint: String,
    },
    /// Packages that the lock names are no longer on the mirror.
    #[error("The mirror no longer holds these locked packages of `{recipe}`: {}", packages.join(", "))]
    Gone {
        /// The recipe's name.
        recipe: String,
        /// The command that renews its lock.
        renewal: String,
        /// `name version` of each.
        packages: Vec<String>,
    },
    /// What the mirror holds under a package's name is another file than the locked one.
    #[error("The mirror has other files in place of these locked packages of `{recipe}`: {}", packages.join(", "))]
    OtherOnMirror {
        /// The recipe's name.
        recipe: String,
        /// `name version` of each.
        packages: Vec<String>,
    },
    /// An input that is another one than the lock names.
    #[error("The sha256 of {what} is {found}, and the lock names {expected}")]
    OtherInput {
        what: String,
        /// The sha256 that it has.
        found: String,
        /// The one in the lock.
        expected: String,
    },
}

impl LockError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoLock { hint, .. } => Some(hint.clone()),
            Self::BadLock { path, .. }
            | Self::LockVersion { path, .. }
            | Self::WrongLock { path, .. } => {
                Some(format!("bake with --update to write `{}` anew", path.display()))
            }
            Self::Gone { renewal, .. } => {
                Some(format!("mirrors drop old versions; renew the lock with: {renewal}"))
            }
            Self::OtherOnMirror { .. } => Some(
                "either the lock was changed, or distrust the mirror; --update renews the lock from \
                 signed lists"
                    .to_owned(),
            ),
            Self::OtherInput { .. } => {
                Some("if that is meant, renew the lock: quicksand dev bake --update".to_owned())
            }
        }
    }
}
