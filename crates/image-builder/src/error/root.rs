//! The making of a root file system.

use crate::rootfs::InstallMode;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// No install mode works on this host.
    #[error("No root file system can be made on this host: {}", tried.join("; "))]
    NoInstallMode {
        /// What was tried, and what was said.
        tried: Vec<String>,
        /// What to do about it.
        hint: String,
    },
    /// A tool of the distribution failed.
    #[error("Failed to run `{program}`")]
    Tool {
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// Packages could not be installed, or a command of the recipe failed.
    #[error("Failed to install the packages or run the commands, {}", mode.describe())]
    Installation {
        /// How it was tried.
        mode: InstallMode,
        /// What the tool said at the end.
        source: std::io::Error,
    },
    /// An image whose programs this host cannot run.
    #[error(
        "This host cannot run the programs of an {arch} image, which its packages need while they are installed"
    )]
    NoRunner { arch: &'static str },
    /// An image of a registry that cannot be had.
    #[error("Failed to pull the image `{reference}`: {detail}")]
    Pull {
        /// As the recipe names it.
        reference: String,
        /// Why.
        detail: String,
    },
    /// An image that packages cannot be installed on from outside.
    #[error("The image `{base}` has no package manager that packages can be installed with")]
    NoPackageManager { base: String },
    /// A root file system that somebody brought and that cannot be used.
    #[error("Failed to use the root file system `{}`: {detail}", path.display())]
    BadRoot {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// An image with apt and without anything that apt could ask.
    #[error(
        "`{image}` would have no apt sources: nothing in it says where the archive `{archive}` is"
    )]
    NoSources {
        /// The image's name.
        image: String,
        archive: String,
    },
    /// Files of an image that one machine alone should know.
    #[error("`{image}` would ship secrets: `{}`", paths.join("`, `"))]
    Secrets {
        /// The image's name.
        image: String,
        /// Where they are.
        paths: Vec<String>,
    },
}

impl RootError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoInstallMode { hint, .. } => Some(hint.clone()),
            Self::Installation { mode, .. } => mode.hint().map(str::to_owned),
            Self::NoPackageManager { .. } => {
                Some("take another base, such as debian, or bring files with [[file]]".to_owned())
            }
            Self::Tool { program, source }
                if program == "mmdebstrap" && source.kind() == std::io::ErrorKind::NotFound =>
            {
                Some("install the packages mmdebstrap and uidmap".to_owned())
            }
            Self::NoRunner { .. } => Some(
                "install the package qemu-user-static, which registers emulators for the whole host"
                    .to_owned(),
            ),
            Self::Secrets { .. } => Some(
                "packages' scripts or commands made them, others on each bake: remove them in the \
                 recipe's last command and make them at the first start, by a unit of systemd; what is \
                 meant to ship is a [[file]]"
                    .to_owned(),
            ),
            Self::NoSources { .. } => Some(
                "give it a [[file]] below /etc/apt/sources.list.d, or keep apt's example: \
                 keep = [\"/usr/share/doc/apt/examples/**\"]"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
