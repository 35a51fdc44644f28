//! What the parent does: maps the memory, forks, waits with a deadline, reads the report.

use super::{
    child::{self, GUEST_MEMORY, Mapped, Report, Step, exit_name},
    guest,
};
use crate::accelerator::Finding;
use std::{
    io, ptr,
    time::{Duration, Instant},
};

/// The child is ended after this much processor time, its guest's included. A working KVM needs
/// about a millisecond; a busy host, which lets the child wait, does not count.
const CHILD_CPU_LIMIT: Duration = Duration::from_millis(60);
/// The parent ends the child after this: only a child that sleeps in the kernel, or a host that is
/// busy many times over, gets here.
const PARENT_DEADLINE: Duration = Duration::from_millis(400);
/// A loop of 200,000 steps takes a tenth of a millisecond on hardware and a hundred times that
/// where each step is emulated.
const LOOP_LIMIT: Duration = Duration::from_millis(10);

/// Opens the device and closes it again: what most hosts without KVM fail at.
pub(in crate::accelerator) fn open_device() -> Result<(), Finding> {
    match fs_err::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Ok(()),
        Err(error) => Err(cannot_open(error.kind())),
    }
}

fn cannot_open(kind: io::ErrorKind) -> Finding {
    let reason = match kind {
        io::ErrorKind::NotFound => {
            "/dev/kvm does not exist (is virtualisation enabled and the kvm module loaded?)"
        }
        io::ErrorKind::PermissionDenied => {
            "no permission for /dev/kvm (add the user to the group kvm and log in again)"
        }
        _ => "/dev/kvm cannot be opened",
    };
    Finding::new(false, false, reason)
}

/// Runs the tiny machine and judges what came of it.
pub(in crate::accelerator) fn probe() -> Finding {
    let (report, guest_memory) =
        match (Mapping::new(size_of::<Report>()), Mapping::new(GUEST_MEMORY)) {
            (Ok(report), Ok(memory)) => (report, memory),
            (Err(error), _) | (_, Err(error)) => {
                return Finding::new(false, false, format!("no memory for the probe: {error}"));
            }
        };
    // SAFETY: the mapping has this size and nobody else knows it yet.
    guest::prepare(unsafe { std::slice::from_raw_parts_mut(guest_memory.start, GUEST_MEMORY) });
    let mapped = Mapped { report: report.start.cast(), guest_memory: guest_memory.start };
    // SAFETY: the mapping is large enough and aligned to a page.
    unsafe { (*mapped.report).fastest_loop_ns = u64::MAX };
    // SAFETY: the child only makes system calls (see `child`) and never returns.
    let child = unsafe {
        match libc::fork() {
            0 => child::run(&mapped, CHILD_CPU_LIMIT.as_micros() as libc::suseconds_t),
            child => child,
        }
    };
    if child < 0 {
        let error = io::Error::last_os_error();
        return Finding::new(false, false, format!("no process for the probe: {error}"));
    }
    let used_its_time = wait(child);
    // SAFETY: the mapping stays until the end of this function; a child that could not be ended
    // has its own mapping of the page and writes no more than single words of it.
    let report = unsafe { ptr::read_volatile(mapped.report) };
    judge(&report, used_its_time)
}

