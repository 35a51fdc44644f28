//! Starts a program behind its walls, and leaves out those that the host refuses.
//!
//! The child is a direct one, also in a process namespace, so that it is waited for and killed like
//! any other. A forked process is used, and not a thread of the host's: what the caller's thread has
//! to be for the child to die with it is the caller's business (`PR_SET_PDEATHSIG`).

use crate::child::{Fault, Stage, Steps, run};
use crate::filter::filters;
use crate::limits::{counts_threads_apart, limits};
use crate::mounts::Mounts;
use crate::program::{Kind, LIBRARY_PATH, is_private, kind, libraries, plain};
use crate::rules::{rules, version};
use crate::{Host, Needs, Plan, Ports, Wall, plan};
use fs_err as fs;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, TryLockError};

/// All that a program of QEMU's kind reads of its environment.
const VARIABLES: [&std::ffi::CStr; 4] =
    [c"HOME=/", c"PATH=/usr/bin:/bin", c"LC_ALL=C.UTF-8", c"TMPDIR=/tmp"];
/// Over the files of others (CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID): what root
/// serves a share with.
const FILE_CAPABILITIES: u64 = 0b1_1111;

/// The walls that this host has refused so far: they are tried once.
static REFUSED: Mutex<BTreeMap<Wall, String>> = Mutex::new(BTreeMap::new());

/// What to run.
pub struct Program<'a> {
    /// The program's path.
    pub path: &'a Path,
    /// Its arguments, without its name.
    pub args: &'a [String],
    /// Descriptors that it keeps under their own numbers, of 10 and more.
    pub inherit: &'a [RawFd],
}

/// A running or ended program.
pub struct Child {
    pid: libc::pid_t,
    status: Option<ExitStatus>,
    /// What it writes to its standard output.
    pub stdout: Option<OwnedFd>,
    /// And to its standard error.
    pub stderr: Option<OwnedFd>,
    /// The walls around it.
    pub plan: Plan,
}

impl Child {
    /// The process number.
    pub fn id(&self) -> u32 {
        self.pid as u32
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// What the system says; never for one that has been waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        // SAFETY: the number is this child's until it is waited for.
        system(unsafe { libc::kill(self.pid, libc::SIGKILL) }).map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What the system says, when somebody else has waited for it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let mut status = 0;
        loop {
            // SAFETY: `status` is a number of this frame.
            match system(unsafe { libc::waitpid(self.pid, &mut status, 0) }) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                waited => {
                    waited?;
                    let status = ExitStatus::from_raw(status);
                    self.status = Some(status);
                    return Ok(status);
                }
            }
        }
    }
}

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

/// Without `runs` everything is done but the last step.
fn start(
    program: &Program,
    needs: &Needs,
    plan: &Plan,
    runs: bool,
) -> io::Result<Result<Child, Fault>> {
    let opened = open_path(program.path)?;
    // A root of its own has the program under its own path, whose name is then the process'.
    let path = plain(program.path)?;
    let is_static = runs && kind(&path)? == Kind::Static;
    let visible = match (runs, is_static) {
        (false, _) => Vec::new(),
        (true, true) => vec![path.clone()],
        (true, false) => libraries(&path),
    };
    let inherited = program.inherit.iter().map(|number| {
        // SAFETY: the caller keeps these open.
        unsafe { BorrowedFd::borrow_raw(*number) }
    });
    let files: Vec<BorrowedFd> = inherited.filter(is_file).collect();
    let Ok(landlock) = rules(plan, needs, &visible, opened.as_fd(), &files) else {
        return Ok(Err(Fault { stage: Stage::Landlock, errno: libc::EPERM }));
    };
    let (report, their_report) = pipe()?;
    let (stdout, their_stdout) = pipe()?;
    let (stderr, their_stderr) = pipe()?;
    let null = above(fs::File::open("/dev/null")?.into_file().into())?;
    let parent = own_process();
    // SAFETY: the calls have no conditions.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let has_user = plan.has(Wall::UserNamespace);
    let path = if runs { c_string(path.as_os_str().as_bytes())? } else { c"".to_owned() };
    let mut strings = vec![c_string(program.path.as_os_str().as_bytes())?];
    for arg in program.args {
        strings.push(c_string(arg.as_bytes())?);
    }
    let ended = |strings: Vec<*const libc::c_char>| {
        strings.into_iter().chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let keeps = (!needs.shares.is_empty() || needs.reads_private) && !has_user;
    let variables = variables(needs, !is_static)?;
    let steps = Steps {
        parent: parent.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        streams: [null.as_raw_fd(), their_stdout.as_raw_fd(), their_stderr.as_raw_fd()],
        inherit: program.inherit.to_vec(),
        report: their_report.as_raw_fd(),
        maps: if has_user { Some((map(uid)?, map(gid)?)) } else { None },
        mounts: if plan.has(Wall::MountNamespace) {
            Some(Mounts::prepare(needs, &visible)?)
        } else {
            None
        },
        limits: if plan.has(Wall::Limits) {
            limits(needs, has_user && counts_threads_apart())
        } else {
            vec![(libc::RLIMIT_CORE, 0)]
        },
        capabilities: if needs.has_own_arguments {
            u64::MAX
        } else if keeps {
            FILE_CAPABILITIES
        } else {
            0
        },
        landlock: landlock.as_ref().map(AsRawFd::as_raw_fd),
        filters: if plan.has(Wall::SystemCalls) {
            filters(needs.listens != Ports::None)?.into()
        } else {
            Vec::new()
        },
        path,
        args: ended(strings.iter().map(|string| string.as_ptr()).collect()),
        variables: ended(variables.iter().map(|variable| variable.as_ptr()).collect()),
        _variables: variables,
        _strings: strings,
    };
    let pid = match fork(&steps, flags(plan)) {
        Ok(pid) => pid,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EPERM);
            let is_refusal =
                matches!(errno, libc::EPERM | libc::EINVAL | libc::ENOSPC | libc::EUSERS);
            if is_refusal && flags(plan) != 0 {
                return Ok(Err(Fault { stage: Stage::Identity, errno }));
            }
            return Err(error);
        }
    };
    drop((their_report, their_stdout, their_stderr));
    let (stdout, stderr) = (Some(stdout), Some(stderr));
    let mut child = Child { pid, status: None, stdout, stderr, plan: plan.clone() };
    let mut told = Vec::new();
    // The end of the pipe is the exec, or the child's end.
    File::from(report).take(2).read_to_end(&mut told)?;
    let [stage, errno] = told[..] else { return Ok(Ok(child)) };
    child.wait()?;
    let stages = [
        Stage::Identity,
        Stage::Mounts,
        Stage::Sources,
        Stage::Limits,
        Stage::Landlock,
        Stage::Filter,
        Stage::Exec,
    ];
    let known = stages.into_iter().find(|known| *known as u8 == stage);
    Ok(Err(Fault { stage: known.unwrap_or(Stage::Process), errno: i32::from(errno) }))
}

