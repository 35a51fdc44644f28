//! The tiny Arm guest: loops of 200,000 steps, with the memory management unit off.
//!
//! Not yet run on real hardware.

use super::child::{Failed, GUEST_MEMORY, io, ior, iow, request};
use kvm_bindings::{
    KVM_CAP_ARM_VM_IPA_SIZE, KVM_EXIT_MMIO, KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64,
    kvm_one_reg, kvm_regs, kvm_vcpu_init,
};
use std::mem::offset_of;

/// Guest-physical address of the memory.
pub(super) const MEMORY_START: u64 = 0x4000_0000;
/// How the guest signals: a store to an address without memory.
pub(super) const SIGNAL_EXIT: u32 = KVM_EXIT_MMIO;

const CHECK_EXTENSION: u64 = io(0x03);
const SET_ONE_REG: u64 = iow(0xAC, size_of::<kvm_one_reg>());
const VCPU_INIT: u64 = iow(0xAE, size_of::<kvm_vcpu_init>());
const PREFERRED_TARGET: u64 = ior(0xAF, size_of::<kvm_vcpu_init>());

const PROGRAM: [u32; 7] = [
    0xD2A1_2001, // movz x1, #0x0900, lsl #16: an address without memory
    0xB900_0020, // again: str w0, [x1]
    0xD281_A800, // movz x0, #0x0D40
    0xF2A0_0060, // movk x0, #3, lsl #16: 200000
    0xF100_0400, // step: subs x0, x0, #1
    0x54FF_FFE1, // b.ne step
    0x17FF_FFFB, // b again
];

/// The type for KVM_CREATE_VM: the size of guest-physical addresses, where it can be chosen.
pub(super) fn vm_type(kvm: i32) -> u64 {
    // SAFETY: this request takes the number of an extension.
    let bits = unsafe { request(kvm, CHECK_EXTENSION, u64::from(KVM_CAP_ARM_VM_IPA_SIZE)) };
    bits.map_or(0, |bits| bits as u64 & 0xFF)
}

/// Writes the program. Done before the fork.
pub(super) fn prepare(memory: &mut [u8]) {
    assert!(memory.len() >= GUEST_MEMORY);
    for (index, instruction) in PROGRAM.iter().enumerate() {
        memory[index * 4..index * 4 + 4].copy_from_slice(&instruction.to_le_bytes());
    }
}

/// Initialises the processor and points it at the program.
///
/// # Safety
/// `vm` and `vcpu` must be this probe's machine and processor.
pub(super) unsafe fn set_registers(vm: i32, vcpu: i32) -> Result<(), Failed> {
    // SAFETY: each structure lives across its call and has the layout that the kernel expects.
    unsafe {
        let mut init: kvm_vcpu_init = std::mem::zeroed();
        request(vm, PREFERRED_TARGET, &raw mut init as u64)?;
        request(vcpu, VCPU_INIT, &raw const init as u64)?;
        // A core register's number is its offset in kvm_regs, in 32-bit words.
        let pc = offset_of!(kvm_regs, regs.pc) as u64 / 4;
        let value = MEMORY_START;
        let register = kvm_one_reg {
            id: KVM_REG_ARM64 | KVM_REG_SIZE_U64 | u64::from(KVM_REG_ARM_CORE) | pc,
            addr: &raw const value as u64,
        };
        request(vcpu, SET_ONE_REG, &raw const register as u64)?;
    }
    Ok(())
}
