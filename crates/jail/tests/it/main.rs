//! A hostile program in QEMU's place: it tries what a taken-over QEMU would try, and reaches nothing.
#![cfg(target_os = "linux")]

mod hostile;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// The descriptor that the targets are read from, and the one of a base image.
const TARGETS: RawFd = 77;
const BASE: RawFd = 78;

fn at(file: impl Into<OwnedFd>, number: RawFd) -> OwnedFd {
    let file = file.into();
    // SAFETY: nothing else in this test uses these numbers.
    unsafe {
        assert_eq!(libc::dup2(file.as_raw_fd(), number), number);
        OwnedFd::from_raw_fd(number)
    }
}

/// Run in QEMU's place by the test below, and by nothing else.
#[test]
#[ignore = "another test runs it behind the walls"]
fn program() {
    report(&hostile::attempts(&targets()));
}

/// The same without walls, to see that the attempts can succeed.
#[test]
#[ignore = "another test runs it without walls"]
fn onlooker() {
    let hostile::Targets { home, name, tcp, others, .. } = targets();
    let parent = others[0].1;
    let address = SocketAddr::from_abstract_name(name).unwrap();
    // None of these changes anything where it succeeds.
    let tried = [
        ("read a file of the user", fs_err::read(format!("{home}/id_rsa")).is_ok()),
        ("read /etc/passwd", fs_err::read("/etc/passwd").is_ok()),
        ("a TCP service of the host", TcpStream::connect(("127.0.0.1", tcp)).is_ok()),
        ("an abstract socket", UnixStream::connect_addr(&address).is_ok()),
        ("cmdline of the parent", fs_err::read(format!("/proc/{parent}/cmdline")).is_ok()),
        // SAFETY: a call that takes numbers, and sends nothing.
        ("a signal to the parent", unsafe { libc::kill(parent, 0) } == 0),
    ];
    report(&tried.map(|(what, is_reached)| (what.to_owned(), is_reached)));
}

fn targets() -> hostile::Targets {
    let mut text = String::new();
    // SAFETY: the one who runs this has put the targets there.
    let mut targets = unsafe { std::fs::File::from_raw_fd(TARGETS) };
    std::io::Seek::rewind(&mut targets).unwrap();
    targets.read_to_string(&mut text).unwrap();
    let words: Vec<&str> = text.lines().collect();
    let [home, name, tcp, udp, parent] = words[..] else { panic!("{words:?}") };
    hostile::Targets {
        home: home.into(),
        name: name.into(),
        tcp: tcp.parse().unwrap(),
        udp: udp.parse().unwrap(),
        others: vec![("the parent", parent.parse().unwrap())],
        handed: vec![TARGETS, BASE],
        base: BASE,
        listens: false,
    }
}

fn report(tried: &[(String, bool)]) {
    for (what, is_reached) in tried {
        println!("{what}: {}", if *is_reached { "REACHED" } else { "refused" });
    }
    println!("tried everything");
}

/// Runs one of the programs above and gives what it printed.
fn run(name: &str, inherit: &[RawFd], needs: &jail::Needs) -> String {
    let args = [name, "--exact", "--ignored", "--nocapture"].map(str::to_owned);
    let path = std::env::current_exe().unwrap();
    let program = jail::Program { path: &path, args: &args, inherit };
    let mut child = jail::spawn(&program, needs).unwrap();
    println!("missing: {:?}", child.plan.missing);
    let (mut output, mut errors) = (String::new(), String::new());
    std::fs::File::from(child.stdout.take().unwrap()).read_to_string(&mut output).unwrap();
    std::fs::File::from(child.stderr.take().unwrap()).read_to_string(&mut errors).unwrap();
    println!("{output}\n{errors}");
    child.wait().unwrap();
    output
}

#[test]
fn a_program_in_qemus_place_reaches_nothing() {
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("id_rsa");
    fs_err::write(&secret, "secret").unwrap();
    fs_err::create_dir(home.path().join("save")).unwrap();
    fs_err::write(home.path().join("save/manifest.json"), "{}").unwrap();
    let base = home.path().join("base.qcow2");
    fs_err::write(&base, "base").unwrap();
    let socket = UnixListener::bind(home.path().join("agent.sock")).unwrap();
    let name = format!("quicksand-test-{}", std::process::id());
    let _abstract =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let leaked = fs_err::File::open(&secret).unwrap().into_file();
    // A descriptor that some library has left open across an exec.
    // SAFETY: the descriptor is this test's.
    unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) };
    let lines = [
        home.path().display().to_string(),
        name,
        tcp.local_addr().unwrap().port().to_string(),
        udp.local_addr().unwrap().port().to_string(),
        std::process::id().to_string(),
    ];
    let mut targets = tempfile::tempfile().unwrap();
    targets.write_all(lines.join("\n").as_bytes()).unwrap();
    let targets = at(targets, TARGETS);
    let base_file = at(fs_err::File::open(&base).unwrap().into_file(), BASE);
    let inherit = [targets.as_raw_fd(), base_file.as_raw_fd()];
    let needs = jail::Needs { memory: 1 << 30, disk: 1 << 30, ..jail::Needs::default() };
    let without = jail::Needs { has_own_arguments: true, ..needs.clone() };
    let seen = run("onlooker", &inherit, &without);
    assert_eq!(seen.lines().filter(|line| line.ends_with("REACHED")).count(), 6, "{seen}");
    let output = run("program", &inherit, &needs);
    assert!(output.contains("tried everything"), "the program did not come to its end");
    let reached: Vec<&str> = output.lines().filter(|line| line.ends_with("REACHED")).collect();
    assert!(reached.is_empty(), "{reached:?}");
    assert!(output.lines().filter(|line| line.ends_with(": refused")).count() >= 70);
    assert_eq!(fs_err::read_to_string(&base).unwrap(), "base");
    let mut buffer = [0; 8];
    assert!(udp.recv(&mut buffer).is_err(), "a datagram has arrived");
    drop((socket, leaked));
}

#[test]
fn a_jailed_program_dies_and_is_waited_for_like_any_other() {
    let path = std::path::Path::new("/bin/sleep");
    let args = ["1000".to_owned()];
    let program = jail::Program { path, args: &args, inherit: &[] };
    let mut child = jail::spawn(&program, &jail::Needs::default()).unwrap();
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!std::path::Path::new(&format!("/proc/{}", child.id())).exists());
    let program =
        jail::Program { path: std::path::Path::new("/no/such/qemu"), args: &[], inherit: &[] };
    assert!(jail::spawn(&program, &jail::Needs::default()).is_err());
    let standing = jail::standing().unwrap();
    println!("{standing:?}");
    assert!(standing.has(jail::Wall::Process) && standing.has(jail::Wall::SystemCalls));
}
