//! A hostile program in QEMU's place, started as the product starts QEMU: with its walls, its
//! descriptors and its arguments. It reaches nothing.

use super::{SHARED, on_shared};
use fs_err as fs;
use sandbox::{
    Error, Mount, MountType, NetworkMode, Sandbox, SandboxConfigBuilder, Transport, VncAccess,
};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// What the program may find, alive as long as this value.
struct World {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    _sockets: [UnixListener; 2],
    _leaked: std::fs::File,
    name: String,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("save")).unwrap();
        fs::write(home.join("id_rsa"), "secret").unwrap();
        fs::write(home.join("save/manifest.json"), "{}").unwrap();
        let name = format!("quicksand-hostile-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            UnixListener::bind(home.join("agent.sock")).unwrap(),
            UnixListener::bind_addr(&address).unwrap(),
        ];
        let leaked = fs::File::open(home.join("id_rsa")).unwrap().into_file();
        // A descriptor that some library has left open across an exec.
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        assert!(leaked.as_raw_fd() > 2);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_nonblocking(true).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { folder, tcp, udp, _sockets: sockets, _leaked: leaked, name }
    }

    /// A folder like that of a bundled QEMU; `other` is another machine's process.
    fn bundle(&self, other: u32) -> std::path::PathBuf {
        let bin = self.folder.path().join("bundle/bin");
        let firmware = bin.join("share/qemu");
        fs::create_dir_all(&firmware).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_hostile"), bin.join(EMULATOR)).unwrap();
        let targets = [
            self.folder.path().join("home").display().to_string(),
            self.name.clone(),
            self.tcp.local_addr().unwrap().port().to_string(),
            self.udp.local_addr().unwrap().port().to_string(),
            std::process::id().to_string(),
            other.to_string(),
        ];
        fs::write(firmware.join("targets"), targets.join("\n")).unwrap();
        bin
    }
}

const EMULATOR: &str =
    if cfg!(target_arch = "x86_64") { "qemu-system-x86_64" } else { "qemu-system-aarch64" };

/// What it printed, when that configuration is started with the hostile program as QEMU.
async fn report(builder: SandboxConfigBuilder, bundle: &std::path::Path) -> String {
    let mut search = vm_tests::search();
    search.qemu_dir = Some(bundle.to_owned());
    let sandbox = Sandbox::new(builder.build().unwrap()).with_locator(search);
    match sandbox.start().await {
        Err(Error::QemuExited { console, stderr, .. }) => format!("{console}\n{stderr}"),
        Err(error) => panic!("{error}"),
        Ok(()) => panic!("it answered"),
    }
}

#[test]
fn a_hostile_program_in_qemus_place_reaches_nothing() {
    let world = World::new();
    let other = on_shared(async |sandbox| sandbox.pid()).expect("the shared machine runs");
    let bundle = world.bundle(other);
    let share = world.folder.path().join("share");
    fs::create_dir(&share).unwrap();
    let plain = vm_tests::minimal();
    let cases = [
        ("socket", plain.clone().transport(Transport::Socket)),
        ("tcp", plain.clone().transport(Transport::Tcp)),
        ("full network", plain.clone().network_mode(NetworkMode::Full)),
        ("9p share", plain.clone().mount(Mount::new(&share, "/mnt/share").kind(MountType::Plan9))),
        ("VNC", plain.enable_display(true).vnc(VncAccess::Port)),
    ];
    for (case, builder) in cases {
        let report = SHARED.0.block_on(report(builder, &bundle));
        println!("{case}:\n{report}");
        let line =
            report.lines().find(|line| line.starts_with("tried ")).expect("it came to its end");
        let words: Vec<&str> = line.split(' ').collect();
        let [_, n_tried, _, _, n_reached] = words[..] else { panic!("{line}") };
        assert!(n_tried.parse::<usize>().unwrap() >= 80, "{case}: {line}");
        assert_eq!(n_reached, "0", "{case}: {report}");
    }
    let mut buffer = [0; 8];
    assert!(world.udp.recv(&mut buffer).is_err(), "a datagram has arrived");
}
