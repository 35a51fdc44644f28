//! The operating system, native architecture and wheel platform tag of this host.
//!
//! Owns the one answer to "which machine is this?", with the hardware distinguished from what the
//! process is made for. Must not know about QEMU, wheels' contents or any other crate of ours.

mod arch;
mod beside;
mod libc_version;
mod native;
mod os;
mod wheel_tag;
mod whole_file;

pub use arch::{Arch, ParseArchError};
pub use beside::beside;
pub use libc_version::{LibC, libc_of_host, libc_under};
pub use native::{Host, HostFacts, ThisHost, host, host_from, native_arch};
pub use os::{Os, ParseOsError};
pub use wheel_tag::wheel_platform_tag;
pub use whole_file::{copy_whole, rename_whole, rename_whole_folder, write_whole};
