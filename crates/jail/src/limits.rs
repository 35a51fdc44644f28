//! The limits of a QEMU: generous for what it does, and an end for what it does not.

use crate::Needs;

/// The resource of a limit. Its type differs between C libraries.
#[cfg(target_env = "gnu")]
pub(crate) type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(crate) type Resource = libc::c_int;

const GIB: u64 = 1 << 30;
/// Room beside the guest's memory: translated code, stacks of 255 processors, devices.
const DATA: u64 = 8 * GIB;
/// Processors, workers of disks and shares, and the rest.
const THREADS: u64 = 2048;
/// The same where all copies of one process are counted together.
const THREADS_OF_COPIES: u64 = 32 << 10;
/// Layers, sockets, and what a 9p share opens.
const FILES: u64 = 8192;

/// Whether a user namespace counts threads by itself: Linux 5.14 and later. Before, all of the user's
/// count, and a limit would end QEMU on a busy host.
pub(crate) fn counts_threads_apart() -> bool {
    fs_err::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|text| is_since(&text, (5, 14)))
}

/// Whether a kernel's version is that or a later one.
fn is_since(version: &str, wanted: (u32, u32)) -> bool {
    let digits = |part: &str| part.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok();
    let mut parts = version.split('.').map(digits);
    let found = (parts.next().flatten(), parts.next().flatten());
    matches!(found, (Some(major), Some(minor)) if (major, minor) >= wanted)
}

/// All limits of that machine. `counts_own` says whether threads are counted in a namespace of its
/// own: those of a user who runs much else are no measure.
pub(crate) fn limits(needs: &Needs, counts_own: bool) -> Vec<(Resource, u64)> {
    let mut limits = vec![
        // The guest's memory and its secrets are in QEMU's.
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_DATA, needs.memory.saturating_mul(2).saturating_add(DATA)),
        // The overlay holds the disk, its tables, and checkpoints with the memory.
        (libc::RLIMIT_FSIZE, file_size(needs)),
        (libc::RLIMIT_NOFILE, FILES),
        (libc::RLIMIT_MEMLOCK, 64 << 20),
        (libc::RLIMIT_MSGQUEUE, 0),
    ];
    if counts_own {
        let threads = if needs.forks { THREADS_OF_COPIES } else { THREADS };
        limits.push((libc::RLIMIT_NPROC, threads));
    }
    limits
}

/// The overlay with sixteen checkpoints; a share's files are the guest's disk too.
fn file_size(needs: &Needs) -> u64 {
    let overlay = needs.disk.saturating_mul(2).saturating_add(needs.memory.saturating_mul(16));
    let shares = if needs.shares.is_empty() { 0 } else { u64::MAX >> 1 };
    overlay.saturating_add(GIB).max(shares).min(u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kernels_are_compared_as_numbers() {
        for (version, expect) in [
            ("6.18.44-fc-v782\n", true),
            ("5.14.0-427.el9.x86_64", true),
            ("5.14-rc1", true),
            ("5.4.0-150-generic", false),
            ("5.10.0-28-amd64", false),
            ("4.19", false),
            ("nonsense", false),
            ("", false),
        ] {
            assert_eq!(is_since(version, (5, 14)), expect, "{version}");
        }
    }

    #[test]
    fn a_large_machine_fits_into_its_limits() {
        let needs = Needs { memory: 64 * GIB, disk: 16 << 40, ..Needs::default() };
        let limits = limits(&needs, true);
        let of = |wanted| limits.iter().find(|(resource, _)| *resource == wanted).unwrap().1;
        assert!(of(libc::RLIMIT_DATA) > needs.memory + 4 * GIB);
        assert!(of(libc::RLIMIT_FSIZE) > needs.disk + 16 * needs.memory);
        assert_eq!(of(libc::RLIMIT_CORE), 0);
        assert!(file_size(&Needs { disk: u64::MAX, ..needs }) <= u64::MAX >> 1);
    }
}
