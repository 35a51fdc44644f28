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

#![cfg(target_os = "linux")]

mod allowance;
mod attributes;
mod entries;
mod extended;
mod files;
#[cfg(test)]
mod fuzz;
mod handles;
mod listing;
mod locking;
mod locks;
mod nodes;
mod place;
mod share;
#[cfg(test)]
mod tests;
mod wire;

pub use allowance::{Allowance, Permit};
pub use share::{Answer, Moment, Options, Share, own_umask};
pub use wire::{MAX_MESSAGE, failure, interrupted, is_prompt, is_slow, resend};
