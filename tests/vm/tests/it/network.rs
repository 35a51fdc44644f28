//! Network modes and forwards, proved from inside the guest against servers of the test's own.

use super::{execute, free_port, on_shared, run};
use sandbox::{Error, ErrorKind, Forward, NetworkMode};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves one line to everyone on the host's loopback.
async fn serve(line: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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
async fn full_reaches_the_host_and_forwards_lead_in() {
    let port = free_port();
    let builder =
        vm_tests::minimal().network_mode(NetworkMode::Full).port_forward(Forward::new(port, 7777));
    let sandbox = vm_tests::started(builder).await;
    let served = serve("reached").await;
    let answer = run(&sandbox, &format!("nc -w 10 10.0.2.2 {served} </dev/null")).await;
    assert_eq!(answer, "reached");

    run(&sandbox, "(echo from the guest | nc -l -p 7777) >/dev/null 2>&1 &").await;
    let mut received = String::new();
    let start = Instant::now();
    // The guest's listener may be a moment late.
    while received.is_empty() && start.elapsed() < Duration::from_secs(10) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let read = stream.read_to_string(&mut received);
        let _ = tokio::time::timeout(Duration::from_secs(3), read).await;
    }
    assert_eq!(received, "from the guest\n");
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
