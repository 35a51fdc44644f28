//! What can go wrong while an image is made, by what it is about; each knows what to do about it.

mod audit;
mod check;
mod kernel;
mod lock;
mod package;
mod recipe;
mod root;
mod store;

pub use audit::AuditError;
pub use check::CheckError;
pub use kernel::KernelError;
pub use lock::LockError;
pub use package::PackageError;
pub use recipe::RecipeError;
pub use root::RootError;
pub use store::StoreError;

/// A failure of a bake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tree, an archive, a file system or a disk.
    #[error(transparent)]
    Disk(disk_formats::Error),
    /// Something is not there that nothing may be fetched for.
    #[error("{what}")]
    Offline {
        /// What is not there.
        what: String,
    },
    /// The proof of an image failed, with the error of what boots it.
    #[error(transparent)]
    Proof(Box<dyn std::error::Error + Send + Sync>),
    /// What a bake is made of is Linux's: chroots, packages, file systems.
    #[error("Images are baked on Linux, and this host is {os}")]
    System {
        /// This host's system.
        os: host_platform::Os,
    },
    /// A name that no image can have.
    #[error(transparent)]
    ImageName(#[from] package_layout::Error),
    /// The wheel could not be written.
    #[error(transparent)]
    Wheel(#[from] wheel_retag::Error),
    /// A recipe that cannot be baked as it stands.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A lock that cannot be read, or that does not fit.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file that was fetched or kept and is not what it should be, or a wheel that did not come.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What apt's and apk's archives hold.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A kernel, its modules or an initrd.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The making of a root file system.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A check of a recipe in the booted machine.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The comparison of an image with advisories.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Error {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Recipe(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Package(error) => error.hint(),
            Self::Kernel(error) => error.hint(),
            Self::Root(error) => error.hint(),
            Self::Check(error) => error.hint(),
            Self::Audit(error) => error.hint(),
            Self::Offline { .. } => Some(
                "run once without --offline, or take what is missing with --import-cache from where it was exported"
                    .to_owned(),
            ),
            Self::Wheel(error) => error.hint(),
            Self::System { .. } => Some(
                "bake it on a machine with Linux, a virtual one too; image wheels hold no program of the host, and \
                 there `cargo xtask release merge` gives them the names of other systems"
                    .to_owned(),
            ),
            Self::Disk(error) => error.hint(),
            _ => None,
        }
    }
}

impl From<disk_formats::Error> for Error {
    fn from(error: disk_formats::Error) -> Self {
        match error {
            disk_formats::Error::Io(source) => Self::Io(source),
            error => Self::Disk(error),
        }
    }
}
