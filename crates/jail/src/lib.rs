//! The second wall: what QEMU may still do once a guest has taken it over.
//!
//! QEMU's own policy promises no isolation under TCG
//! (<https://www.qemu.org/docs/master/system/security.html>), so that the design assumes that QEMU is
//! already the attacker's. This crate starts it with as little of the host as it needs.
//!
//! `wall` names the walls, and `plan` decides which of them a machine gets (pure). `spawn` finds out which
//! of them the host refuses, `start` is one try, `child` puts them up and runs the program, of which
//! `program` says what it needs by itself; `rules`, `filter`, `mounts` and `limits` are single walls. Must
//! not know what QEMU's arguments mean, nor what a sandbox is.
//!
//! Invariant: a wall that this host refuses is left out and named, and the others stand.

#[cfg(target_os = "linux")]
mod call;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod descriptors;
#[cfg(target_os = "linux")]
mod fault;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod mounts;
mod plan;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(target_os = "linux")]
mod spawn;
#[cfg(target_os = "linux")]
mod start;
mod wall;

pub use plan::{Host, Needs, Plan, Ports, Share, plan};
#[cfg(target_os = "linux")]
pub use process::{Child, Program};
#[cfg(target_os = "linux")]
pub use spawn::{spawn, standing};
pub use wall::Wall;

/// Which walls stand on this host: none of them elsewhere than on Linux.
#[cfg(not(target_os = "linux"))]
pub fn standing() -> std::io::Result<Plan> {
    Ok(plan(&Needs::default(), &Host::default()))
}
