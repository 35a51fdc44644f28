//! The guest's network against a world of the test's own: two network namespaces joined by a link,
//! in which names and addresses stand that no real network has, a cloud's metadata among them.
//!
//! The test runs itself again in those namespaces: once as the world, once as the host of machines.

use super::{execute, run};
use duct::cmd;
use sandbox::{Forward, NetworkMode, Sandbox};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Which part a run of this program plays.
const ROLE: &str = "QUICKSAND_TEST_ROLE";
const METADATA: &str = "169.254.169.254";
const HOSTS: &str = "127.0.0.1 localhost\n192.0.2.2 named.test\n192.0.2.3 a.sub.test other.test\n\
    169.254.169.254 cloud.test\n192.0.2.1 own.test\n10.9.9.9 private.test\n";

/// The host is 192.0.2.1; the world behind the link is everything else.
const SCRIPT: &str = r#"set -e
program=$1; hosts=$2
ip link set lo up
ip link add host0 type veth peer name world0
unshare -n env QUICKSAND_TEST_ROLE=world "$program" --exact world::the_world --nocapture &
world=$!
trap 'kill $world' EXIT
until [ "$(readlink /proc/$world/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set world0 netns $world
nsenter -t $world -n sh -ec 'ip link set lo up; ip link set world0 up
    for address in 192.0.2.2/24 192.0.2.3/24 10.9.9.9/32 169.254.169.254/32; do ip address add $address dev world0; done'
ip address add 192.0.2.1/24 dev host0
ip link set host0 up
ip route add 169.254.169.254 dev host0
ip route add 10.9.9.9 dev host0
mount --bind "$hosts" /etc/hosts
QUICKSAND_TEST_ROLE=host "$program" --exact world::the_host --nocapture
"#;

#[test]
fn names_and_addresses_are_reached_as_the_mode_and_the_list_say() {
    let mut hosts = tempfile::NamedTempFile::new().unwrap();
    hosts.write_all(HOSTS.as_bytes()).unwrap();
    let program = std::env::current_exe().unwrap();
    let output = cmd!("unshare", "-rnm", "sh", "-c", SCRIPT, "sh", program, hosts.path())
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked()
        .run()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("all of the host's part was played"), "{text}");
}

/// Not a test by itself: it answers on every address of its namespace until it is killed.
#[test]
fn the_world() {
    if std::env::var(ROLE).as_deref() != Ok("world") {
        return;
    }
    let serve = |port: u16| {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        while let Ok((mut stream, _)) = listener.accept() {
            let address = stream.local_addr().unwrap();
            // A client that leaves early is the client's matter.
            let _ = writeln!(stream, "reached {address}");
        }
    };
    std::thread::spawn(move || serve(8001));
    serve(8000);
}

/// What the guest gets from a name or an address.
async fn get(sandbox: &Sandbox, to: &str, port: u16) -> String {
    let command = format!("nc -w 5 {to} {port} </dev/null 2>/dev/null");
    execute(sandbox, &command).await.stdout_lossy().trim().to_owned()
}

/// Checks what the guest reaches: targets with the address that answers, or none.
async fn check(sandbox: &Sandbox, table: &[(&str, u16, Option<&str>)]) {
    for (to, port, expect) in table {
        let expect = expect.map(|address| format!("reached {address}:{port}")).unwrap_or_default();
        assert_eq!(get(sandbox, to, *port).await, expect, "{to}:{port}");
    }
}

