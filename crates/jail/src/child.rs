//! What happens in the child between fork and exec: the walls go up, one after the other.
//!
//! Everything is made ready before the fork. In here are system calls alone: the process is a copy of
//! one with many threads, whose locks may be held, so that nothing may be allocated.

use crate::fault::{Fault, Stage, checked};
use crate::limits::Resource;
use crate::mounts::Mounts;
use seccompiler::BpfProgram;
use std::ffi::CString;
use std::os::fd::RawFd;

/// What the child does, ready to be done.
pub(crate) struct Steps {
    /// The host process, as a descriptor that can be asked whether it is still there.
    pub(crate) parent: RawFd,
    /// The ends of the child's standard streams.
    pub(crate) streams: [RawFd; 3],
    /// Descriptors that it keeps under their own numbers.
    pub(crate) inherit: Vec<RawFd>,
    /// Where faults are reported. Closed by a successful exec.
    pub(crate) report: RawFd,
    /// The maps of users and groups, in a user namespace.
    pub(crate) maps: Option<(CString, CString)>,
    pub(crate) mounts: Option<Mounts>,
    pub(crate) limits: Vec<(Resource, u64)>,
    /// The capabilities that are kept.
    pub(crate) capabilities: u64,
    pub(crate) landlock: Option<RawFd>,
    pub(crate) filters: Vec<BpfProgram>,
    /// The program.
    pub(crate) path: CString,
    /// Its arguments and variables, and pointers to them with a null at the end.
    pub(crate) _strings: Vec<CString>,
    pub(crate) _variables: Vec<CString>,
    pub(crate) args: Vec<*const libc::c_char>,
    pub(crate) variables: Vec<*const libc::c_char>,
}

/// Does all steps and runs the program, or reports what failed and ends.
///
/// # Safety
/// To be called in a new process, by its only thread.
pub(crate) unsafe fn run(steps: &Steps) -> ! {
    // SAFETY: as this function.
    let Err(fault) = (unsafe { walls(steps) }) else { std::process::abort() };
    let report = [fault.stage as u8, fault.errno as u8];
    // SAFETY: plain system calls on an array of this frame.
    unsafe {
        libc::write(steps.report, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

/// # Safety
/// As [`run`].
unsafe fn walls(steps: &Steps) -> Result<(), Fault> {
    // SAFETY: system calls on what lives as long as `steps`.
    unsafe {
        process(steps)?;
        if let Some((users, groups)) = &steps.maps {
            write(c"/proc/self/setgroups", c"deny")?;
            write(c"/proc/self/gid_map", groups)?;
            write(c"/proc/self/uid_map", users)?;
        }
        if let Some(mounts) = &steps.mounts {
            mounts.enter()?;
        }
        for (resource, wanted) in &steps.limits {
            limit(*resource, *wanted)?;
        }
        drop_capabilities(steps.capabilities)?;
        let set = |option, value: libc::c_ulong| libc::prctl(option, value, 0, 0, 0);
        checked(Stage::Process, set(libc::PR_SET_NO_NEW_PRIVS, 1))?;
        if let Some(ruleset) = steps.landlock {
            let entered = libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0);
            checked(Stage::Landlock, entered as i32)?;
        }
        for filter in &steps.filters {
            let program = libc::sock_fprog {
                len: filter.len() as u16,
                filter: filter.as_ptr().cast_mut().cast(),
            };
            let mode = libc::SECCOMP_SET_MODE_FILTER;
            let put_up = libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program);
            checked(Stage::Filter, put_up as i32)?;
        }
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
        let (args, variables) = (steps.args.as_ptr(), steps.variables.as_ptr());
        let ran = libc::execve(steps.path.as_ptr(), args, variables);
        checked(Stage::Exec, ran)
    }
}

/// Session, death with the parent, streams and descriptors.
///
/// # Safety
/// As [`run`].
unsafe fn process(steps: &Steps) -> Result<(), Fault> {
    let fault = |result| checked(Stage::Process, result);
    // SAFETY: as the caller's.
    unsafe {
        fault(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        // The parent may have ended before the call above, which then waits for another's end. In a
        // process namespace it has no number, but its descriptor tells.
        let mut parent = libc::pollfd { fd: steps.parent, events: libc::POLLIN, revents: 0 };
        if steps.parent >= 0 && libc::poll(&mut parent, 1, 0) > 0 {
            return Err(Fault { stage: Stage::Process, errno: libc::ESRCH });
        }
        fault(libc::setsid())?;
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        // A file that reached its limit is an error of a write, and not the machine's end.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        for (number, stream) in steps.streams.iter().enumerate() {
            fault(libc::dup2(*stream, number as i32))?;
        }
        close_others()?;
        for number in &steps.inherit {
            fault(libc::fcntl(*number, libc::F_SETFD, 0))?;
        }
    }
    Ok(())
}

/// Has everything above the standard streams closed by the exec.
///
/// # Safety
/// As [`run`].
unsafe fn close_others() -> Result<(), Fault> {
    const ON_EXEC: libc::c_uint = 4;
    // SAFETY: as the caller's.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, ON_EXEC) == 0 {
            return Ok(());
        }
        // Before Linux 5.11: every number that can be open.
        let mut limit: libc::rlimit = std::mem::zeroed();
        checked(Stage::Process, libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        for number in 3..limit.rlim_cur.min(1 << 20) as i32 {
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}

/// # Safety
/// As [`run`].
unsafe fn write(path: &std::ffi::CStr, text: &std::ffi::CStr) -> Result<(), Fault> {
    let fault = |result| checked(Stage::Identity, result);
    // SAFETY: as the caller's.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        fault(file)?;
        let written = libc::write(file, text.as_ptr().cast(), text.count_bytes());
        fault(written as i32)?;
        libc::close(file);
    }
    Ok(())
}

/// Never above what there is already.
///
/// # Safety
/// As [`run`].
unsafe fn limit(resource: Resource, wanted: u64) -> Result<(), Fault> {
    // SAFETY: as the caller's.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        checked(Stage::Limits, libc::getrlimit(resource, &mut limit))?;
        let value = limit.rlim_max.min(wanted as libc::rlim_t);
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        checked(Stage::Limits, libc::setrlimit(resource, &limit))
    }
}

/// See capget(2). With no new privileges an exec gives none of them back.
///
/// # Safety
/// As [`run`].
unsafe fn drop_capabilities(kept: u64) -> Result<(), Fault> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Set {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Set { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: as the caller's; the structures are those of the manual page.
    unsafe {
        let got = libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr());
        checked(Stage::Process, got as i32)?;
        for (set, kept) in sets.iter_mut().zip([kept as u32, (kept >> 32) as u32]) {
            let left = set.permitted & kept;
            *set = Set { effective: left, permitted: left, inheritable: 0 };
        }
        let set = libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr());
        checked(Stage::Process, set as i32)
    }
}
