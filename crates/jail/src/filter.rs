//! The system calls that QEMU needs. A list of what is allowed: a call that the kernel gets next year
//! is not on it.
//!
//! Everything else fails with EPERM, which QEMU reports as any other error; a call that only newer
//! versions of QEMU make then costs a function and not the machine. QEMU's own filter (`-sandbox on`)
//! comes on top of it after the start, and takes `execve` away. See seccomp(2).

mod allowed;

use allowed::{ALLOWED, ALSO_ALLOWED};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// What `fork` asks `clone` for in the C libraries: a copy of the process, and nothing shared.
const FORK: i32 = libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
/// The signals that the threads of a QEMU send each other: the one that stops a processor, and the C
/// library's own two. None of them ends a process that runs QEMU.
const OWN_SIGNALS: [i32; 3] = [libc::SIGUSR1, 32, 33];

/// The two filters of a machine, in the order in which they are put up. One that forks may make copies
/// of itself, which see each other: it may send them no signal that ends them.
pub(crate) fn filters(listens: bool, forks: bool) -> io::Result<[BpfProgram; 2]> {
    let failed = |error: seccompiler::Error| io::Error::other(error.to_string());
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let errno = |number: i32| SeccompAction::Errno(number as u32);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALSO_ALLOWED).map(|call| (*call, Vec::new())).collect();
    // A thread, and no process.
    let mut clones = vec![flags(0, libc::CLONE_THREAD as u64).map_err(failed)?];
    if forks {
        let rule = |argument, value: i32| {
            SeccompRule::new(vec![equal(argument, u64::from(u32::MAX), value as u64)?])
                .map_err(seccompiler::Error::Backend)
        };
        clones.push(rule(0, FORK).map_err(failed)?);
        let signals = OWN_SIGNALS.iter().map(|signal| rule(2, *signal));
        rules.insert(libc::SYS_tgkill, signals.collect::<Result<_, _>>().map_err(failed)?);
    }
    rules.insert(libc::SYS_clone, clones);
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
        for (listens, forks) in [(false, false), (false, true), (true, false), (true, true)] {
            for filter in filters(listens, forks).unwrap() {
                assert!(filter.len() < 4096, "{}", filter.len());
            }
        }
    }
}