/// Not a test by itself: the host, with everything in reach.
#[tokio::test(flavor = "multi_thread")]
async fn the_host() {
    if std::env::var(ROLE).as_deref() != Ok("host") {
        return;
    }
    let own = TcpListener::bind("0.0.0.0:8000").unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = own.accept() {
            let _ = writeln!(stream, "the host itself");
        }
    });
    // The host reaches all of it, so that nothing but us keeps the guest from it.
    for address in ["192.0.2.2", "192.0.2.3", METADATA, "192.0.2.1"] {
        let address = format!("{address}:8000").parse().unwrap();
        TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    }

    let (n2, n3) = (Some("192.0.2.2"), Some("192.0.2.3"));
    let full = vm_tests::started(vm_tests::minimal().network_mode(NetworkMode::Full)).await;
    check(
        &full,
        &[
            ("192.0.2.2", 8000, n2),
            ("named.test", 8000, n2),
            ("other.test", 8001, n3),
            ("private.test", 8000, Some("10.9.9.9")),
            // The host, by each of its addresses and names, and the cloud's secrets.
            ("192.0.2.1", 8000, None),
            ("own.test", 8000, None),
            ("10.0.2.2", 8000, None),
            (METADATA, 8000, None),
            ("cloud.test", 8000, None),
        ],
    )
    .await;

    // A list that comes while it runs: names, names below one, ports.
    let list = |entries: &[&str]| Some(entries.iter().map(|entry| (*entry).to_owned()).collect());
    full.set_allow(list(&["named.test", "*.sub.test:8000"])).await.unwrap();
    check(
        &full,
        &[
            ("192.0.2.3", 8000, None),
            ("named.test", 8000, n2),
            ("named.test", 8001, n2),
            ("a.sub.test", 8001, None),
            ("a.sub.test", 8000, n3),
            ("other.test", 8000, None),
            (METADATA, 8000, None),
        ],
    )
    .await;
    full.set_allow(list(&[METADATA, "192.0.2.2/31:8001"])).await.unwrap();
    check(
        &full,
        &[
            (METADATA, 8000, Some(METADATA)),
            ("192.0.2.2", 8000, None),
            ("192.0.2.2", 8001, n2),
            ("named.test", 8001, None),
        ],
    )
    .await;
    // A name in the list that its owner points at a private network opens nothing, unless the list has
    // the address as well.
    full.set_allow(list(&["private.test"])).await.unwrap();
    check(&full, &[("private.test", 8000, None), ("10.9.9.9", 8000, None)]).await;
    assert_ne!(execute(&full, "nslookup private.test").await.exit_code, 0);
    full.set_allow(list(&["private.test", "10.9.0.0/16"])).await.unwrap();
    check(&full, &[("private.test", 8000, Some("10.9.9.9"))]).await;
    // The largest networks open the world, and neither the host nor the cloud's secrets.
    for everything in [&["0.0.0.0/0"][..], &["0.0.0.0/1", "128.0.0.0/1"], &["*"]] {
        full.set_allow(list(everything)).await.unwrap();
        check(
            &full,
            &[
                ("192.0.2.2", 8000, n2),
                ("192.0.2.1", 8000, None),
                ("10.0.2.2", 8000, None),
                (METADATA, 8000, None),
            ],
        )
        .await;
    }
    full.set_allow(list(&["10.0.2.2/16"])).await.unwrap();
    check(&full, &[("10.0.2.2", 8000, None), ("192.0.2.2", 8000, None)]).await;
    full.set_allow(list(&["0.0.0.0/0", "10.0.2.2"])).await.unwrap();
    assert_eq!(get(&full, "10.0.2.2", 8000).await, "the host itself");
    full.stop().await.unwrap();

    // The same list from the start, with the other transport.
    let listed = vm_tests::minimal()
        .network_mode(NetworkMode::Full)
        .transport(sandbox::Transport::Tcp)
        .allow(["named.test"]);
    let listed = vm_tests::started(listed).await;
    check(&listed, &[("named.test", 8000, n2), ("192.0.2.3", 8000, None), (METADATA, 8000, None)])
        .await;
    listed.stop().await.unwrap();

    // Without the world: nothing answers, and no name is known.
    let closed = vm_tests::started(vm_tests::minimal()).await;
    for to in ["192.0.2.2", "192.0.2.1", "named.test", "own.test", "10.0.2.2", METADATA] {
        check(&closed, &[(to, 8000, None)]).await;
    }
    assert_ne!(execute(&closed, "nslookup named.test").await.exit_code, 0);
    // One port of the host, and the way into the guest, for those who ask for them.
    closed.add_forward(Forward::to_host(1234, 8000)).await.unwrap();
    assert_eq!(get(&closed, "10.0.2.101", 1234).await, "the host itself");
    check(&closed, &[("10.0.2.2", 8000, None), ("10.0.2.101", 8000, None)]).await;
    closed.add_forward(Forward::new(8080, 7777)).await.unwrap();
    run(&closed, "(echo from the guest | nc -l -p 7777) >/dev/null 2>&1 &").await;
    super::eventually("the guest's server", Duration::from_secs(10), async || {
        let mut received = String::new();
        let stream = TcpStream::connect("127.0.0.1:8080").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = std::io::Read::read_to_string(&mut &stream, &mut received);
        received == "from the guest\n"
    })
    .await;
    println!("all of the host's part was played");
}
