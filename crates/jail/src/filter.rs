//! The system calls that QEMU needs. A list of what is allowed: a call that the kernel gets next year
//! is not on it.
//!
//! Everything else fails with EPERM, which QEMU reports as any other error; a call that only newer
//! versions of QEMU make then costs a function and not the machine. QEMU's own filter (`-sandbox on`)
//! comes on top of it after the start, and takes `execve` away. See seccomp(2).

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// Allowed on every architecture.
const ALLOWED: &[libc::c_long] = &[
    // Files and folders; what can be reached is for other walls to say.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_ioctl,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_memfd_create,
    // What a 9p share does for the guest.
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_fchdir,
    // Sockets that are open already, and a listener's.
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_mlock2,
    libc::SYS_get_mempolicy,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    // Threads, signals to themselves, time.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capget,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigpending,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getcpu,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_getrlimit,
    libc::SYS_seccomp,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // The program itself. In a root of its own there is no other.
    libc::SYS_execve,
    // Fails in the second filter, with the error that C libraries know.
    libc::SYS_clone3,
];

/// fchmodat2, which C libraries of 2023 and later make for a 9p share.
const FCHMODAT2: libc::c_long = 452;

/// Allowed where these calls exist.
#[cfg(target_arch = "x86_64")]
const ALSO_ALLOWED: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_create,
    libc::SYS_eventfd,
    libc::SYS_arch_prctl,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_getpgrp,
];
#[cfg(not(target_arch = "x86_64"))]
const ALSO_ALLOWED: &[libc::c_long] = &[];

/// The two filters of a machine, in the order in which they are put up.
pub(crate) fn filters(listens: bool) -> io::Result<[BpfProgram; 2]> {
    let failed = |error: seccompiler::Error| io::Error::other(error.to_string());
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let errno = |number: i32| SeccompAction::Errno(number as u32);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALSO_ALLOWED).map(|call| (*call, Vec::new())).collect();
    // A thread, and no process.
    rules.insert(libc::SYS_clone, vec![flags(0, libc::CLONE_THREAD as u64).map_err(failed)?]);
    // One's own limits, and nobody else's.
    let own = equal(0, u64::from(u32::MAX), 0).map_err(failed)?;
    let own =
        SeccompRule::new(vec![own]).map_err(|error| failed(seccompiler::Error::Backend(error)))?;
    rules.insert(libc::SYS_prlimit64, vec![own]);
    if listens {
        let tcp = |family: i32| -> Result<SeccompRule, seccompiler::Error> {
            let family = equal(0, u64::MAX, family as u64)?;
            // The flags of a new socket are in its kind.
            SeccompRule::new(vec![family, equal(1, 0xf, libc::SOCK_STREAM as u64)?])
                .map_err(seccompiler::Error::Backend)
        };
        rules.insert(
            libc::SYS_socket,
            vec![tcp(libc::AF_INET).map_err(failed)?, tcp(libc::AF_INET6).map_err(failed)?],
        );
        for call in [libc::SYS_bind, libc::SYS_listen, libc::SYS_accept4, libc::SYS_accept] {
            rules.insert(call, Vec::new());
        }
    }
    let refused = SeccompFilter::new(rules, errno(libc::EPERM), SeccompAction::Allow, arch);
    // C libraries try `clone3` first and take `clone`, whose flags can be looked at, when it is not
    // there.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let unknown = SeccompFilter::new(unknown, SeccompAction::Allow, errno(libc::ENOSYS), arch);
    let program = |filter: Result<SeccompFilter, seccompiler::BackendError>| {
        filter.and_then(BpfProgram::try_from).map_err(|error| io::Error::other(error.to_string()))
    };
    Ok([program(refused)?, program(unknown)?])
}

fn flags(argument: u8, bits: u64) -> Result<SeccompRule, seccompiler::Error> {
    SeccompRule::new(vec![equal(argument, bits, bits)?]).map_err(seccompiler::Error::Backend)
}

fn equal(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    let operator = SeccompCmpOp::MaskedEq(mask);
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
        .map_err(seccompiler::Error::Backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_stricter_than_qemus_and_fits_into_a_filter() {
        // What `-sandbox on` denies, and more.
        for call in [
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
            libc::SYS_add_key,
            libc::SYS_keyctl,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_userfaultfd,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_reboot,
            libc::SYS_chroot,
            libc::SYS_pivot_root,
            libc::SYS_setuid,
            libc::SYS_shmget,
            libc::SYS_msgget,
            libc::SYS_open_by_handle_at,
        ] {
            assert!(!ALLOWED.contains(&call) && !ALSO_ALLOWED.contains(&call), "{call}");
        }
        for listens in [false, true] {
            for filter in filters(listens).unwrap() {
                assert!(filter.len() < 4096, "{}", filter.len());
            }
        }
    }
}
