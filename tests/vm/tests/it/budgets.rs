//! A guest that asks for more than its budget: it is refused, and nobody else notices.

use super::{execute, run};
use sandbox::{Error, ExecuteRequest, Forward, Limits, Mount, NetworkMode, Sandbox};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Descriptors of this process.
fn n_descriptors() -> usize {
    fs_err::read_dir("/proc/self/fd").unwrap().count()
}

/// Memory of this process in MiB.
fn memory_mib() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// How long the slowest and the middle of some calls take.
async fn times(sandbox: &Sandbox) -> (Duration, Duration) {
    let mut times = Vec::new();
    for _ in 0..100 {
        let begin = Instant::now();
        run(sandbox, "true").await;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    (times[98], times[50])
}

/// A server that keeps every connection and reads nothing.
async fn greedy_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
            // The server's own descriptors are not the guest's.
            if kept.len() > 64 {
                kept.remove(0);
            }
        }
    });
    port
}

const FLOOD: &str = "
    cd /mnt/s && i=0; while [ $i -lt 600 ]; do echo > f$i; i=$((i+1)); done; cd /
    i=0; while [ $i -lt 12 ]; do
        (j=0; a=; while [ $j -lt 50 ]; do a=\"$a /mnt/s/f$((i*50+j))\"; j=$((j+1)); done
         exec tail -f $a) >/dev/null 2>&1 & i=$((i+1)); done
    i=0; while [ $i -lt 300 ]; do (nc 10.0.2.101 1234 </dev/zero >/dev/null 2>&1; sleep 1) & i=$((i+1)); done
    (while :; do echo x | nc -u -w 1 192.0.2.$((RANDOM % 250 + 1)) 9 & sleep 0.05; done) >/dev/null 2>&1 &
    (while :; do nslookup a$RANDOM.test 10.0.2.3; done) >/dev/null 2>&1 &
    (while :; do echo 0123456789012345678901234567890123456789; done) >/dev/console 2>&1 &
    (while :; do find /mnt/s; done) >/dev/null 2>&1 &
    sleep 600
";

#[tokio::test(flavor = "multi_thread")]
async fn a_flooding_guest_harms_itself() {
    let port = greedy_server().await;
    let folder = tempfile::tempdir().unwrap();
    let flooding = vm_tests::minimal()
        .memory("256M")
        .network_mode(NetworkMode::Full)
        .allow(["192.0.2.0/24"])
        .port_forward(Forward::to_host(1234, port))
        .mount(Mount::new(folder.path(), "/mnt/s"));
    let flooding = vm_tests::started(flooding).await;
    let other = vm_tests::started(vm_tests::minimal()).await;

    // A guest that only uses up its processor is what it may do anyway.
    let busy = tokio::spawn(async move {
        let spin = ExecuteRequest::new("while :; do :; done").timeout(Duration::from_secs(600));
        let _ = tokio::time::timeout(Duration::from_secs(15), flooding.execute(spin)).await;
        flooding
    });
    let before = times(&other).await;
    let flooding = busy.await.unwrap();
    let (n_before, memory_before) = (n_descriptors(), memory_mib());

    let flood = async {
        let request = ExecuteRequest::new(FLOOD).timeout(Duration::from_secs(600));
        let _ = flooding.execute(request).await;
    };
    let watch = async {
        super::eventually("the flood", Duration::from_secs(120), async || {
            n_descriptors() > n_before + 100
        })
        .await;
        let during = times(&other).await;
        // The folder of the share, the server's own connections and a start beside it are not the
        // guest's.
        let (n_most, memory_most) = (n_descriptors(), memory_mib());
        let begin = Instant::now();
        let third = vm_tests::started(vm_tests::minimal()).await;
        run(&third, "true").await;
        third.stop().await.unwrap();
        eprintln!(
            "before: p99 {:?}, median {:?}; beside the flood: p99 {:?}, median {:?}; \
             descriptors {n_before} to {n_most}; memory {memory_before} to {memory_most} MiB; \
             a third machine lived {:?}",
            before.0,
            before.1,
            during.0,
            during.1,
            begin.elapsed()
        );
        assert!(n_most <= n_before + 256 + 80, "{n_before} {n_most}");
        assert!(memory_most <= memory_before + 64 + 32, "{memory_before} {memory_most}");
        assert!(during.0 <= before.0 * 2 + Duration::from_millis(50), "{before:?} {during:?}");
    };
    tokio::select! {
        () = flood => panic!("the flood ended"),
        () = watch => {}
    }
    let begin = Instant::now();
    flooding.stop().await.unwrap();
    other.stop().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    super::eventually("the descriptors' return", Duration::from_secs(20), async || {
        n_descriptors() <= n_before + 70
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_over_its_limit_stands_still_until_there_is_room() {
    let limits = Limits::default().with_disk(96 << 20).with_checkpoints(1);
    let builder = vm_tests::minimal().limits(&limits);
    let sandbox = vm_tests::started(builder).await;
    sandbox.checkpoint("one").await.unwrap();
    let error = sandbox.checkpoint("two").await.unwrap_err();
    assert!(error.to_string().contains("limit"), "{error}");
    // One of the same name takes the other's place.
    sandbox.checkpoint("one").await.unwrap();
    let fill = "dd if=/dev/urandom of=/root/fill bs=1M count=200; sync; sleep 5";
    let error = sandbox.execute(ExecuteRequest::new(fill)).await.unwrap_err();
    assert!(matches!(error, Error::DiskLimit { .. }), "{error}");
    assert!(error.hint().is_some());
    let error = sandbox.execute(ExecuteRequest::new("true")).await.unwrap_err();
    assert!(matches!(error, Error::DiskLimit { .. }), "{error}");
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_free_port_is_named() {
    let builder = vm_tests::minimal().port_forward(Forward::new(0, 7777));
    let sandbox = vm_tests::started(builder).await;
    let at_start = sandbox.forwards().await[0].clone();
    let later = sandbox.add_forward(Forward::new(0, 7778)).await.unwrap();
    assert_eq!(sandbox.forwards().await, [at_start.clone(), later.clone()]);
    run(&sandbox, "(echo one | nc -l -p 7777; echo two | nc -l -p 7778) >/dev/null 2>&1 &").await;
    for (forward, expect) in [(&at_start, "one\n"), (&later, "two\n")] {
        assert_ne!(forward.host_port, 0);
        super::eventually("the guest's words", Duration::from_secs(20), async || {
            use tokio::io::AsyncReadExt as _;
            let to = ("127.0.0.1", forward.host_port);
            let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
            let mut said = String::new();
            let reading = stream.read_to_string(&mut said);
            let _ = tokio::time::timeout(Duration::from_secs(3), reading).await;
            said == expect
        })
        .await;
        sandbox.remove_forward(forward).await.unwrap();
    }

    // A service on the guest's own loopback is not reached: the client's connection is reset.
    let forward = sandbox.add_forward(Forward::new(0, 7779)).await.unwrap();
    run(&sandbox, "(nc -l -s 127.0.0.1 -p 7779) >/dev/null 2>&1 &").await;
    let mut stream =
        tokio::net::TcpStream::connect(("127.0.0.1", forward.host_port)).await.unwrap();
    use tokio::io::AsyncReadExt as _;
    let mut buffer = [0; 16];
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer));
    let error = reading.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    assert_ne!(execute(&sandbox, "false").await.exit_code, 0);
}
