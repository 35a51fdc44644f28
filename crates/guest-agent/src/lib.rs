//! The guest agent: `/init` of the initrd and HTTP server of the machine, in one static binary.
//!
//! ```text
//!  init        PID 1 in the initrd: modules, root disk, network, hand over to the distribution
//!  server      the loop that serves the listeners
//!  agent       the state that all requests share
//!  router      method, path, token, body limits -> endpoints
//!  endpoints   execute, execute_stream, session, files, mount, users, clock, shutdown
//!  files       a file or a tree as frames, both ways
//!  process     spawn, follow, bound and kill commands
//!  accounts    /etc/passwd and /etc/group
//! ```
//!
//! It runs on one thread, for its only work is to pass bytes on, and because a process that
//! shares its memory with the child until `execve` is best alone in it.
//!
//! # Who can read the token
//! The token of the socket transport comes from fw_cfg, whose sysfs file is readable by root alone.
//! The token of the tcp transport is on the kernel command line, as images made elsewhere expect
//! it, and `/proc/cmdline` is readable by every user of the guest: an unprivileged guest process
//! can call the agent and become root *of the guest*. That is a weakness of that transport, not of
//! the host. It is not papered over by a bind mount on `/proc/cmdline`: the kernel log shows the
//! line too, and a masked `/proc` stops unprivileged containers inside the guest from mounting
//! theirs.

pub mod accounts;
pub mod agent;
mod answer;
pub mod body;
mod clock;
pub mod config;
pub mod endpoints;
mod error;
pub mod files;
pub mod freezer;
pub mod init;
pub mod listen;
mod network;
pub mod process;
pub mod router;
pub mod server;
mod shares;
pub mod token;
pub mod virtio_port;
mod watch;

pub use error::{Error, Result};
