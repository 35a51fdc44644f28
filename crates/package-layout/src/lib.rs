//! Names of the files and folders of bundles, images and saves, and their manifests.
//!
//! Owns every on-disk name that both the build side and the run side know. Does no I/O and must
//! not know about any other crate of ours: architectures are passed as the words that appear in
//! the names (`amd64`, `arm64` for images; `x86_64`, `aarch64` for QEMU).

pub mod image;
pub mod known;
pub mod manifest;
pub mod portable;
pub mod qemu;
pub mod save;
pub mod user_data;

mod error;
#[cfg(test)]
mod fuzz;

pub use error::Error;

/// The memory of a machine when neither its user nor its image says another: of a sandbox, of the machine that
/// proves a bake, of a new recipe.
pub const DEFAULT_MEMORY: &str = "512M";
