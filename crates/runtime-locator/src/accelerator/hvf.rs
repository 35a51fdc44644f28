//! Asks macOS for its hypervisor.
//!
//! Not yet run on real hardware.

use super::Finding;

/// The kernel says whether Hypervisor.framework works on this machine (it does not inside most
/// virtual machines).
#[cfg(target_os = "macos")]
pub(super) fn probe() -> Finding {
    let mut value: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>();
    // SAFETY: the name is NUL-terminated, `value` and `size` outlive the call and agree.
    let status = unsafe {
        libc::sysctlbyname(
            c"kern.hv_support".as_ptr(),
            (&raw mut value).cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    match (status, value) {
        (0, 1) => Finding::new(true, true, "the kernel supports Hypervisor.framework"),
        (0, _) => Finding::new(false, true, "the kernel has no hypervisor support here"),
        _ => Finding::new(false, true, "the kernel does not know kern.hv_support"),
    }
}

#[cfg(not(target_os = "macos"))]
pub(super) fn probe() -> Finding {
    Finding::new(false, true, "Hypervisor.framework exists on macOS only")
}
