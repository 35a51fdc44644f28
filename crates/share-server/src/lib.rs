//! Answers a guest's raw FUSE requests from one folder of the host, or from one file.
//!
//! A [`Share`] takes a request as the guest's kernel wrote it and gives the answer for it. It knows
//! no channel, no machine and no configuration: how requests arrive, and whose they are, is the
//! caller's business.
//!
//! Every byte of a request is the guest's. What holds whatever it says:
//! - Places are named from the share's root in every single request, by `openat2` with
//!   `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`: no link of the host is followed, and nothing above
//!   the root is reached. The guest's kernel resolves links by itself.
//! - What is held for the guest is what it has open, and each of these takes a permit of the
//!   [`Allowance`]; what the guest knows of files costs memory, which is counted too.
//! - What the guest makes belongs to the user who runs this process. It can make neither device
//!   nodes nor files that change the user who runs them.
//! - A read-only share refuses here, whatever the guest's kernel believes.
//!
//! Files are found again by their names, not by descriptors or file handles: a descriptor for each
//! file that a guest has looked at is too many, and file handles can be opened by root alone.
//!
//! The protocol is the kernel's, `include/uapi/linux/fuse.h`. Only Linux has the calls that this
//! needs; on other hosts the crate is empty.

#[cfg(target_os = "linux")]
mod allowance;
#[cfg(target_os = "linux")]
mod attributes;
#[cfg(target_os = "linux")]
mod entries;
#[cfg(target_os = "linux")]
mod extended;
#[cfg(target_os = "linux")]
mod files;
#[cfg(all(test, target_os = "linux"))]
mod fuzz;
#[cfg(target_os = "linux")]
mod handles;
#[cfg(target_os = "linux")]
mod listing;
#[cfg(target_os = "linux")]
mod locks;
#[cfg(target_os = "linux")]
mod nodes;
#[cfg(target_os = "linux")]
mod place;
#[cfg(target_os = "linux")]
mod share;
#[cfg(all(test, target_os = "linux"))]
mod tests;
#[cfg(target_os = "linux")]
mod wire;

#[cfg(target_os = "linux")]
pub use allowance::{Allowance, Permit};
#[cfg(target_os = "linux")]
pub use share::{Answer, Moment, Options, Share, own_umask};
#[cfg(target_os = "linux")]
pub use wire::{MAX_MESSAGE, failure, interrupted, is_slow, resend};
