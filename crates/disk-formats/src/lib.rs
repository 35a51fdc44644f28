//! Disks and what is on them, as data: a file tree, the archives that it comes from (tar) and goes into (cpio),
//! the file system (ext4) and the image (qcow2) that hold it, and the difference between two trees.
//!
//! This crate owns formats. It must not know about recipes, packages or machines: bytes and paths come in, bytes
//! go out, the same bytes for the same input.

pub mod cpio;
pub mod difference;
pub mod disk;
mod error;
pub mod ext4;
pub mod qcow2;
pub mod tree;

pub use error::Error;
