//! Starts a process the fast way: the child shares the agent's memory and the agent sleeps until
//! `execve`, so that no page table is copied, and the child is born inside its control group, so
//! that it need not be moved there (which can wait for an RCU grace period).
//!
//! `posix_spawn` does the first but neither the second nor users, and `std::process::Command` falls
//! back to a copying fork for users. What runs between clone and `execve` is `child` below: system
//! calls only, no allocation, no lock, no panic.
//!
//! See <https://man7.org/linux/man-pages/man2/clone.2.html>.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Everything about a process that is to be started.
pub struct Spawn<'a> {
    /// File to execute.
    pub program: &'a CString,
    /// Arguments, the name first.
    pub arguments: &'a [CString],
    /// Environment as `NAME=value`.
    pub environment: &'a [CString],
    /// Working directory.
    pub directory: &'a CString,
    /// User, group and further groups; `None` leaves the agent's own.
    pub identity: Option<Identity<'a>>,
    /// Descriptors for 0, 1 and 2; each must be 3 or more.
    pub streams: [BorrowedFd<'a>; 3],
    /// Whether stream 0 becomes the controlling terminal.
    pub terminal: bool,
    /// Folder of the control group that the process starts in.
    pub group: Option<BorrowedFd<'a>>,
    /// How far the start is, for those who may give it up from another thread.
    pub progress: Option<&'a Progress>,
}

/// How far a start is that another thread waits for.
#[derive(Default)]
pub struct Progress {
    /// The child's number, from its birth until the start is over. The kernel writes it.
    pid: AtomicI32,
    given_up: AtomicBool,
}

impl Progress {
    /// Says that the start is over.
    pub fn end(&self) {
        self.pid.store(0, Ordering::SeqCst);
    }

    /// Gives the start up: a child that is not born yet will end by itself, one that is has to be
    /// killed.
    pub fn give_up(&self) -> Option<i32> {
        self.given_up.store(true, Ordering::SeqCst);
        Some(self.pid.load(Ordering::SeqCst)).filter(|pid| *pid > 0)
    }
}

/// Who the process runs as.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: &'a [u32],
}

/// The step at which a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No process could be made.
    Clone,
    /// No session, terminal or streams.
    Session,
    /// The user or groups could not be taken on.
    Identity,
    /// The working directory could not be entered.
    Directory,
    /// The program could not be executed.
    Execute,
}

/// A start that failed: the step, and what the kernel said.
#[derive(Debug)]
pub struct Failure {
    /// The step.
    pub stage: Stage,
    /// What the kernel said.
    pub source: io::Error,
}

/// Open files that a command may have at first, as everywhere: programs that use `select` rely on
/// it. The hard limit is the agent's.
const SOFT_OPEN_FILES: u64 = 1024;
const STACK: usize = 64 << 10;

struct Context {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    directory: *const c_char,
    identity: Option<(u32, u32, *const u32, usize)>,
    streams: [RawFd; 3],
    terminal: bool,
    limits: libc::rlimit,
    progress: Option<*const Progress>,
    failure: Cell<Option<(Stage, i32)>>,
}

/// Starts the process and returns its number. It leads its own session and process group.
///
/// # Errors
/// The step that failed. No child is left behind in that case.
pub fn spawn(spawn: &Spawn<'_>) -> Result<i32, Failure> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let arguments = pointers(spawn.arguments);
    let environment = pointers(spawn.environment);
    let mut context = Context {
        program: spawn.program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        directory: spawn.directory.as_ptr(),
        identity: spawn.identity.map(|i| (i.uid, i.gid, i.groups.as_ptr(), i.groups.len())),
        streams: spawn.streams.map(|stream| stream.as_raw_fd()),
        terminal: spawn.terminal,
        limits: open_file_limits(),
        progress: spawn.progress.map(ptr::from_ref),
        failure: Cell::new(None),
    };
    let pid = with_stack(|stack| clone(&mut context, stack, spawn.group))
        .map_err(|source| Failure { stage: Stage::Clone, source })?;
    if let Some((stage, error)) = context.failure.get() {
        spawn.progress.inspect(|progress| progress.end());
        // SAFETY: waits for our own child, which has exited or is about to; no status is wanted.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        return Err(Failure { stage, source: io::Error::from_raw_os_error(error) });
    }
    Ok(pid)
}

fn open_file_limits() -> libc::rlimit {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let hard = hard.unwrap_or(libc::RLIM_INFINITY);
    libc::rlimit { rlim_cur: SOFT_OPEN_FILES.min(hard), rlim_max: hard }
}

/// Lends the child's stack. The parent sleeps while the child uses it, so one is enough a thread.
fn with_stack<T>(run: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static STACK_MEMORY: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    }
    STACK_MEMORY.with(|cell| {
        let mut memory = cell.take().unwrap_or_else(|| vec![0; STACK].into_boxed_slice());
        let result = run(&mut memory);
        cell.set(Some(memory));
        result
    })
}

fn clone(context: &mut Context, stack: &mut [u8], group: Option<BorrowedFd>) -> io::Result<i32> {
    if let Some(group) = group {
        match clone_into(context, stack, Some(group)) {
            // The group was removed, or belongs to a hierarchy that cannot take processes.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(
                        libc::ENODEV | libc::EBUSY | libc::EOPNOTSUPP | libc::EBADF | libc::EINVAL
                    )
                ) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                return clone_plain(context, stack);
            }
            result => return result,
        }
    }
    match clone_into(context, stack, None) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => clone_plain(context, stack),
        result => result,
    }
}

