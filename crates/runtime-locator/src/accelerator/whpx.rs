//! Asks Windows for its hypervisor platform, and knows the one quirk of nested machines.
//!
//! Not yet run on real hardware.

use super::Finding;
use host_platform::Arch;

/// Whether `-accel whpx` needs `kernel-irqchip=off`: inside a Hyper-V machine on x86_64 the
/// hypervisor's interrupt controller does not work for the machine within; Arm has none of it.
pub fn whpx_needs_irqchip_off(host_arch: Arch, is_hyperv_guest: bool) -> bool {
    is_hyperv_guest && host_arch == Arch::Amd64
}

/// Whether this Windows runs inside a Hyper-V machine: its integration services then keep the
/// host's parameters in the registry. False on every other system.
#[cfg(windows)]
pub fn is_hyperv_guest() -> bool {
    const PARAMETERS: &str = r"SOFTWARE\Microsoft\Virtual Machine\Guest\Parameters";
    winreg::RegKey::predef(winreg::enums::HKEY_LOCAL_MACHINE).open_subkey(PARAMETERS).is_ok()
}

/// Whether this Windows runs inside a Hyper-V machine. False on every other system.
#[cfg(not(windows))]
pub fn is_hyperv_guest() -> bool {
    false
}

/// Loads the platform's library (absent while the Windows feature is off) and asks whether the
/// hypervisor runs.
/// <https://learn.microsoft.com/virtualization/api/hypervisor-platform/funcs/whvgetcapability>
#[cfg(windows)]
pub(super) fn probe() -> Finding {
    use windows_sys::Win32::System::LibraryLoader::{
        GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
    };

    type WhvGetCapability =
        unsafe extern "system" fn(code: u32, buffer: *mut u8, size: u32, written: *mut u32) -> i32;
    const HYPERVISOR_PRESENT: u32 = 0;

    if host_platform::host().is_emulated() {
        // The library is the hardware's; an emulated process cannot load it, but the emulator
        // that will be started is native.
        return Finding::new(true, true, "not probed, because this process is emulated");
    }
    let name: Vec<u16> = "WinHvPlatform.dll\0".encode_utf16().collect();
    // SAFETY: the name is NUL-terminated, and only the system's folder is searched.
    let library = unsafe {
        LoadLibraryExW(name.as_ptr(), std::ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32)
    };
    if library.is_null() {
        let reason = "the Windows feature \"Windows Hypervisor Platform\" is off";
        return Finding::new(false, false, reason);
    }
    // SAFETY: the library stays loaded and the name is NUL-terminated.
    let Some(function) = (unsafe { GetProcAddress(library, c"WHvGetCapability".as_ptr().cast()) })
    else {
        return Finding::new(false, true, "WinHvPlatform.dll lacks WHvGetCapability");
    };
    // SAFETY: this is the documented signature of the function of that name.
    let get_capability: WhvGetCapability = unsafe { std::mem::transmute(function) };
    let (mut present, mut written) = ([0_u8; 4], 0_u32);
    // SAFETY: the buffer has the size that is passed.
    let status =
        unsafe { get_capability(HYPERVISOR_PRESENT, present.as_mut_ptr(), 4, &raw mut written) };
    match (status, u32::from_ne_bytes(present)) {
        (0, 0) => Finding::new(false, false, "the hypervisor does not run"),
        (0, _) => Finding::new(true, true, "the hypervisor runs"),
        (status, _) => {
            Finding::new(false, false, format!("WHvGetCapability failed with {status:#010x}"))
        }
    }
}

#[cfg(not(windows))]
pub(super) fn probe() -> Finding {
    Finding::new(false, true, "the Windows Hypervisor Platform exists on Windows only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nested_x86_needs_the_flag() {
        let table = [
            (Arch::Amd64, false, false),
            (Arch::Amd64, true, true),
            (Arch::Arm64, false, false),
            (Arch::Arm64, true, false),
        ];
        for (arch, nested, expect) in table {
            assert_eq!(whpx_needs_irqchip_off(arch, nested), expect, "{arch} {nested}");
        }
    }
}
