//! One try to start a program behind a plan's walls: everything is made ready, then comes the fork, and
//! the child tells what it could not do.
//!
//! A forked process is used, and not a thread of the host's: what the caller's thread has to be for
//! the child to die with it is the caller's business (`PR_SET_PDEATHSIG`).

use crate::call::{c_string, system};
use crate::child::{Steps, run};
use crate::descriptors::{above, is_file, open_path, own_process, pipe};
use crate::fault::{Fault, Stage};
use crate::filter::filters;
use crate::limits::{counts_threads_apart, limits};
use crate::mounts::Mounts;
use crate::process::{Child, Program};
use crate::program::{Kind, LIBRARY_PATH, kind, libraries, plain};
use crate::rules::rules;
use crate::{Needs, Plan, Ports, Wall};
use fs_err as fs;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

/// All that a program of QEMU's kind reads of its environment.
const VARIABLES: [&std::ffi::CStr; 4] =
    [c"HOME=/", c"PATH=/usr/bin:/bin", c"LC_ALL=C.UTF-8", c"TMPDIR=/tmp"];
/// Over the files of others (CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID): what root
/// serves a share with.
const FILE_CAPABILITIES: u64 = 0b1_1111;

/// Without `runs` everything is done but the last step.
pub(crate) fn start(
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
            filters(needs.listens != Ports::None, needs.forks)?.into()
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
    let mut child = Child::new(pid, stdout, stderr, plan.clone());
    let mut failure = Vec::new();
    // The end of the pipe is the exec, or the child's end.
    File::from(report).take(2).read_to_end(&mut failure)?;
    let [stage, errno] = failure[..] else { return Ok(Ok(child)) };
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
