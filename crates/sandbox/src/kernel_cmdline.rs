//! The kernel's command line, a pure function of machine, accelerator and transport.
//!
//! The words are those of the seeds; what is added for our own transport says why. Parameters:
//! <https://docs.kernel.org/admin-guide/kernel-parameters.html>

use crate::hardware::MachineType;
use agent_protocol::{CMDLINE_PORT, CMDLINE_TOKEN};
use runtime_locator::Accelerator;

/// What every guest gets: the root disk, and a kernel that keeps quiet on a slow serial port.
const ROOT: &str = "root=/dev/vda rw rootflags=rw";
const QUIET: &str = "rootfstype=ext4 quiet loglevel=0 raid=noautodetect";
/// The same, but for the kernel's last words: at level 0 it keeps even a panic to itself.
const LAST_WORDS: &str = "rootfstype=ext4 quiet loglevel=1 raid=noautodetect";

/// With the `tcp` transport the guest's agent reads its token and port here.
pub(crate) fn tcp(machine: MachineType, token: &str, port: u16) -> String {
    let console = machine.console();
    format!("{ROOT} console={console} {QUIET} {CMDLINE_TOKEN}={token} {CMDLINE_PORT}={port}")
}

/// With the `socket` transport there is no secret here, but words that make the boot short and an
/// end visible: a panic reboots at once, which `-no-reboot` turns into QEMU's exit, and the network
/// device is called eth0 in every distribution.
pub(crate) fn socket(
    machine: MachineType,
    accelerator: Accelerator,
    tsc_khz: Option<u32>,
) -> String {
    let console = machine.console();
    let mut line = format!("{ROOT} console={console} {LAST_WORDS} panic=-1 net.ifnames=0");
    if accelerator == Accelerator::Tcg {
        // Self-tests of ciphers are the most costly part of an emulated boot; waiting for grace
        // periods of RCU comes next, then the trial run of the random generator that listens to
        // the jitter of the clock. The kernel's own generator never asks that one: it is seeded by
        // the processor and by virtio-rng.
        line.push_str(
            " cryptomgr.notests rcupdate.rcu_expedited=1 initcall_blacklist=jent_mod_init",
        );
        if machine == MachineType::Q35 {
            // Emulated time needs no checks. The timer of the local APIC stays, though its
            // calibration takes a tenth of a second: the PIT, which would be the only other one,
            // wakes an idle guest 37 times a second, as it cannot count further.
            line.push_str(" tsc=reliable no_timer_check noreplace-smp");
            // The guest would measure it, in a twentieth of a second, and be wrong on a busy host.
            if let Some(khz) = tsc_khz {
                line.push_str(&format!(" tsc_early_khz={khz}"));
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_word_for_word_that_of_the_documents() {
        assert_eq!(
            tcp(MachineType::Virt, "abc123", 8080),
            "root=/dev/vda rw rootflags=rw console=ttyAMA0 rootfstype=ext4 quiet loglevel=0 \
             raid=noautodetect quicksand_token=abc123 quicksand_port=8080"
        );
        assert!(tcp(MachineType::Q35, "t", 1).contains(" console=ttyS0 "));
    }

    #[test]
    fn socket_holds_no_secret_and_never_weakens_the_guest() {
        for machine in [MachineType::Virt, MachineType::Q35] {
            for accelerator in [Accelerator::Tcg, Accelerator::Kvm, Accelerator::Hvf] {
                let line = socket(machine, accelerator, Some(1));
                for word in ["quicksand_token", "mitigations", "nokaslr"] {
                    assert!(!line.contains(word), "{line}");
                }
            }
        }
        insta::assert_snapshot!(socket(MachineType::Q35, Accelerator::Tcg, Some(2_600_000)), @"root=/dev/vda rw rootflags=rw console=ttyS0 rootfstype=ext4 quiet loglevel=1 raid=noautodetect panic=-1 net.ifnames=0 cryptomgr.notests rcupdate.rcu_expedited=1 initcall_blacklist=jent_mod_init tsc=reliable no_timer_check noreplace-smp tsc_early_khz=2600000");
        insta::assert_snapshot!(socket(MachineType::Q35, Accelerator::Kvm, Some(1)), @"root=/dev/vda rw rootflags=rw console=ttyS0 rootfstype=ext4 quiet loglevel=1 raid=noautodetect panic=-1 net.ifnames=0");
        insta::assert_snapshot!(socket(MachineType::Virt, Accelerator::Tcg, Some(1)), @"root=/dev/vda rw rootflags=rw console=ttyAMA0 rootfstype=ext4 quiet loglevel=1 raid=noautodetect panic=-1 net.ifnames=0 cryptomgr.notests rcupdate.rcu_expedited=1 initcall_blacklist=jent_mod_init");
    }
}
