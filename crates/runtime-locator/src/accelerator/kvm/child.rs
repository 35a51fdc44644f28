//! What the child does between fork and exit: system calls on memory that exists already.

use super::guest;
use kvm_bindings::{
    KVM_API_VERSION, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO,
    KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, kvm_run, kvm_userspace_memory_region,
};
use std::ptr;

/// The type of every KVM request (`KVMIO`).
const KVMIO: u64 = 0xAE;

/// A request without an argument structure.
pub(super) const fn io(number: u64) -> u64 {
    (KVMIO << 8) | number
}

/// A request that hands a structure of that size to the kernel.
pub(super) const fn iow(number: u64, size: usize) -> u64 {
    (1 << 30) | ((size as u64) << 16) | io(number)
}

/// A request that gets a structure of that size from the kernel.
pub(super) const fn ior(number: u64, size: usize) -> u64 {
    (2 << 30) | ((size as u64) << 16) | io(number)
}

const GET_API_VERSION: u64 = io(0x00);
const CREATE_VM: u64 = io(0x01);
const GET_VCPU_MMAP_SIZE: u64 = io(0x04);
const CREATE_VCPU: u64 = io(0x41);
const SET_USER_MEMORY_REGION: u64 = iow(0x46, size_of::<kvm_userspace_memory_region>());
const RUN: u64 = io(0x80);

/// The guest's memory: enough for its page tables, code and data.
pub(super) const GUEST_MEMORY: usize = 2 << 20;

/// The loop is run this often, and its fastest run counts: a busy host may interrupt some.
pub(super) const N_LOOPS: u32 = 3;

/// How far the child came. It writes the step before it takes it, so that after a hang the parent
/// knows where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    /// `/dev/kvm` is opened. Zero is the state of fresh memory: nothing was begun yet.
    Open = 1,
    /// The interface's version is asked for.
    ApiVersion,
    /// The machine is made.
    CreateVm,
    /// It gets its memory.
    Memory,
    /// It gets its processor.
    CreateVcpu,
    /// The processor's registers are set.
    Registers,
    /// The guest runs.
    Run,
    /// The guest has done all that it was given.
    Done,
}

/// The page that both processes see.
#[repr(C)]
pub(super) struct Report {
    /// The [`Step`] that was begun last.
    pub(super) step: u32,
    /// The error number of the call that failed, 0 for none.
    pub(super) errno: i32,
    /// The reason of the exit that ended the run, as KVM numbers them.
    pub(super) exit_reason: u32,
    /// What the exit says about itself (an internal error's sub-error).
    pub(super) detail: u64,
    /// The stage of the guest's program that it was in, counted by its own signals.
    pub(super) n_signals: u32,
    /// The fastest loop, in nanoseconds; `u64::MAX` for none.
    pub(super) fastest_loop_ns: u64,
}

/// What is mapped before the fork.
pub(super) struct Mapped {
    pub(super) report: *mut Report,
    pub(super) guest_memory: *mut u8,
}

/// Runs the probe and never returns. The exit code says nothing: the report does.
///
/// # Safety
/// Must be called in a freshly forked child, with pointers to mappings of the right sizes.
pub(super) unsafe fn run(mapped: &Mapped, cpu_limit_us: libc::suseconds_t) -> ! {
    // SAFETY: plain system calls with valid arguments; the caller's contract covers the pointers.
    unsafe {
        // The parent's handlers must not run here, and a parent that dies takes the child along.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
        libc::signal(libc::SIGPROF, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        let once = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: cpu_limit_us },
        };
        libc::setitimer(libc::ITIMER_PROF, &raw const once, ptr::null_mut());
        let report = &mut *mapped.report;
        if let Err(Failed) = probe(report, mapped.guest_memory) {
            report.errno = *libc::__errno_location();
        }
        libc::_exit(0);
    }
}

/// A call failed; its error number is in `errno`.
pub(super) struct Failed;

/// A request to KVM whose negative result is an error.
///
/// # Safety
/// The argument must be what the request expects.
pub(super) unsafe fn request(fd: i32, request: u64, argument: u64) -> Result<i32, Failed> {
    // SAFETY: the caller's contract.
    let result = unsafe { libc::ioctl(fd, request as _, argument) };
    if result < 0 { Err(Failed) } else { Ok(result) }
}

