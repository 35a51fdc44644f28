//! The comparison of an image with advisories.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A file of advisories that cannot be read as such.
    #[error("Failed to read advisories from `{}`: {detail}", path.display())]
    BadAdvisories {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// An image without a bill of materials that can be read.
    #[error("`{of}` has no bill of materials that can be read")]
    NoBill {
        /// The disk, wheel or file.
        of: String,
    },
}

impl AuditError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BadAdvisories { .. } => Some(
                "give advisories in OSV form: one JSON object, a list of them, or one on each line"
                    .to_owned(),
            ),
            Self::NoBill { .. } => Some(
                "wheels and installed images of quicksand have one; name the wheel, or bake the image"
                    .to_owned(),
            ),
        }
    }
}
