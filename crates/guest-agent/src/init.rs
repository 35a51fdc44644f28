//! PID 1 of the initrd: from the kernel's hands to the distribution's, as fast as it goes.
//!
//! ```text
//!  mount /proc /sys /dev -> modules -> wait for the disk -> mount it -> network
//!    -> everything moves into the new root -> fork: the agent | exec the distribution's init
//! ```
//!
//! A root without an init of its own (the `minimal` image) keeps the agent as PID 1. When a step
//! fails, the reason goes to the console and the machine powers off, so that the host never waits
//! for a guest that will not come.

mod console;
mod modules;
mod root;

use std::ffi::CString;
use std::path::Path;

use agent_protocol::VIRTIO_PORT_NAME;
use rustix::system::RebootCommand;

use crate::config::{CommandLine, firmware_token};
use crate::listen::Listener;
use crate::network;
use crate::server::{self, Setup};
use crate::token::Tokens;
use crate::{Error, Result};

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// Programs that take over, in the kernel's own order; a bare shell is no init for us.
const INITS: [&str; 4] = ["/sbin/init", "/usr/sbin/init", "/etc/init", "/bin/init"];

/// Whether this process is the kernel's first in an initrd.
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// Boots the machine. Does not return.
pub fn main() -> ! {
    let error = match boot() {
        Ok(()) => "Failed to run the agent: it ended".to_owned(),
        Err(error) => error.response().error,
    };
    console::say(&format!("quicksand-agent: panic: {error}"));
    rustix::fs::sync();
    // Without working ACPI the first call returns or does nothing; a kernel panic is the last word
    // then, and the host sees QEMU end because of -no-reboot or its own boot timeout.
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    let _ = rustix::system::reboot(RebootCommand::Restart);
    std::process::exit(1)
}

fn boot() -> Result<()> {
    root::mount_early()?;
    console::open();
    console::mark("init");
    let line = CommandLine::parse(&read("/proc/cmdline")?)?;
    modules::load_all(Path::new("/modules"));
    root::mount(&line)?;
    let has_network = network::configure();
    let firmware = firmware_token(Path::new("/sys"));
    root::switch(has_network)?;
    console::open();
    console::mark("root");
    let setup = setup(&line, firmware, has_network);
    match find_init(&line) {
        // SAFETY: there is one thread, and the child goes on as any process would.
        Some(init) => match unsafe { libc::fork() } {
            0 => serve(setup),
            child if child > 0 => hand_over(&init),
            _ => Err(Error::Boot {
                step: "start the agent".into(),
                source: std::io::Error::last_os_error(),
            }),
        },
        None => serve(setup),
    }
}

fn setup(line: &CommandLine, firmware: Option<Vec<u8>>, has_network: bool) -> Setup {
    let mut listeners = vec![];
    if let (Some(port), Some(_), true) = (line.port, &line.token, has_network) {
        listeners.push(Listener::Tcp(port));
    }
    listeners.push(Listener::Virtio(VIRTIO_PORT_NAME));
    let tokens = Tokens::new([
        firmware.unwrap_or_default(),
        line.token.clone().unwrap_or_default().into_bytes(),
    ]);
    if tokens.is_empty() {
        console::say("quicksand-agent: no token given, every request will be refused");
    }
    Setup { tokens, listeners, control_groups: Some(CONTROL_GROUPS.into()) }
}

fn serve(setup: Setup) -> Result<()> {
    if std::process::id() != 1 {
        // Its own session: the distribution's init gets the console and its signals alone.
        let _ = rustix::process::setsid();
        // Orphans of commands come to the agent, not to an init that knows nothing of them.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
    prepare();
    let result = server::run(setup, || {
        console::mark("ready");
        console::say(agent_protocol::READY_LINE);
    });
    if std::process::id() == 1 {
        return result;
    }
    if let Err(error) = result {
        console::say(&format!("quicksand-agent: panic: {}", error.response().error));
    }
    std::process::exit(1)
}

/// What commands inherit, and how many descriptors the agent may have.
pub fn prepare() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // SAFETY: descriptors stay open; they only end at the next execve. Where the kernel is too old
    // for it, whoever started the agent decides what its commands inherit.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    for signal in (1..32).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: the default action needs no handler; KILL and STOP refuse the change.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let _ = rustix::process::chdir("/");
    // When memory runs out, the kernel is to end what uses it up, and not what the host talks to:
    // nothing would start the agent again. Commands begin with 0, see `spawn`.
    // See <https://man7.org/linux/man-pages/man5/proc_pid_oom_score_adj.5.html>.
    let _ = fs_err::write("/proc/self/oom_score_adj", "-1000");
    // The kernel's own limit is 4096, too few for a hundred commands with their pipes and sockets.
    const OPEN_FILES: u64 = 524_288;
    let limit = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    if setrlimit(Resource::Nofile, limit).is_err() {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

fn find_init(line: &CommandLine) -> Option<String> {
    let runs = |path: &str| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    line.init.iter().map(String::as_str).chain(INITS).find(|path| runs(path)).map(str::to_owned)
}

fn hand_over(init: &str) -> Result<()> {
    let failed = |source| Error::Boot { step: format!("execute `{init}`"), source };
    let program = CString::new(init).map_err(|error| failed(error.into()))?;
    let environment = [c"HOME=/".as_ptr(), c"TERM=linux".as_ptr(), std::ptr::null()];
    let arguments = [program.as_ptr(), std::ptr::null()];
    // SAFETY: both arrays end with a null pointer and hold strings that live here.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Err(failed(std::io::Error::last_os_error()))
}

fn read(path: &str) -> Result<String> {
    fs_err::read_to_string(path).map_err(|source| Error::File {
        action: "read",
        path: path.into(),
        source,
    })
}
