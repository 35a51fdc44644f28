//! Why an image cannot be looked into, each with what to do next.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image is not found.
    #[error(transparent)]
    Locate(#[from] Box<runtime_locator::Error>),

    /// Its file system cannot be read.
    #[error("Failed to read the image `{image}`")]
    Unreadable {
        /// The image as it was named.
        image: String,
        /// What is wrong with it.
        #[source]
        source: disk_formats::Error,
    },

    /// A wheel of something else.
    #[error("The wheel holds no disk of an image")]
    NoDisk,

    /// Its disk cannot be read.
    #[error(transparent)]
    Disk(#[from] disk_formats::Error),

    /// Its packages or its bill of materials cannot be read.
    #[error(transparent)]
    Content(#[from] image_builder::Error),

    /// A wheel cannot be read.
    #[error(transparent)]
    Wheel(#[from] wheel_retag::Error),

    /// A file cannot be read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locate(error) => error.hint(),
            Self::Unreadable { source, .. } | Self::Disk(source) => source.hint(),
            Self::Content(error) => error.hint(),
            Self::Wheel(error) => error.hint(),
            Self::NoDisk | Self::Io(_) => None,
        }
    }
}

impl From<runtime_locator::Error> for Error {
    fn from(error: runtime_locator::Error) -> Self {
        Self::Locate(Box::new(error))
    }
}
