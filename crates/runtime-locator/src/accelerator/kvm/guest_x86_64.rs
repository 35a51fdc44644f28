//! The tiny x86_64 guest: 64-bit mode, one `lock cmpxchg16b`, then loops of 200,000 steps.
//!
//! `cmpxchg16b` with a lock is the instruction that the kernel's own emulator does not know, so a
//! host that emulates guest kernel code fails at once; the loop catches one that is merely slow.

use super::child::{Failed, GUEST_MEMORY, ior, iow, request};
use kvm_bindings::{KVM_EXIT_IO, kvm_regs, kvm_segment, kvm_sregs};

/// Guest-physical address of the memory.
pub(super) const MEMORY_START: u64 = 0;
/// How the guest signals: `out`.
pub(super) const SIGNAL_EXIT: u32 = KVM_EXIT_IO;

const SET_REGS: u64 = iow(0x82, size_of::<kvm_regs>());
const GET_SREGS: u64 = ior(0x83, size_of::<kvm_sregs>());
const SET_SREGS: u64 = iow(0x84, size_of::<kvm_sregs>());

// Page tables: one entry each, down to one large page that maps the memory to itself.
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const PAGE_DIRECTORY: usize = 0x3000;
const CODE: usize = 0x4000;
const DATA: usize = 0x5000;
const STACK: usize = 0x8000;

const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;

/// Assembled by hand; `rdi` points at 16 zero bytes on entry. They are compared with zero, so the
/// exchange must happen; a processor on which it does not ends with a halt instead of a signal.
const PROGRAM: &[u8] = &[
    0x31, 0xC0, // xor eax, eax
    0x31, 0xD2, // xor edx, edx
    0xBB, 0x01, 0x00, 0x00, 0x00, // mov ebx, 1
    0x31, 0xC9, // xor ecx, ecx
    0xF0, 0x48, 0x0F, 0xC7, 0x0F, // lock cmpxchg16b [rdi]
    0x75, 0x0D, // jne halt
    0xE6, 0x10, // again: out 0x10, al
    0xB9, 0x40, 0x0D, 0x03, 0x00, // mov ecx, 200000
    0xFF, 0xC9, // step: dec ecx
    0x75, 0xFC, // jne step
    0xEB, 0xF3, // jmp again
    0xF4, // halt: hlt
];

/// The type for KVM_CREATE_VM.
pub(super) fn vm_type(_kvm: i32) -> u64 {
    0
}

/// Writes page tables and program. Done before the fork.
pub(super) fn prepare(memory: &mut [u8]) {
    assert!(memory.len() >= GUEST_MEMORY);
    let mut entry =
        |at: usize, value: u64| memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
    entry(PML4, PDPT as u64 | PRESENT_WRITABLE);
    entry(PDPT, PAGE_DIRECTORY as u64 | PRESENT_WRITABLE);
    entry(PAGE_DIRECTORY, PRESENT_WRITABLE | LARGE_PAGE);
    memory[CODE..CODE + PROGRAM.len()].copy_from_slice(PROGRAM);
}

/// Puts the processor into 64-bit mode at the program's start.
///
/// # Safety
/// `vcpu` must be a processor of this probe's machine.
pub(super) unsafe fn set_registers(_vm: i32, vcpu: i32) -> Result<(), Failed> {
    const PROTECTED_PAGED: u64 = 0x8005_0033; // PE, MP, ET, NE, WP, AM, PG
    const PAE: u64 = 1 << 5;
    const LONG_MODE: u64 = (1 << 8) | (1 << 10); // LME, LMA
    let segment = |selector, type_, l| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: 1 - l,
        s: 1,
        l,
        g: 1,
        ..Default::default()
    };
    // SAFETY: each structure lives across its call and has the layout that the kernel expects.
    unsafe {
        let mut special: kvm_sregs = std::mem::zeroed();
        request(vcpu, GET_SREGS, &raw mut special as u64)?;
        special.cs = segment(8, 11, 1);
        let data = segment(16, 3, 0);
        (special.ds, special.es, special.ss) = (data, data, data);
        (special.fs, special.gs) = (data, data);
        special.cr0 = PROTECTED_PAGED;
        special.cr3 = PML4 as u64;
        special.cr4 = PAE;
        special.efer = LONG_MODE;
        request(vcpu, SET_SREGS, &raw const special as u64)?;
        let mut general: kvm_regs = std::mem::zeroed();
        general.rip = CODE as u64;
        general.rsp = STACK as u64;
        general.rdi = DATA as u64;
        general.rflags = 2;
        request(vcpu, SET_REGS, &raw const general as u64)?;
    }
    Ok(())
}
