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
/// Layers, sockets, and what a 9p share opens.
const FILES: u64 = 8192;

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
        limits.push((libc::RLIMIT_NPROC, THREADS));
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
