//! What a hostile program in QEMU's place tries. Two programs try it: one of this crate's tests, and one
//! that the product starts as its QEMU (`tests/vm`).

use std::cell::RefCell;
use std::ffi::CString;
use std::net::{TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

/// What there is to reach.
pub struct Targets {
    /// A folder of the user's, with a file `id_rsa`, a save `save/manifest.json` and a socket `agent.sock`.
    pub home: String,
    /// The name of an abstract socket.
    pub name: String,
    /// Ports of services on the loopback.
    pub tcp: u16,
    pub udp: u16,
    /// The process that started this one, and perhaps another machine's.
    pub others: Vec<(&'static str, i32)>,
    /// Descriptors that were handed over.
    pub handed: Vec<i32>,
    /// One of them that is a base image, opened for reading.
    pub base: i32,
    /// Whether the machine has to listen on a port of the system's choice.
    pub listens: bool,
}

thread_local! {
    static TRIED: RefCell<Vec<(String, bool)>> = const { RefCell::new(Vec::new()) };
}

fn tell(what: &str, is_reached: bool) {
    TRIED.with_borrow_mut(|tried| tried.push((what.to_owned(), is_reached)));
}

fn call(what: &str, result: libc::c_long) {
    tell(what, result >= 0);
}

/// Tries everything, and gives each attempt with whether it reached its target.
pub fn attempts(targets: &Targets) -> Vec<(String, bool)> {
    files(targets);
    sockets(targets);
    processes(targets);
    kernel();
    TRIED.take()
}

fn files(targets: &Targets) {
    let home = &targets.home;
    let read = |path: &str| fs_err::read(path).is_ok_and(|bytes| !bytes.is_empty());
    tell("read a file of the user", read(&format!("{home}/id_rsa")));
    tell("list the user's folder", fs_err::read_dir(home).is_ok_and(|mut it| it.next().is_some()));
    tell("write into the user's folder", fs_err::write(format!("{home}/new"), "x").is_ok());
    tell("read a save of the user", read(&format!("{home}/save/manifest.json")));
    for path in ["/etc/passwd", "/etc/shadow", "/etc/hostname", "/root/.bashrc", "/run/utmp"] {
        tell(&format!("read {path}"), read(path));
    }
    for path in ["kmsg", "mem", "tty", "kvm", "fuse", "net/tun", "loop-control", "input/event0"] {
        let opened = fs_err::OpenOptions::new().read(true).open(format!("/dev/{path}"));
        tell(&format!("open /dev/{path}"), opened.is_ok());
    }
    for path in ["/proc/sys/kernel/core_pattern", "/sys/kernel/mm/ksm/run", "/proc/sysrq-trigger"] {
        tell(&format!("open {path}"), fs_err::OpenOptions::new().write(true).open(path).is_ok());
    }
    tell("write to /tmp", fs_err::write("/tmp/new", "x").is_ok());
    tell("write to /usr", fs_err::write("/usr/new", "x").is_ok());
    for (whose, pid) in &targets.others {
        for file in ["mem", "environ", "maps", "cmdline", "fd/0", "root/etc/passwd"] {
            tell(&format!("{file} of {whose}"), read(&format!("/proc/{pid}/{file}")));
        }
        let descriptors = fs_err::read_dir(format!("/proc/{pid}/fd"));
        tell(&format!("descriptors of {whose}"), descriptors.is_ok_and(|all| all.count() > 0));
    }
    let others = fs_err::read_dir("/proc").map(|entries| {
        let name =
            |entry: std::io::Result<fs_err::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let own = std::process::id().to_string();
        entries.filter_map(name).filter(|n| n.parse::<u32>().is_ok() && *n != own).count()
    });
    tell("see other processes", others.is_ok_and(|n| n > 0));
    let base = format!("/proc/self/fd/{}", targets.base);
    tell(
        "open the base image for writing",
        fs_err::OpenOptions::new().write(true).open(&base).is_ok(),
    );
    // SAFETY: plain calls on a descriptor that is open.
    unsafe {
        call("write to the base image", libc::write(targets.base, c"x".as_ptr().cast(), 1) as i64);
        call("cut the base image", i64::from(libc::ftruncate(targets.base, 0)));
        let known = |it: &i32| *it < 3 || targets.handed.contains(it);
        let open = |number: i32| libc::fcntl(number, libc::F_GETFD) >= 0;
        let foreign: Vec<i32> = (0..4096).filter(|it| open(*it) && !known(it)).collect();
        tell(&format!("other descriptors of the parent {foreign:?}"), !foreign.is_empty());
    }
    let variables = std::env::vars().filter(|(name, _)| name.contains("CARGO") || name == "USER");
    tell("variables of the parent", variables.count() > 0);
}

fn sockets(Targets { home, name, tcp, udp, listens, .. }: &Targets) {
    tell("a TCP service of the host", TcpStream::connect(format!("127.0.0.1:{tcp}")).is_ok());
    if !listens {
        tell("listen on a TCP port", std::net::TcpListener::bind("127.0.0.1:0").is_ok());
    }
    let sent =
        UdpSocket::bind("127.0.0.1:0").and_then(|it| it.send_to(b"x", format!("127.0.0.1:{udp}")));
    tell("a UDP service of the host", sent.is_ok());
    tell("a socket in the file system", UnixStream::connect(format!("{home}/agent.sock")).is_ok());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    tell("an abstract socket", UnixStream::connect_addr(&address).is_ok());
    // SAFETY: calls without memory.
    unsafe {
        for (what, family, kind) in [
            ("a raw socket", libc::AF_INET, libc::SOCK_RAW),
            ("a packet socket", libc::AF_PACKET, libc::SOCK_RAW),
            ("a netlink socket", libc::AF_NETLINK, libc::SOCK_RAW),
            ("a socket to other machines", libc::AF_VSOCK, libc::SOCK_STREAM),
        ] {
            call(what, i64::from(libc::socket(family, kind, 0)));
        }
    }
}

fn processes(targets: &Targets) {
    for (whose, pid) in &targets.others {
        process(whose, *pid);
    }
    // SAFETY: calls that take numbers.
    unsafe {
        call("a signal to everybody", i64::from(libc::kill(-1, 0)));
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        call("another process", i64::from(child));
        let no_new = libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
        tell("set-user-ID programs", no_new != 1);
        call("another user", i64::from(libc::setuid(0)));
    }
}

fn process(whose: &str, pid: i32) {
    let call = |what: &str, result: libc::c_long| tell(&format!("{what} {whose}"), result >= 0);
    // SAFETY: calls that take numbers, and memory of this frame.
    unsafe {
        call("a signal to", i64::from(libc::kill(pid, 0)));
        call("a signal to a thread of", libc::syscall(libc::SYS_tgkill, pid, pid, 0));
        call("trace", libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0));
        call("a descriptor of", libc::syscall(libc::SYS_pidfd_open, pid, 0));
        let mut byte = 0u8;
        let own = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let other = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        call("read the memory of", libc::process_vm_readv(pid, &own, 1, &other, 1, 0) as i64);
        call("write the memory of", libc::process_vm_writev(pid, &own, 1, &other, 1, 0) as i64);
        let none = std::ptr::null::<libc::rlimit>();
        let limit = libc::syscall(libc::SYS_prlimit64, pid, libc::RLIMIT_NOFILE, none, none);
        call("the limits of", limit);
        call("the priority of", i64::from(libc::setpriority(libc::PRIO_PROCESS, pid as u32, 19)));
    }
}

fn kernel() {
    let path = CString::new("/").unwrap();
    let kind = CString::new("tmpfs").unwrap();
    let mut room = [0u8; 256];
    // SAFETY: strings with their ends, and memory of this frame that is large enough.
    unsafe {
        let mounted = libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, std::ptr::null());
        call("a mount", i64::from(mounted));
        call("unmount", i64::from(libc::umount2(path.as_ptr(), libc::MNT_DETACH)));
        call("a namespace", i64::from(libc::unshare(libc::CLONE_NEWUSER)));
        call("another root", i64::from(libc::chroot(path.as_ptr())));
        let key =
            libc::syscall(libc::SYS_add_key, c"user".as_ptr(), c"x".as_ptr(), c"y".as_ptr(), 1, -3);
        call("a key of the user's", key);
        call("the user's keyrings", libc::syscall(libc::SYS_keyctl, 0, -4, 0));
        call("io_uring", libc::syscall(libc::SYS_io_uring_setup, 1, room.as_mut_ptr()));
        call("bpf", libc::syscall(libc::SYS_bpf, 0, room.as_mut_ptr(), 64));
        call(
            "performance events",
            libc::syscall(libc::SYS_perf_event_open, room.as_mut_ptr(), 0, -1, -1, 0),
        );
        let namespaces = (libc::CLONE_NEWUSER | libc::SIGCHLD) as i64;
        let child = libc::syscall(libc::SYS_clone, namespaces, 0, 0, 0, 0);
        if child == 0 {
            libc::_exit(0);
        }
        call("a process in a new namespace", child);
        let handle = libc::syscall(libc::SYS_open_by_handle_at, -100, room.as_mut_ptr(), 0);
        call("a file by its handle", handle);
        call("the clock", libc::syscall(libc::SYS_clock_settime, 0, room.as_ptr()));
        call(
            "a kernel module",
            libc::syscall(libc::SYS_init_module, room.as_ptr(), 0, room.as_ptr()),
        );
        call("the kernel's log", libc::syscall(libc::SYS_syslog, 3, room.as_mut_ptr(), 256));
        call("userfaultfd", libc::syscall(libc::SYS_userfaultfd, 0));
        call("System V memory", i64::from(libc::shmget(libc::IPC_PRIVATE, 4096, 0o600)));
        let name = libc::sethostname(c"x".as_ptr(), 1);
        call("the host's name", i64::from(name));
    }
}