unsafe fn probe(report: &mut Report, guest_memory: *mut u8) -> Result<(), Failed> {
    let mut begin = |step: Step| {
        // SAFETY: the place is valid; volatile because another process reads it.
        unsafe { ptr::write_volatile(&raw mut report.step, step as u32) };
    };
    // SAFETY: each structure lives across its call and has the layout that the kernel expects.
    unsafe {
        begin(Step::Open);
        let kvm = libc::open(c"/dev/kvm".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if kvm < 0 {
            return Err(Failed);
        }
        begin(Step::ApiVersion);
        if request(kvm, GET_API_VERSION, 0)? != KVM_API_VERSION as i32 {
            *libc::__errno_location() = libc::ENOTSUP;
            return Err(Failed);
        }
        begin(Step::CreateVm);
        let vm = request(kvm, CREATE_VM, guest::vm_type(kvm))?;
        begin(Step::Memory);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: guest::MEMORY_START,
            memory_size: GUEST_MEMORY as u64,
            userspace_addr: guest_memory as u64,
        };
        request(vm, SET_USER_MEMORY_REGION, &raw const region as u64)?;
        begin(Step::CreateVcpu);
        let vcpu = request(vm, CREATE_VCPU, 0)?;
        let size = request(kvm, GET_VCPU_MMAP_SIZE, 0)? as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let run = libc::mmap(ptr::null_mut(), size, protection, libc::MAP_SHARED, vcpu, 0);
        if run == libc::MAP_FAILED || size < size_of::<kvm_run>() {
            return Err(Failed);
        }
        begin(Step::Registers);
        guest::set_registers(vm, vcpu)?;
        begin(Step::Run);
        run_guest(report, vcpu, run.cast())
    }
}

/// Lets the guest run from signal to signal: one when its first instructions are through, then
/// one at the end of each loop.
unsafe fn run_guest(report: &mut Report, vcpu: i32, run: *const kvm_run) -> Result<(), Failed> {
    loop {
        let start = now_ns();
        // SAFETY: this request has no argument.
        unsafe { request(vcpu, RUN, 0) }?;
        let elapsed = now_ns().saturating_sub(start);
        // SAFETY: the kernel has filled the page, which stays mapped.
        let (reason, detail) = unsafe { ((*run).exit_reason, detail_of(run)) };
        report.exit_reason = reason;
        report.detail = detail;
        if reason != guest::SIGNAL_EXIT {
            return Ok(());
        }
        report.n_signals += 1;
        if report.n_signals > 1 {
            report.fastest_loop_ns = report.fastest_loop_ns.min(elapsed);
        }
        if report.n_signals > N_LOOPS {
            // SAFETY: the place is valid.
            unsafe { ptr::write_volatile(&raw mut report.step, Step::Done as u32) };
            return Ok(());
        }
    }
}

/// The number that explains an exit, where there is one.
///
/// # Safety
/// `run` must point to the mapped page of a processor.
unsafe fn detail_of(run: *const kvm_run) -> u64 {
    // SAFETY: the reason says which member of the union the kernel has filled.
    unsafe {
        match (*run).exit_reason {
            KVM_EXIT_INTERNAL_ERROR => u64::from((*run).__bindgen_anon_1.internal.suberror),
            KVM_EXIT_FAIL_ENTRY => (*run).__bindgen_anon_1.fail_entry.hardware_entry_failure_reason,
            _ => 0,
        }
    }
}

fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid; the call does not lock or allocate.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What people call an exit reason.
pub(super) fn exit_name(reason: u32) -> String {
    match reason {
        KVM_EXIT_IO => "an I/O access".to_owned(),
        KVM_EXIT_MMIO => "a memory-mapped access".to_owned(),
        KVM_EXIT_HLT => "a halt".to_owned(),
        KVM_EXIT_SHUTDOWN => "a shutdown (triple fault)".to_owned(),
        KVM_EXIT_FAIL_ENTRY => "a failed entry".to_owned(),
        KVM_EXIT_INTERNAL_ERROR => "an internal error".to_owned(),
        other => format!("exit reason {other}"),
    }
}
