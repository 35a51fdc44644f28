//! The QEMU wheel needs nothing of the system below it: its folder is copied into an empty root
//! without libraries, devices or configuration, and boots a guest with user networking there.
//!
//! Needs root, or user namespaces: the emulator runs in `chroot`, through `unshare` otherwise.

use duct::cmd;
use fs_err as fs;
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const TOKEN: &str = "the-token-of-the-empty-root";
const GUEST_PORT: u16 = 8080;
/// Generous: under software emulation on a busy machine a boot takes a minute.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const FROM_THE_HOST: &str = "greetings from outside";

/// A root folder that holds the wheel's folder, an image and a place for temporary files.
struct EmptyRoot {
    folder: tempfile::TempDir,
}

impl EmptyRoot {
    fn new() -> Self {
        let search = vm_tests::search();
        let arch = search.host.arch;
        let qemu = runtime_locator::find_qemu(&search, arch).expect("search() has found it");
        let image = runtime_locator::find_image(&search, "minimal", Some(arch)).expect("the same");
        let root = Self { folder: tempfile::tempdir().unwrap() };
        copy_tree(qemu.system.parent().expect("a file has a folder"), &root.path("bundle"));
        fs::create_dir(root.path("image")).unwrap();
        for (from, name) in
            [(&image.kernel, "kernel"), (&image.initrd, "initrd"), (&image.chain[0], "disk.qcow2")]
        {
            fs::copy(from, root.path("image").join(name)).unwrap();
        }
        fs::create_dir(root.path("tmp")).unwrap();
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program of the bundle, inside.
    fn program(&self, name: &str, args: &[String]) -> duct::Expression {
        let root = self.folder.path().to_str().unwrap().to_owned();
        let mut line = Vec::new();
        if !rustix::process::geteuid().is_root() {
            line.extend(["unshare", "--map-root-user"].map(str::to_owned));
        }
        line.extend(["chroot".to_owned(), root, format!("/bundle/{name}")]);
        line.extend(args.iter().cloned());
        cmd(&line[0], &line[1..]).full_env([("PATH", std::env::var("PATH").unwrap())])
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

fn qemu_args(host_port: u16) -> Vec<String> {
    let is_pc = cfg!(target_arch = "x86_64");
    let (machine, suffix, console) =
        if is_pc { ("q35", "pci", "ttyS0") } else { ("virt", "device", "ttyAMA0") };
    let line = format!(
        "console={console} root=/dev/vda rootfstype=ext4 net.ifnames=0 quicksand_token={TOKEN} \
         quicksand_port={GUEST_PORT}"
    );
    let romfile = if is_pc { ",romfile=" } else { "" };
    [
        "-nodefaults -no-user-config -display none -accel tcg -cpu max -m 256M".to_owned(),
        format!("-machine {machine} -serial file:/tmp/console"),
        "-kernel /image/kernel -initrd /image/initrd -append LINE".to_owned(),
        "-drive file=/tmp/overlay.qcow2,format=qcow2,if=none,id=disk".to_owned(),
        format!("-device virtio-blk-{suffix},drive=disk"),
        format!("-netdev user,id=net,hostfwd=tcp:127.0.0.1:{host_port}-:{GUEST_PORT}"),
        format!("-device virtio-net-{suffix},netdev=net{romfile}"),
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
            .to_owned(),
        "-run-with exit-with-parent=on".to_owned(),
    ]
    .iter()
    .flat_map(|part| part.split(' '))
    .map(|word| if word == "LINE" { line.clone() } else { word.to_owned() })
    .collect()
}

/// Stops the emulator however the test ends.
struct Running(duct::Handle);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// One request to the agent, through the guest's user networking; the body of the answer.
fn execute(port: u16, command: &str) -> std::io::Result<serde_json::Value> {
    let body = serde_json::json!({ "command": command, "timeout": 60 }).to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(90)))?;
    write!(
        stream,
        "POST /execute HTTP/1.1\r\nHost: guest\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|error| std::io::Error::other(format!("{error}: {answer}")))
}

#[test]
fn a_guest_boots_from_the_wheel_alone_with_user_networking() {
    let root = EmptyRoot::new();
    let names = ["bundle", "image", "tmp"];
    assert!(fs::read_dir(root.folder.path()).unwrap().count() == names.len(), "the root is empty");

    let create = "create -q -f qcow2 -F qcow2 -b /image/disk.qcow2 /tmp/overlay.qcow2";
    let args: Vec<String> = create.split(' ').map(str::to_owned).collect();
    root.program("qemu-img", &args).run().expect("qemu-img runs without any library");

    // What the guest will ask for, on a loopback port of the host.
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server_port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = write!(
                stream,
                "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{FROM_THE_HOST}",
                FROM_THE_HOST.len()
            );
        }
    });

    let host_port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let name =
        if cfg!(target_arch = "x86_64") { "qemu-system-x86_64" } else { "qemu-system-aarch64" };
    let handle = root
        .program(name, &qemu_args(host_port))
        .stdin_null()
        .stderr_to_stdout()
        .stdout_path(root.path("tmp/qemu.log"))
        .unchecked()
        .start()
        .unwrap();
    let running = Running(handle);
    let logs = || {
        let read = |name: &str| {
            String::from_utf8_lossy(&fs::read(root.path(name)).unwrap_or_default()).into_owned()
        };
        (read("tmp/qemu.log"), read("tmp/console"))
    };
    let start = Instant::now();
    while !logs().1.contains("quicksand-agent: ready") {
        let (log, console) = logs();
        assert!(running.0.try_wait().unwrap().is_none(), "QEMU left: {log}\n{console}");
        assert!(start.elapsed() < BOOT_LIMIT, "The guest is not ready: {log}\n{console}");
        std::thread::sleep(Duration::from_millis(100));
    }

    let answer = execute(host_port, "uname -s && test \"$(id -u)\" = 0").unwrap();
    assert_eq!(
        (answer["stdout"].as_str(), answer["exit_code"].as_i64()),
        (Some("Linux\n"), Some(0))
    );
    // 10.0.2.2 is the host's loopback as user networking shows it to the guest.
    let ask = format!("wget -q -O - http://10.0.2.2:{server_port}/");
    let answer = execute(host_port, &ask).unwrap();
    assert_eq!(answer["stdout"].as_str(), Some(FROM_THE_HOST), "{answer}");
}
