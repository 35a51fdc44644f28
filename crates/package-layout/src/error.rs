//! What can be wrong with a name or a manifest.

/// An error in a name or a manifest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name of a save is not the name of one folder.
    #[error("Save name `{name}` is not allowed: {reason}")]
    SaveName {
        /// The name as it was given.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The name of an image cannot be part of a file name and of a package name.
    #[error("Image name `{name}` is not allowed: {reason}")]
    ImageName {
        /// The name as it was given.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A manifest is not the JSON that is expected.
    #[error("Manifest is not valid")]
    ManifestJson {
        /// What the JSON reader says, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest comes from a newer release than this one.
    #[error("Manifest version {found} is newer than supported ({supported})")]
    ManifestTooNew {
        /// The version in the manifest.
        found: u64,
        /// The newest version that this release reads.
        supported: u32,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::SaveName { .. } => Some(
                "use letters, digits, `.`, `_` and `-`, for example `my-env`; another folder is \
                 chosen with `workspace`"
                    .to_owned(),
            ),
            Self::ImageName { .. } => Some(
                "use lower-case letters and digits in words joined by `-`, for example \
                 `debian-desktop`"
                    .to_owned(),
            ),
            Self::ManifestJson { .. } => None,
            Self::ManifestTooNew { .. } => Some("update quicksand to load it".to_owned()),
        }
    }
}
