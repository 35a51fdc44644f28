//! Starts a program behind its walls, and leaves out those that the host refuses.

use crate::fault::{Fault, Stage};
use crate::process::{Child, Program};
use crate::program::{Kind, is_private, kind};
use crate::rules::version;
use crate::start::start;
use crate::{Host, Needs, Plan, Wall, plan};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, TryLockError};

/// The walls that this host has refused so far: they are tried once.
static REFUSED: Mutex<BTreeMap<Wall, String>> = Mutex::new(BTreeMap::new());

/// Starts a program behind the walls that it leaves room for and that the host allows.
///
/// # Errors
/// What the system says of the program itself, or of what no wall can be left out for.
pub fn spawn(program: &Program, needs: &Needs) -> io::Result<Child> {
    let mut needs = needs.clone();
    needs.is_script = kind(program.path)? == Kind::Script;
    // SAFETY: the call has no conditions.
    needs.reads_private = unsafe { libc::geteuid() } == 0 && is_private(program, &needs);
    let needs = &needs;
    with_allowed_walls(needs, |needs, plan| start(program, needs, plan, true))
}

/// Leaves out one wall after the other until the host refuses none any more.
fn with_allowed_walls<T>(
    needs: &Needs,
    mut start: impl FnMut(&Needs, &Plan) -> io::Result<Result<T, Fault>>,
) -> io::Result<T> {
    // What went wrong with this machine says nothing of the next one.
    let mut here = BTreeMap::new();
    loop {
        let mut known = here.clone();
        if let Some(refused) = refused() {
            known.extend(refused.clone());
        }
        let plan = plan(needs, &host(known));
        let fault = match start(needs, &plan)? {
            Ok(child) => return Ok(child),
            Err(fault) => fault,
        };
        let error = io::Error::from_raw_os_error(fault.errno);
        let Some(wall) = blamed(fault.stage, &plan) else { return Err(error) };
        let reason = format!("refused here: {error}");
        if let Some(mut refused) = refused().filter(|_| is_lasting(fault)) {
            refused.insert(wall, reason.clone());
        }
        here.insert(wall, reason);
    }
}

/// Whether a refusal is the host's own, and not that of a program, a folder or a moment.
fn is_lasting(fault: Fault) -> bool {
    let is_of_moment = matches!(
        fault.errno,
        libc::ENOSPC | libc::EUSERS | libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE
    );
    let is_of_machine = match fault.stage {
        Stage::Sources | Stage::Exec => true,
        Stage::Mounts => !matches!(fault.errno, libc::EPERM | libc::EACCES),
        _ => false,
    };
    !is_of_moment && !is_of_machine
}

/// The lock is never waited for: in a forked copy of this process a thread that is not there may hold it.
fn refused() -> Option<MutexGuard<'static, BTreeMap<Wall, String>>> {
    match REFUSED.try_lock() {
        Ok(refused) => Some(refused),
        Err(TryLockError::Poisoned(refused)) => Some(refused.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Which walls stand on this host, found out by putting them up.
///
/// # Errors
/// What the system says when no process can be started at all.
pub fn standing() -> io::Result<Plan> {
    let (path, needs) = (Path::new("/proc/self/exe"), Needs::default());
    let program = Program { path, args: &[], inherit: &[] };
    with_allowed_walls(&needs, |needs, plan| {
        // Every wall is put up, and then there is nothing to run.
        Ok(match start(&program, needs, plan, false)? {
            Err(Fault { stage: Stage::Exec, .. }) | Ok(_) => Ok(plan.clone()),
            Err(fault) => Err(fault),
        })
    })
}

fn host(refused: BTreeMap<Wall, String>) -> Host {
    // SAFETY: the call has no conditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    Host { is_linux: true, is_root, landlock: version(), refused }
}

/// The wall to leave out after a fault.
fn blamed(stage: Stage, plan: &Plan) -> Option<Wall> {
    let first = |walls: &[Wall]| walls.iter().copied().find(|wall| plan.has(*wall));
    match stage {
        Stage::Process => None,
        // The process could not be made: the outermost namespace is the one that is refused.
        Stage::Identity => first(&[
            Wall::UserNamespace,
            Wall::MountNamespace,
            Wall::PidNamespace,
            Wall::NetworkNamespace,
            Wall::IpcNamespace,
        ]),
        Stage::Mounts | Stage::Sources => first(&[Wall::MountNamespace]),
        Stage::Limits => first(&[Wall::Limits]),
        Stage::Landlock => first(&[Wall::LandlockFiles, Wall::LandlockTcp, Wall::LandlockScopes]),
        Stage::Filter => first(&[Wall::SystemCalls]),
        // A loader or library that lies elsewhere is not in the new root.
        Stage::Exec => first(&[Wall::MountNamespace, Wall::LandlockFiles]),
    }
}