/// The environment. Arguments of the user's own may mean a window or a sound server, which are found
/// by variables; a loader needs to know where the libraries are.
fn variables(needs: &Needs, needs_loader: bool) -> io::Result<Vec<CString>> {
    let pair = |name: &std::ffi::OsStr, value: &std::ffi::OsStr| {
        c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    if needs.has_own_arguments {
        return std::env::vars_os().map(|(name, value)| pair(&name, &value)).collect();
    }
    let mut variables: Vec<CString> = VARIABLES.iter().map(|it| (*it).to_owned()).collect();
    if let Some(value) = std::env::var_os(LIBRARY_PATH).filter(|_| needs_loader) {
        variables.push(pair(LIBRARY_PATH.as_ref(), &value)?);
    }
    Ok(variables)
}

/// Forks, in new namespaces. No signal reaches the child before it is another program: the host's
/// handlers would run in it.
fn fork(steps: &Steps, flags: u64) -> io::Result<libc::pid_t> {
    // SAFETY: the child has a copy of all memory, as with `fork`, and does nothing but system calls;
    // the masks are of this frame.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
            (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let flags = flags | libc::SIGCHLD as u64;
        let pid = libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize);
        if pid == 0 {
            run(steps);
        }
        let forked = system(pid as i32);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        forked
    }
}

/// The namespaces of a plan, for clone(2).
fn flags(plan: &Plan) -> u64 {
    let of = [
        (Wall::UserNamespace, libc::CLONE_NEWUSER),
        (Wall::MountNamespace, libc::CLONE_NEWNS),
        (Wall::PidNamespace, libc::CLONE_NEWPID),
        (Wall::NetworkNamespace, libc::CLONE_NEWNET),
        (Wall::IpcNamespace, libc::CLONE_NEWIPC | libc::CLONE_NEWUTS),
    ];
    of.iter().filter(|(wall, _)| plan.has(*wall)).fold(0, |all, (_, flag)| all | *flag as u64)
}

/// One id of the host, under another number than root's, which would get rights back at the exec.
fn map(id: u32) -> io::Result<CString> {
    let inner = if id == 0 { 1 } else { id };
    c_string(format!("{inner} {id} 1").as_bytes())
}

/// This process, as a descriptor (Linux 5.3).
fn own_process() -> Option<OwnedFd> {
    // SAFETY: the call has no conditions; the descriptor is new.
    unsafe {
        let number = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as RawFd;
        let own = (number >= 0).then(|| OwnedFd::from_raw_fd(number))?;
        above(own).ok()
    }
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a string with its end, and the descriptor is new.
    unsafe {
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        above(OwnedFd::from_raw_fd(system(libc::open(path.as_ptr(), flags))?))
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has two places, and both descriptors are new.
    unsafe {
        system(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        let [read, write] = ends.map(|end| OwnedFd::from_raw_fd(end));
        Ok((above(read)?, above(write)?))
    }
}

/// The same descriptor out of the range of the standard streams, which the child replaces.
fn above(fd: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open, and the new one is nobody else's.
    unsafe {
        let number = system(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Whether it is a file with a name. One without cannot be ruled, and needs no rule.
fn is_file(fd: &BorrowedFd) -> bool {
    // SAFETY: the descriptor is open, and the structure is of this frame.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(fd.as_raw_fd(), &mut stat) == 0
            && stat.st_mode & libc::S_IFMT == libc::S_IFREG
            && stat.st_nlink > 0
    }
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    Ok(CString::new(bytes)?)
}

fn system(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