/// Waits for the child with a deadline, and ends it then. True when it was ended because it used
/// up its processor time. One that cannot be ended at once is left
/// to itself: it is killed as soon as the kernel lets go of it.
fn wait(child: libc::pid_t) -> bool {
    let start = Instant::now();
    let mut killed = false;
    loop {
        let mut status = 0;
        // SAFETY: the status outlives the call.
        let result = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if result == child {
            return libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGPROF;
        }
        let interrupted =
            result < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if result < 0 && !interrupted {
            // Somebody else waits for all children (or SIGCHLD is ignored): it is gone.
            return false;
        }
        if start.elapsed() > PARENT_DEADLINE && !killed {
            // SAFETY: the child has not been waited for, so the number is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            killed = true;
        }
        if start.elapsed() > 2 * PARENT_DEADLINE {
            return false;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// What the report means.
fn judge(report: &Report, used_its_time: bool) -> Finding {
    let fastest = Duration::from_nanos(report.fastest_loop_ns);
    if report.step == Step::Done as u32 {
        return match fastest <= LOOP_LIMIT {
            true => Finding::new(true, true, "a test guest ran at full speed"),
            false => Finding::new(
                false,
                false,
                format!(
                    "/dev/kvm emulates: 200,000 steps of a test guest took {} ms",
                    fastest.as_millis()
                ),
            ),
        };
    }
    if report.errno != 0 {
        let error = io::Error::from_raw_os_error(report.errno);
        if report.step == Step::Open as u32 {
            return cannot_open(error.kind());
        }
        let reason = format!("KVM failed to {}: {error}", step_name(report.step));
        return Finding::new(false, false, reason);
    }
    if report.exit_reason != 0 && report.exit_reason != guest::SIGNAL_EXIT {
        let mut reason = format!(
            "/dev/kvm does not run guest kernel code: a test guest ended with {}",
            exit_name(report.exit_reason)
        );
        if report.detail != 0 {
            reason.push_str(&format!(" ({})", report.detail));
        }
        return Finding::new(false, true, reason);
    }
    // A busy host can miss the deadline, so a verdict by it is not kept; one by the processor's time
    // does not depend on the host's load.
    let reason = format!(
        "/dev/kvm does not answer in time: a test guest was stopped while it had to {}",
        step_name(report.step)
    );
    Finding::new(false, used_its_time, reason)
}

fn step_name(step: u32) -> &'static str {
    const NAMES: [(Step, &str); 7] = [
        (Step::Open, "open the device"),
        (Step::ApiVersion, "tell its version"),
        (Step::CreateVm, "make a machine"),
        (Step::Memory, "give it memory"),
        (Step::CreateVcpu, "give it a processor"),
        (Step::Registers, "set its registers"),
        (Step::Run, "run 200,000 steps"),
    ];
    NAMES.iter().find(|(known, _)| *known as u32 == step).map_or("start", |(_, name)| name)
}

/// Memory that parent and child share, unmapped in the end.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    fn new(length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping touches nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and nothing borrows from it.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::{KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_SHUTDOWN};

    fn report() -> Report {
        Report {
            step: Step::Run as u32,
            errno: 0,
            exit_reason: 0,
            detail: 0,
            n_signals: 0,
            fastest_loop_ns: u64::MAX,
        }
    }

    #[test]
    fn reports_are_judged() {
        let done = Step::Done as u32;
        let fast = Report { step: done, fastest_loop_ns: 90_000, ..report() };
        let slow = Report { step: done, fastest_loop_ns: 30_000_000, ..report() };
        let internal = Report { exit_reason: KVM_EXIT_INTERNAL_ERROR, detail: 1, ..report() };
        let triple = Report { exit_reason: KVM_EXIT_SHUTDOWN, ..report() };
        let denied = Report { step: Step::Open as u32, errno: libc::EACCES, ..report() };
        let absent = Report { step: Step::Open as u32, errno: libc::ENOENT, ..report() };
        let busy = Report { step: Step::CreateVm as u32, errno: libc::EBUSY, ..report() };
        // A loop that never came back: the last exit was the signal before it.
        let hang = Report { exit_reason: guest::SIGNAL_EXIT, n_signals: 1, ..report() };
        let table = [
            (fast, true, true, "at full speed"),
            (slow, false, false, "took 30 ms"),
            (internal, false, true, "internal error (1)"),
            (triple, false, true, "triple fault"),
            (denied, false, false, "group kvm"),
            (absent, false, false, "does not exist"),
            (busy, false, false, "make a machine"),
            (hang, false, false, "run 200,000 steps"),
        ];
        for (report, usable, lasting, words) in table {
            let finding = judge(&report, false);
            assert_eq!(finding.usable, usable, "{}", finding.reason);
            assert_eq!(finding.lasting, lasting, "{}", finding.reason);
            assert!(finding.reason.contains(words), "{}", finding.reason);
        }
    }

    #[test]
    fn a_guest_that_uses_up_its_time_is_a_lasting_verdict() {
        let hang = Report { exit_reason: guest::SIGNAL_EXIT, n_signals: 1, ..report() };
        assert!(judge(&hang, true).lasting);
        assert!(!judge(&hang, false).lasting, "a busy host can miss the deadline");
    }

    /// Whatever this machine has: the probe ends in time, and leaves no child behind.
    #[test]
    fn the_probe_answers_in_time() {
        let start = Instant::now();
        let finding = probe();
        let elapsed = start.elapsed();
        println!("usable: {}, {}, {elapsed:?}", finding.usable, finding.reason);
        assert!(elapsed < 2 * PARENT_DEADLINE + Duration::from_millis(200), "{elapsed:?}");
        assert!(!finding.reason.is_empty());
    }
}
