//! Network modes and forwards, proved from inside the guest against servers of the test's own.

use super::{execute, free_port, on_shared, run};
use sandbox::{Error, ErrorKind, Forward, NetworkMode, Sandbox, Transport};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves one line to everyone on the host's loopback.
async fn serve(line: &'static str) -> u16 {
    serve_on("127.0.0.1:0", line).await
}

async fn serve_on(address: &str, line: &'static str) -> u16 {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // A client that leaves early is the client's matter.
            let _ = stream.write_all(line.as_bytes()).await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn none_has_no_network_device() {
    let sandbox = vm_tests::started(vm_tests::minimal().network_mode(NetworkMode::None)).await;
    assert_eq!(run(&sandbox, "ls /sys/class/net").await, "lo");
    assert_eq!(run(&sandbox, "cat /proc/net/route | wc -l").await, "1", "a header and no route");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_nothing_is_seldom_woken() {
    let sandbox = vm_tests::started(vm_tests::minimal().network_mode(NetworkMode::None)).await;
    let ticks = "awk '/timer|LOC:/ { n += $2 } END { print n }' /proc/interrupts";
    // What the boot left to do comes first.
    super::eventually("an idle guest", Duration::from_secs(60), async || {
        let before: u64 = run(&sandbox, ticks).await.parse().unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after: u64 = run(&sandbox, ticks).await.parse().unwrap();
        // A timer that cannot count further than 27 ms would have ticked 110 times.
        after - before < 60
    })
    .await;
}

#[test]
fn mounts_only_reaches_nothing() {
    on_shared(async |sandbox| {
        let port = serve("reached").await;
        assert!(run(sandbox, "ls /sys/class/net").await.contains("eth0"));
        let result = execute(sandbox, &format!("nc -w 3 10.0.2.2 {port} </dev/null")).await;
        assert!(!result.stdout_lossy().contains("reached"), "{result:?}");
        let result = execute(sandbox, "nslookup example.com 10.0.2.3").await;
        assert_ne!(result.exit_code, 0, "{result:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_lead_in() {
    let port = free_port();
    let builder =
        vm_tests::minimal().network_mode(NetworkMode::Full).port_forward(Forward::new(port, 7777));
    let sandbox = vm_tests::started(builder).await;

    let serve = "(while :; do echo from the guest | nc -l -p 7777; done) >/dev/null 2>&1 &";
    run(&sandbox, serve).await;
    let mut received = String::new();
    let start = Instant::now();
    // The guest's listener may be late, and is between two connections for a moment.
    while received.is_empty() && start.elapsed() < Duration::from_secs(60) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let read = stream.read_to_string(&mut received);
        let _ = tokio::time::timeout(Duration::from_secs(20), read).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(received, "from the guest\n");
}

/// What the guest gets from an address within a few seconds.
async fn get(sandbox: &Sandbox, address: &str, port: u16) -> String {
    let command = format!("nc -w 5 {address} {port} </dev/null 2>&1");
    execute(sandbox, &command).await.stdout_lossy().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn full_closes_the_host_until_it_is_asked_for() {
    let served = serve("reached").await;
    let everywhere = serve_on("0.0.0.0:0", "reached").await;
    let builder = vm_tests::minimal()
        .network_mode(NetworkMode::Full)
        .port_forward(Forward::to_host(1234, served));
    let sandbox = vm_tests::started(builder).await;
    for address in ["10.0.2.2", "127.0.0.1", "169.254.169.254", "10.0.2.101", "10.0.2.3"] {
        let started = Instant::now();
        assert!(!get(&sandbox, address, served).await.contains("reached"), "{address}");
        assert!(started.elapsed() < Duration::from_secs(10), "{address}");
    }
    // The host's own address on whatever network it has is the host too.
    for address in own_addresses() {
        assert!(!get(&sandbox, &address, everywhere).await.contains("reached"), "{address}");
    }
    // A forward leads to one port of the host.
    assert_eq!(get(&sandbox, "10.0.2.101", 1234).await, "reached");

    // The list opens what it names, from now on.
    let allow = vec![format!("10.0.2.2:{served}"), "named.test".to_owned()];
    sandbox.set_allow(Some(allow)).await.unwrap();
    assert_eq!(get(&sandbox, "10.0.2.2", served).await, "reached");
    assert!(!get(&sandbox, "10.0.2.2", everywhere).await.contains("reached"));
    assert_ne!(execute(&sandbox, "nslookup other.test 10.0.2.3").await.exit_code, 0);
    sandbox.set_allow(None).await.unwrap();
    assert!(!get(&sandbox, "10.0.2.2", served).await.contains("reached"));
    assert!(sandbox.set_allow(Some(vec!["not a name".into()])).await.is_err());

    // Ports come and go while it runs.
    let forward = Forward::to_host(80, served);
    sandbox.add_forward(forward.clone()).await.unwrap();
    assert_eq!(get(&sandbox, "10.0.2.101", 80).await, "reached");
    assert!(sandbox.add_forward(forward.clone()).await.is_err());
    sandbox.remove_forward(&forward).await.unwrap();
    assert!(!get(&sandbox, "10.0.2.101", 80).await.contains("reached"));
    let inwards = Forward::new(free_port(), 7777);
    sandbox.add_forward(inwards.clone()).await.unwrap();
    run(&sandbox, "(while :; do echo inside | nc -l -p 7777; done) >/dev/null 2>&1 &").await;
    super::eventually("the forward", Duration::from_secs(10), async || {
        let mut received = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", inwards.host_port)).await.unwrap();
        let read = stream.read_to_string(&mut received);
        let _ = tokio::time::timeout(Duration::from_secs(2), read).await;
        received == "inside\n"
    })
    .await;
    sandbox.remove_forward(&inwards).await.unwrap();
    super::eventually("the port's end", Duration::from_secs(20), async || {
        TcpStream::connect(("127.0.0.1", inwards.host_port)).await.is_err()
    })
    .await;
    assert_eq!(sandbox.forwards().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn qemus_own_network_takes_forwards_while_it_runs() {
    let sandbox = vm_tests::started(vm_tests::minimal().transport(Transport::Tcp)).await;
    let forward = Forward::new(free_port(), 80);
    sandbox.add_forward(forward.clone()).await.unwrap();
    TcpStream::connect(("127.0.0.1", forward.host_port)).await.unwrap();
    sandbox.remove_forward(&forward).await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", forward.host_port)).await.is_err());
}

/// The host's own IPv4 addresses but for loopback.
fn own_addresses() -> Vec<String> {
    let table = fs_err::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut last = "";
    let mut addresses = Vec::new();
    for line in table.lines() {
        if let Some(address) = line.trim().strip_prefix("|-- ") {
            last = address;
        } else if line.contains("/32 host LOCAL") && !last.starts_with("127.") {
            addresses.push(last.to_owned());
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = vm_tests::sandbox(vm_tests::minimal().port_forward(Forward::new(port, 80)));
    let error = sandbox.start().await.unwrap_err();
    assert!(matches!(error, Error::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains(&port.to_string()) && error.hint().is_some());
    assert_eq!(error.kind(), ErrorKind::Runtime);
    drop(listener);
    sandbox.start().await.unwrap();
}
