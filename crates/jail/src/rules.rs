//! Landlock's rules of a machine: the files that QEMU opens by itself, and nothing else.
//! See <https://docs.kernel.org/userspace-api/landlock.html>.
//!
//! Descriptors that QEMU inherits need no rule, but to be opened again through `/proc/self/fd` a file
//! needs one of its own.

use crate::{Needs, Plan, Ports, Wall};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The version that is asked for; an older kernel has what it has.
const NEWEST: ABI = ABI::V6;

/// Landlock's version on this host, 0 without it.
pub(crate) fn version() -> i32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no memory.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION)
    };
    version.max(0) as i32
}

/// Makes the rules; `None` where the plan has none of these walls. `program` is executed, `files` are
/// read.
pub(crate) fn rules(
    plan: &Plan,
    needs: &Needs,
    libraries: &[std::path::PathBuf],
    program: BorrowedFd,
    files: &[BorrowedFd],
) -> io::Result<Option<OwnedFd>> {
    let walls = [Wall::LandlockFiles, Wall::LandlockTcp, Wall::LandlockScopes];
    if !walls.into_iter().any(|wall| plan.has(wall)) {
        return Ok(None);
    }
    let made = (|| {
        let mut ruleset = Ruleset::default();
        if plan.has(Wall::LandlockFiles) {
            ruleset = ruleset.handle_access(AccessFs::from_all(NEWEST))?;
        }
        if plan.has(Wall::LandlockTcp) {
            ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
            if needs.listens != Ports::Any {
                ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
            }
        }
        if plan.has(Wall::LandlockScopes) {
            ruleset = ruleset.scope(Scope::from_all(NEWEST))?;
        }
        let mut created = ruleset.create()?;
        if plan.has(Wall::LandlockFiles) {
            created = with_files(created, needs, libraries, program, files)?;
        }
        if plan.has(Wall::LandlockTcp)
            && let Ports::Some(ports) = &needs.listens
        {
            for port in ports {
                created = created.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
            }
        }
        Ok::<_, landlock::RulesetError>(created)
    })();
    made.map(Option::<OwnedFd>::from).map_err(|error| io::Error::other(error.to_string()))
}

fn with_files(
    mut created: RulesetCreated,
    needs: &Needs,
    libraries: &[std::path::PathBuf],
    program: BorrowedFd,
    files: &[BorrowedFd],
) -> Result<RulesetCreated, landlock::RulesetError> {
    let execute = AccessFs::ReadFile | AccessFs::Execute;
    created = created.add_rule(PathBeneath::new(program, execute))?;
    for file in files {
        created = created.add_rule(PathBeneath::new(file.as_fd(), AccessFs::ReadFile))?;
    }
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let paths = needs.read.iter().map(|path| (path, read));
    let paths = paths.chain(libraries.iter().map(|path| (path, read | AccessFs::Execute)));
    let paths = paths.chain(needs.devices.iter().map(|path| (path, device)));
    let paths = paths.chain(needs.shares.iter().map(|share| {
        let all = AccessFs::from_all(NEWEST) & !BitFlags::from(AccessFs::Execute);
        (&share.path, if share.readonly { read } else { all })
    }));
    for (path, access) in paths {
        // What is not there cannot be opened either.
        let Ok(opened) = PathFd::new(path) else { continue };
        let is_folder = path.is_dir();
        let access = if is_folder { access } else { access & AccessFs::from_file(NEWEST) };
        created = created.add_rule(PathBeneath::new(opened, access))?;
    }
    Ok(created)
}
