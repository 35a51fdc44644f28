//! The program itself: it prints each attempt and how it ended.

use std::ffi::CString;
use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::FromRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

fn tell(what: &str, is_reached: bool) {
    println!("{what}: {}", if is_reached { "REACHED" } else { "refused" });
}

fn call(what: &str, result: libc::c_long) {
    tell(what, result >= 0);
}

/// Run in QEMU's place by the test beside it, and by nothing else.
#[test]
#[ignore = "the other tests run it behind their walls"]
fn program() {
    let mut text = String::new();
    // SAFETY: the one who runs this has put the targets there.
    let mut targets = unsafe { std::fs::File::from_raw_fd(super::TARGETS) };
    std::io::Seek::rewind(&mut targets).unwrap();
    targets.read_to_string(&mut text).unwrap();
    let words: Vec<&str> = text.lines().collect();
    let [home, name, tcp, udp, parent] = words[..] else { panic!("{words:?}") };
    files(home, parent);
    sockets(home, name, tcp, udp);
    processes(parent.parse().unwrap());
    kernel();
    println!("tried everything");
}

fn files(home: &str, parent: &str) {
    let read = |path: &str| fs_err::read(path).is_ok_and(|bytes| !bytes.is_empty());
    tell("read a file of the user", read(&format!("{home}/id_rsa")));
    tell("list the user's folder", fs_err::read_dir(home).is_ok_and(|mut it| it.next().is_some()));
    tell("write into the user's folder", fs_err::write(format!("{home}/new"), "x").is_ok());
    for path in ["/etc/passwd", "/etc/shadow", "/etc/hostname", "/root/.bashrc", "/dev/kmsg"] {
        tell(&format!("read {path}"), read(path));
    }
    tell("write to /tmp", fs_err::write("/tmp/new", "x").is_ok());
    tell("write to /usr", fs_err::write("/usr/new", "x").is_ok());
    for file in ["mem", "environ", "maps", "cmdline", "fd/0", "root/etc/passwd"] {
        tell(&format!("read {file} of the parent"), read(&format!("/proc/{parent}/{file}")));
    }
    let others = fs_err::read_dir("/proc").map(|entries| {
        let name =
            |entry: std::io::Result<fs_err::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let own = std::process::id().to_string();
        entries.filter_map(name).filter(|n| n.parse::<u32>().is_ok() && *n != own).count()
    });
    tell("see other processes", others.is_ok_and(|n| n > 0));
    let base = format!("/proc/self/fd/{}", super::BASE);
    tell(
        "open the base image for writing",
        fs_err::OpenOptions::new().write(true).open(&base).is_ok(),
    );
    // SAFETY: plain calls on a descriptor that is open.
    unsafe {
        call("write to the base image", libc::write(super::BASE, c"x".as_ptr().cast(), 1) as i64);
        call("cut the base image", i64::from(libc::ftruncate(super::BASE, 0)));
        let known = [0, 1, 2, super::TARGETS, super::BASE];
        let open = |number: i32| libc::fcntl(number, libc::F_GETFD) >= 0;
        let foreign: Vec<i32> = (0..4096).filter(|it| open(*it) && !known.contains(it)).collect();
        tell(&format!("descriptors of the parent {foreign:?}"), !foreign.is_empty());
    }
    let variables = std::env::vars().filter(|(name, _)| name.contains("CARGO") || name == "USER");
    tell("variables of the parent", variables.count() > 0);
}

fn sockets(home: &str, name: &str, tcp: &str, udp: &str) {
    tell("a TCP service of the host", TcpStream::connect(format!("127.0.0.1:{tcp}")).is_ok());
    tell("listen on a TCP port", std::net::TcpListener::bind("127.0.0.1:0").is_ok());
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

fn processes(parent: i32) {
    // SAFETY: calls that take numbers, and memory of this frame.
    unsafe {
        call("a signal to the parent", i64::from(libc::kill(parent, 0)));
        call(
            "a signal to a thread of the parent",
            libc::syscall(libc::SYS_tgkill, parent, parent, 0),
        );
        call("a signal to everybody", i64::from(libc::kill(-1, 0)));
        call("trace the parent", libc::ptrace(libc::PTRACE_SEIZE, parent, 0, 0));
        call("the parent by a descriptor", libc::syscall(libc::SYS_pidfd_open, parent, 0));
        let mut byte = 0u8;
        let own = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let other = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        call("memory of the parent", libc::process_vm_readv(parent, &own, 1, &other, 1, 0) as i64);
        let none = std::ptr::null::<libc::rlimit>();
        let limit = libc::syscall(libc::SYS_prlimit64, parent, libc::RLIMIT_NOFILE, none, none);
        call("limits of the parent", limit);
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
        call("userfaultfd", libc::syscall(libc::SYS_userfaultfd, 0));
        call("System V memory", i64::from(libc::shmget(libc::IPC_PRIVATE, 4096, 0o600)));
        let name = libc::sethostname(c"x".as_ptr(), 1);
        call("the host's name", i64::from(name));
    }
}
