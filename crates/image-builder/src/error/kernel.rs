//! A kernel, its modules or an initrd.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// An initrd that is no archive that can be read.
    #[error("Failed to read the initrd `{}`", path.display())]
    BadInitrd { path: PathBuf },
    /// A kernel that cannot be used.
    #[error("Failed to use the kernel `{}`: {detail}", path.display())]
    BadKernel {
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The kernel's package holds no kernel where one is expected.
    #[error("The package `{package}` holds no kernel")]
    NoKernel { package: String },
    /// A module that the kernel does not have.
    #[error("The kernel {release} has no module `{name}`")]
    UnknownModule {
        /// The module that was asked for.
        name: String,
        /// The kernel's release.
        release: String,
        /// The nearest name that it has.
        nearest: Option<String>,
    },
    /// A module file that is broken.
    #[error("Failed to read the module `{path}`: {detail}")]
    BadModule {
        path: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// No modules where some are expected.
    #[error("The kernel's package holds no modules")]
    NoModules,
    /// Modules of two kernels.
    #[error("There are modules of two kernels: `{first}` and `{second}`")]
    TwoKernels {
        /// One folder.
        first: String,
        second: String,
    },
}

impl KernelError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownModule { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?"))
            }
            _ => None,
        }
    }
}
