//! The tables of virtual hardware: machine type, accelerator and CPU flags, device names by bus.
//!
//! Pure functions of architecture, accelerator and platform. Knows no configuration and does no
//! I/O; `qemu_args` puts the words together.

use host_platform::{Arch, Os};
use runtime_locator::Accelerator;
use serde::{Deserialize, Serialize};

/// QEMU's machine types that sandboxes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineType {
    /// ARM's standard virtual machine, on every platform.
    Virt,
    /// The full-featured Intel chipset, on every platform.
    Q35,
}

impl MachineType {
    /// The machine type for guests of an architecture.
    pub fn for_arch(arch: Arch) -> Self {
        match arch {
            Arch::Arm64 => Self::Virt,
            Arch::Amd64 => Self::Q35,
        }
    }

    /// QEMU's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virt => "virt",
            Self::Q35 => "q35",
        }
    }

    /// The name of a virtio device on this machine's bus: MMIO on `virt`, PCI on `q35`.
    ///
    /// PCI costs a little for the emulation of the bus, which MMIO devices do not pay.
    pub fn virtio(self, device: &str) -> String {
        match self {
            Self::Virt => format!("virtio-{device}-device"),
            Self::Q35 => format!("virtio-{device}-pci"),
        }
    }

    /// The kernel's name of the first serial port.
    pub fn console(self) -> &'static str {
        match self {
            Self::Virt => "ttyAMA0",
            Self::Q35 => "ttyS0",
        }
    }

    /// The graphics device of a machine with a display.
    pub fn gpu(self) -> &'static str {
        match self {
            Self::Virt => "virtio-gpu-pci",
            Self::Q35 => "virtio-vga",
        }
    }
}

/// The accelerator that a platform offers, were its hardware and settings willing.
pub fn native_accelerator(os: Os) -> Accelerator {
    match os {
        Os::Linux => Accelerator::Kvm,
        Os::Macos => Accelerator::Hvf,
        Os::Windows => Accelerator::Whpx,
    }
}

/// The value of `-accel`.
///
/// WHPX inside a Hyper-V guest needs QEMU's own interrupt controller. On Arm the option does not
/// exist and QEMU would refuse it.
pub fn accel_flag(accelerator: Accelerator, arch: Arch, nested_hyperv: bool) -> String {
    match (accelerator, arch) {
        (Accelerator::Whpx, Arch::Amd64) if nested_hyperv => "whpx,kernel-irqchip=off".to_owned(),
        _ => accelerator.name().to_owned(),
    }
}

/// The value of `-cpu`: the real CPU under an accelerator, everything QEMU can emulate otherwise.
pub fn cpu_flag(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Tcg => "max",
        Accelerator::Kvm | Accelerator::Hvf | Accelerator::Whpx => "host",
    }
}

/// Properties of the processor beside its model.
///
/// `erms` and `fsrm` tell a guest that `rep movsb` is its fastest copy; TCG does that byte by byte,
/// ten times slower than the loop of words that kernel and C library use without them.
pub fn cpu_properties(accelerator: Accelerator, arch: Arch) -> &'static [&'static str] {
    match (accelerator, arch) {
        (Accelerator::Tcg, Arch::Amd64) => &["max-x86_64-cpu.erms=off", "max-x86_64-cpu.fsrm=off"],
        _ => &[],
    }
}

/// How long a guest may take to its first answer when the user did not say, in seconds.
pub fn default_boot_timeout_s(accelerator: Option<Accelerator>) -> u64 {
    match accelerator {
        None | Some(Accelerator::Kvm | Accelerator::Hvf) => 60,
        Some(Accelerator::Whpx) => 120,
        Some(Accelerator::Tcg) => 600,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_type_by_architecture() {
        for (arch, name, block, net, console, gpu) in [
            (
                Arch::Arm64,
                "virt",
                "virtio-blk-device",
                "virtio-net-device",
                "ttyAMA0",
                "virtio-gpu-pci",
            ),
            (Arch::Amd64, "q35", "virtio-blk-pci", "virtio-net-pci", "ttyS0", "virtio-vga"),
        ] {
            let machine = MachineType::for_arch(arch);
            assert_eq!(machine.name(), name);
            assert_eq!(machine.virtio("blk"), block);
            assert_eq!(machine.virtio("net"), net);
            assert_eq!(machine.console(), console);
            assert_eq!(machine.gpu(), gpu);
        }
    }

    #[test]
    fn accelerator_by_platform() {
        for (os, accelerator, flag, cpu) in [
            (Os::Macos, Accelerator::Hvf, "hvf", "host"),
            (Os::Linux, Accelerator::Kvm, "kvm", "host"),
            (Os::Windows, Accelerator::Whpx, "whpx", "host"),
        ] {
            assert_eq!(native_accelerator(os), accelerator);
            assert_eq!(accel_flag(accelerator, Arch::Amd64, false), flag);
            assert_eq!(accel_flag(accelerator, Arch::Arm64, false), flag);
            assert_eq!(cpu_flag(accelerator), cpu);
        }
        assert_eq!(accel_flag(Accelerator::Tcg, Arch::Amd64, false), "tcg");
        assert_eq!(cpu_flag(Accelerator::Tcg), "max");
    }

    #[test]
    fn only_an_emulated_intel_processor_hides_its_slow_copies() {
        for arch in [Arch::Amd64, Arch::Arm64] {
            for accelerator in [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Whpx] {
                assert!(cpu_properties(accelerator, arch).is_empty());
            }
        }
        assert!(cpu_properties(Accelerator::Tcg, Arch::Arm64).is_empty());
        assert_eq!(cpu_properties(Accelerator::Tcg, Arch::Amd64).len(), 2);
    }

    #[test]
    fn only_nested_hyperv_on_intel_loses_the_kernel_irqchip() {
        for (accelerator, arch, nested, flag) in [
            (Accelerator::Whpx, Arch::Amd64, true, "whpx,kernel-irqchip=off"),
            (Accelerator::Whpx, Arch::Amd64, false, "whpx"),
            (Accelerator::Whpx, Arch::Arm64, true, "whpx"),
            (Accelerator::Kvm, Arch::Amd64, true, "kvm"),
            (Accelerator::Tcg, Arch::Amd64, true, "tcg"),
        ] {
            assert_eq!(accel_flag(accelerator, arch, nested), flag);
        }
    }

    #[test]
    fn slow_accelerators_get_time_to_boot() {
        for (accelerator, seconds) in [
            (None, 60),
            (Some(Accelerator::Kvm), 60),
            (Some(Accelerator::Hvf), 60),
            (Some(Accelerator::Whpx), 120),
            (Some(Accelerator::Tcg), 600),
        ] {
            assert_eq!(default_boot_timeout_s(accelerator), seconds);
        }
    }
}
