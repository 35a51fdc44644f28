//! Proves KVM: a few instructions in a tiny machine, in a child process with a deadline.
//!
//! Between fork and exit the child makes system calls and touches memory that was mapped before;
//! nothing else is safe in the child of a process with other threads (no allocation, no lock).
//! Reference: <https://docs.kernel.org/virt/kvm/api.html>.

#[cfg(target_os = "linux")]
mod child;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[path = "kvm/guest_arm64.rs"]
mod guest;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "kvm/guest_x86_64.rs"]
mod guest;
#[cfg(target_os = "linux")]
mod parent;

#[cfg(not(target_os = "linux"))]
use super::Finding;
#[cfg(target_os = "linux")]
pub(super) use parent::{open_device, probe};

#[cfg(not(target_os = "linux"))]
pub(super) fn open_device() -> Result<(), Finding> {
    Err(Finding::new(false, true, "KVM exists on Linux only"))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn probe() -> Finding {
    Finding::new(false, true, "KVM exists on Linux only")
}
