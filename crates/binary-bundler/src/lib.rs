//! Makes relocatable bundles of executables and proves where they run.
//!
//! Owns what is read out of binaries and linker maps (the glibc floor, the libraries linked in) and
//! what a bundle says about itself (components, licence expression, SOURCES, SBOM). Must not know
//! how a bundle is built, nor what a wheel looks like inside. `goblin` is used here and nowhere else.

mod audit;
mod claim;
mod elf;
mod error;
#[cfg(test)]
mod fuzz;
mod lexical;
mod libc_version;
mod link_map;

pub use audit::{POLICY_FLOOR, audit_folder, wheel_platforms};
pub use claim::{check_claim, is_of_system};
pub use elf::{Bound, ElfFloor, Linkage, audit_elf, audit_elf_bytes};
pub use error::Error;
pub use libc_version::LibcVersion;
pub use link_map::linked_files;

pub mod closure;
pub mod inspect;
pub mod macho;
pub mod policy;
pub mod relocate;
pub mod verdict;
