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
pub mod base;
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
pub mod owners;
pub mod ownership;
pub mod package_sets;
pub mod package_store;
pub mod packages;
pub mod programs;
pub mod proof;
pub mod recipe;
pub mod root;
pub mod rootfs;
pub mod standalone;
pub mod wheel;

use disk_formats::{cpio, difference, disk, ext4, qcow2, tree};
use host_platform::beside;

pub use checksum::sha256;
pub use error::{
    AuditError, CheckError, Error, KernelError, LockError, PackageError, RecipeError, RootError,
    StoreError,
};
