//! What can go wrong with trees, archives, file systems and disks, and what to do about it.

use std::path::PathBuf;

/// A failure of a format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A path of an archive that would leave the tree.
    #[error("The path `{path}` leaves the tree")]
    PathLeavesTree { path: String },
    /// A file that the initial file system's format cannot hold.
    #[error("`{path}` is too large for an initrd: {bytes} bytes")]
    FileTooLarge { path: String, bytes: u64 },
    /// The file system could not be written.
    #[error("Failed to put `{path}` into the file system")]
    Ext4 {
        /// The path inside of the image.
        path: String,
        /// What the writer said.
        source: fs_ext4::Error,
    },
    /// The file system could not be read.
    #[error("Failed to read `{path}` of the file system")]
    Ext4Read {
        /// The path inside of the image.
        path: String,
        /// What the reader said.
        source: fs_ext4::Error,
    },
    /// A device whose number ext4 has no room for.
    #[error("`{path}` has the device number {major}:{minor}, and ext4 holds at most 4095:1048575")]
    DeviceNumber {
        /// The path inside of the image.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// The tree has an entry without the folder above it.
    #[error("`{path}` has no folder above it")]
    NoParent { path: String },
    /// A hard link to something that is not there.
    #[error("`{path}` is a link to `{target}`, which is not there")]
    LostLink {
        path: String,
        /// What it names.
        target: String,
    },
    /// The file system's writer still holds the disk.
    #[error("The disk is still in use by the file system's writer")]
    DiskInUse,
    /// qcow2 has room for 1023 bytes.
    #[error("The backing file's name is longer than 1023 bytes")]
    BackingNameTooLong,
    /// A disk image that cannot be read back.
    #[error("Failed to read the disk `{}`: {detail}", path.display())]
    BadQcow2 {
        path: PathBuf,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A disk that lies on another, without that one.
    #[error("The disk `{}` is an overlay, and nothing without the disk below it", path.display())]
    OverlayAlone { path: PathBuf },
}

impl Error {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OverlayAlone { .. } => {
                Some("name the image's folder, its wheel or its name instead".to_owned())
            }
            Self::Ext4 { source: fs_ext4::Error::NoSpaceLeftOnDevice, .. } => {
                Some("give the disk a larger size".to_owned())
            }
            _ => None,
        }
    }
}
