//! The two control transports: what works on both, what listens, and where the token is.

use super::{execute, free_port, run};
use sandbox::{Forward, Transport};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Ports of this host on which a process listens.
fn listening_ports(pid: u32) -> BTreeSet<u16> {
    let inodes: BTreeSet<String> = fs_err::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| fs_err::read_link(entry.path()).ok())
        .filter_map(|link| {
            let link = link.to_string_lossy().into_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs_err::read_to_string(table).ok())
        .flat_map(|table| table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_ours = words[3] == "0A" && inodes.contains(words[9]);
            let port = words[1].rsplit_once(':')?.1;
            if is_ours { u16::from_str_radix(port, 16).ok() } else { None }
        })
        .collect()
}

async fn answer(port: u16, request: String) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut answer)).await;
    let n_read = read.unwrap_or_else(|_| panic!("no answer to {:?}", &request[..100])).unwrap();
    String::from_utf8_lossy(&answer[..n_read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_works_and_its_agent_asks_for_the_token() {
    // A forward to the agent's own port lets the test speak to it as any local process can.
    let port = free_port();
    let builder =
        vm_tests::minimal().transport(Transport::Tcp).port_forward(Forward::new(port, 8080));
    let sandbox = vm_tests::started(builder).await;
    assert!(run(&sandbox, "uname").await.starts_with("Linux"));
    let big = execute(&sandbox, "head -c 3000000 /dev/zero").await;
    assert_eq!(big.stdout.len(), 3_000_000);

    let line = run(&sandbox, "cat /proc/cmdline").await;
    let token = line.split("quicksand_token=").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(token.len(), 64);
    let pid = sandbox.pid().unwrap();
    let argv = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&argv).contains(token), "the token is in QEMU's arguments");
    assert!(!sandbox.qemu_command().unwrap().join(" ").contains(token));
    assert_eq!(listening_ports(pid).len(), 2, "the agent's and ours, and no QMP");

    let body = r#"{"command":"echo hi"}"#;
    let request = |token: &str, length: usize| {
        format!(
            "POST /execute HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let wrong = answer(port, request("wrong", body.len())).await;
    assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    let right = answer(port, request(token, body.len())).await;
    assert!(right.starts_with("HTTP/1.1 200"), "{right}");
    // More than the agent takes; it reads on and drops, so that the answer is not lost.
    let rest = " ".repeat((20 << 20) - body.len());
    let huge = answer(port, request(token, 20 << 20) + &rest).await;
    assert!(huge.starts_with("HTTP/1.1 413"), "{huge}");
    assert_eq!(run(&sandbox, "echo alive").await, "alive");
}

#[test]
fn socket_listens_nowhere_and_hides_its_token() {
    super::on_shared(async |sandbox| {
        assert_eq!(listening_ports(sandbox.pid().unwrap()), BTreeSet::new());
        let line = run(sandbox, "cat /proc/cmdline").await;
        assert!(!line.contains("token"), "{line}");
        let item = "/sys/firmware/qemu_fw_cfg/by_name/opt/quicksand/token/raw";
        let token = run(sandbox, &format!("cat {item}")).await;
        assert_eq!(token.len(), 64);
        let argv = fs_err::read(format!("/proc/{}/cmdline", sandbox.pid().unwrap())).unwrap();
        assert!(!String::from_utf8_lossy(&argv).contains(&token));
        let request = sandbox::ExecuteRequest::new(format!("cat {item}")).user("nobody");
        assert_ne!(sandbox.execute(request).await.unwrap().exit_code, 0);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_made_elsewhere_is_found_to_speak_tcp() {
    // The same image with a compressed initrd, as others make them: nothing in it tells of sockets.
    let search = vm_tests::search();
    let find = runtime_locator::find_image(&search, "minimal", None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place =
        |part: &str| folder.path().join(format!("elsewhere-1-{}.{part}", find.arch.image_name()));
    fs_err::copy(&find.kernel, place("kernel")).unwrap();
    fs_err::copy(&find.chain[0], place("qcow2")).unwrap();
    duct::cmd!("gzip", "-1", "-c", &find.initrd).stdout_path(place("initrd")).run().unwrap();
    let mut search = search;
    search.image_path.insert(0, folder.path().to_owned());
    let config = sandbox::SandboxConfig::builder("elsewhere").memory("192M").build().unwrap();
    let sandbox = sandbox::Sandbox::new(config).with_locator(search);
    sandbox.start().await.unwrap();
    assert!(run(&sandbox, "cat /proc/cmdline").await.contains("quicksand_port="));
    assert_eq!(run(&sandbox, "echo works").await, "works");
}
