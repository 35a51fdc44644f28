//! Bakes machine images from recipes: kernel, initrd and a qcow2 disk, without Docker and without
//! root, the same bytes for the same lock.
//!
//! ```text
//! recipe.toml -> lock -> packages -> root file system (tree) -> ext4 -> qcow2
//!                          `-> kernel -> vmlinux, modules    -> initrd
//! ```
//!
//! This crate owns recipes, locks and the formats of the three files. It must not know about the
//! sandbox that boots them, nor about the build cache and progress bars of its caller: functions
//! take data or paths and give data or write where they are told.

pub mod account;
pub mod apk;
pub mod apt;
pub mod assemble;
pub mod audit;
pub mod bake;
pub mod changelog;
pub mod compare;
pub mod deb;
mod error;
pub mod foreign;
#[cfg(test)]
mod fuzz;
mod identity;
pub mod initrd;
pub mod kernel;
pub mod kernel_package;
pub mod lock;
pub mod modules;
pub mod outside;
pub mod owners;
pub mod ownership;
pub mod packages;
pub mod pool;
pub mod programs;
pub mod proof;
pub mod recipe;
pub mod root;
pub mod rootfs;
pub mod tiers;
pub mod wheel;

use disk_formats::{cpio, difference, disk, ext4, qcow2, tree};
use host_platform::beside;

pub use error::Error;

/// The known name that is most like what was given, if one is like it at all.
fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, _)| *distance <= given.chars().count().div_ceil(3))
        .min()
        .map(|(_, name)| name.to_owned())
}

/// The sha256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}