/// clone3 on a stack of the child's own. No C library wraps it, and without a wrapper the child
/// would return into the parent's frame, hence the few instructions for each architecture.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn clone_into(
    context: &mut Context,
    stack: &mut [u8],
    group: Option<BorrowedFd>,
) -> io::Result<i32> {
    let (base, length) = aligned(stack);
    // SAFETY: all fields of clone_args are numbers, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.stack = base as u64;
    arguments.stack_size = length as u64;
    if let Some(group) = group {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd() as u64;
    }
    if let Some(progress) = context.progress {
        arguments.flags |= libc::CLONE_PARENT_SETTID as u64;
        // SAFETY: the caller of `spawn` keeps it alive; only its address is taken here.
        arguments.parent_tid = unsafe { &(*progress).pid }.as_ptr() as u64;
    }
    let context: *mut Context = context;
    let result: isize;
    // SAFETY: the child runs `child` on `stack`, which outlives it because CLONE_VFORK holds the
    // parent until the child executes or exits, and `child` never returns. Registers of the parent
    // are restored by the kernel; those that the system call changes are declared.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &raw mut arguments,
            in("rsi") size_of_val(&arguments),
            in("r12") context,
            in("r13") child as extern "C" fn(*mut c_void) -> c_int,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw mut arguments => result,
            in("x1") size_of_val(&arguments),
            in("x20") context,
            in("x21") child as extern "C" fn(*mut c_void) -> c_int,
        );
    }
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result as i32));
    }
    Ok(result as i32)
}

/// From `linux/sched.h`; the libc crate lacks it because it does not fit clone(2)'s flags.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn clone_into(_: &mut Context, _: &mut [u8], _: Option<BorrowedFd>) -> io::Result<i32> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// The same without clone3, for kernels and filters that lack it; no control group then.
fn clone_plain(context: &mut Context, stack: &mut [u8]) -> io::Result<i32> {
    let (base, length) = aligned(stack);
    let (flag, number) = match context.progress {
        // SAFETY: the caller of `spawn` keeps it alive; only its address is taken here.
        Some(progress) => (libc::CLONE_PARENT_SETTID, unsafe { &(*progress).pid }.as_ptr()),
        None => (0, ptr::null_mut()),
    };
    let context: *mut Context = context;
    // SAFETY: as in `clone_into`; the C library's wrapper calls `child` on the given stack.
    let pid = unsafe {
        libc::clone(
            child,
            base.add(length).cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | flag,
            context.cast(),
            number,
        )
    };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

fn aligned(stack: &mut [u8]) -> (*mut u8, usize) {
    let offset = stack.as_ptr().align_offset(16);
    let stack = &mut stack[offset..];
    (stack.as_mut_ptr(), stack.len() & !15)
}

extern "C" fn child(context: *mut c_void) -> c_int {
    // SAFETY: `context` is the parent's, which sleeps; nobody else touches it.
    let context = unsafe { &*context.cast::<Context>() };
    // SAFETY: only system calls with pointers that the parent keeps alive; the number stored at
    // the end is read by the parent after this process is gone.
    unsafe {
        let (stage, error) = prepare(context);
        context.failure.set(Some((stage, error)));
        libc::_exit(127)
    }
}

/// Returns only when a step failed.
///
/// # Safety
/// Runs in the child, in the parent's memory.
unsafe fn prepare(context: &Context) -> (Stage, i32) {
    // SAFETY: `__errno_location` is the parent thread's, which sleeps.
    let error = || unsafe { *libc::__errno_location() };
    // SAFETY: plain system calls; raw ones where the C library would also act on other threads.
    unsafe {
        // SAFETY: the caller of `spawn` keeps it alive until the start is over.
        if context.progress.is_some_and(|progress| (*progress).given_up.load(Ordering::SeqCst)) {
            libc::_exit(127);
        }
        // The agent is the last that the kernel ends when memory runs out; its commands are as any.
        let adjustment =
            libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if adjustment >= 0 {
            libc::write(adjustment, c"0".as_ptr().cast(), 1);
            libc::close(adjustment);
        }
        // Ignored signals stay ignored over execve, and the mask stays too: a command starts with
        // the defaults, as under any shell.
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut empty);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, &empty, ptr::null_mut());
        if libc::setsid() < 0 {
            return (Stage::Session, error());
        }
        if context.terminal && libc::ioctl(context.streams[0], libc::TIOCSCTTY, 0) < 0 {
            return (Stage::Session, error());
        }
        for (target, stream) in context.streams.iter().enumerate() {
            if libc::dup2(*stream, target as c_int) < 0 {
                return (Stage::Session, error());
            }
        }
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            libc::RLIMIT_NOFILE,
            &context.limits,
            ptr::null_mut::<libc::rlimit>(),
        );
        if let Some((uid, gid, groups, n_groups)) = context.identity
            && (libc::syscall(libc::SYS_setgroups, n_groups, groups) < 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0)
        {
            return (Stage::Identity, error());
        }
        if libc::chdir(context.directory) < 0 {
            return (Stage::Directory, error());
        }
        libc::execve(context.program, context.arguments, context.environment);
        (Stage::Execute, error())
    }
}
