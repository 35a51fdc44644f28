//! Ways out of each network mode, tried from inside the guest: the host's servers count who came.

use super::{held, run};
use sandbox::{ExecuteRequest, NetworkMode, Sandbox, Transport};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UdpSocket};

/// Servers of the host that nobody may reach.
struct Host {
    tcp: u16,
    udp: u16,
    n_visits: Arc<AtomicUsize>,
}

impl Host {
    async fn start() -> Self {
        let n_visits = Arc::new(AtomicUsize::new(0));
        let tcp = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let udp = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let host = Self {
            tcp: tcp.local_addr().unwrap().port(),
            udp: udp.local_addr().unwrap().port(),
            n_visits: Arc::clone(&n_visits),
        };
        let visits = Arc::clone(&n_visits);
        tokio::spawn(async move {
            while tcp.accept().await.is_ok() {
                visits.fetch_add(1, Ordering::SeqCst);
            }
        });
        tokio::spawn(async move {
            while udp.recv_from(&mut [0; 2048]).await.is_ok() {
                n_visits.fetch_add(1, Ordering::SeqCst);
            }
        });
        host
    }
}

/// Where the host can be from inside: its loopback, the addresses that stand for it, its own.
fn places() -> Vec<String> {
    let mut places: Vec<String> = [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.2.2",
        "10.0.2.3",
        "10.0.2.100",
        "10.0.2.101",
        "10.0.2.4",
        "10.0.2.255",
        "255.255.255.255",
        "169.254.169.254",
        "169.254.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "192.0.2.1",
    ]
    .map(str::to_owned)
    .into();
    // The address that leads out of this host; no packet is sent for that.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).is_ok() {
        places.push(socket.local_addr().unwrap().ip().to_string());
    }
    places
}

async fn attempt(sandbox: &Sandbox, command: &str) -> String {
    let request = ExecuteRequest::new(command).timeout(Duration::from_secs(60));
    let result = sandbox.execute(request).await.unwrap();
    result.stdout_lossy() + &result.stderr_lossy()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mode_leads_to_the_host() {
    let host = Host::start().await;
    // Networks that cover the host do not name it.
    let wide = &["0.0.0.0/0", "0.0.0.0/1", "10.0.2.2/16", "127.0.0.0/7", "*"][..];
    for (mode, transport, allow) in [
        (NetworkMode::None, Transport::Socket, None),
        (NetworkMode::None, Transport::Tcp, None),
        (NetworkMode::MountsOnly, Transport::Socket, None),
        (NetworkMode::MountsOnly, Transport::Tcp, None),
        (NetworkMode::Full, Transport::Socket, None),
        (NetworkMode::Full, Transport::Socket, Some(wide)),
        (NetworkMode::Full, Transport::Tcp, Some(wide)),
    ] {
        let mut builder = vm_tests::minimal().network_mode(mode).transport(transport);
        if let Some(allow) = allow {
            builder = builder.allow(allow.iter().copied());
        }
        let sandbox = vm_tests::started(builder).await;
        let shown = format!("{mode:?} over {transport:?} with {allow:?}");
        let before = host.n_visits.load(Ordering::SeqCst);
        // All at once: what waits for an answer that never comes waits together.
        let mut script = String::new();
        for place in places() {
            script += &format!("(echo hello | nc -w 2 {place} {}) &\n", host.tcp);
            script += &format!("(echo hello | nc -u -w 2 {place} {}) &\n", host.udp);
            script += &format!("nslookup example.org {place} &\n");
            script += &format!("ping -c 1 -W 2 {place} &\n");
            script += &format!("traceroute -n -q 1 -m 2 -w 1 -p {} {place} &\n", host.udp);
        }
        // IPv6, which nobody serves, and packets that are larger than the link takes.
        script += "ip link set eth0 up; echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6\n";
        script += "ip -6 addr add fec0::15/64 dev eth0; ip -6 route add default via fec0::2\n";
        script += &format!("(echo hello | nc -w 2 fec0::2 {}) &\n", host.tcp);
        script += &format!("(echo hello | nc -w 2 ::1 {}) &\n", host.tcp);
        script += "ping -c 1 -W 2 -s 60000 10.0.2.2 &\nping -c 1 -W 2 -s 3000 10.0.2.3 &\n";
        // Another sender's address, and a neighbour that there is not.
        script += "ip addr add 10.0.2.77/24 dev eth0\n";
        script += &format!("(echo hello | nc -s 10.0.2.77 -w 2 10.0.2.2 {}) &\n", host.tcp);
        script += "arping -c 1 -w 2 -I eth0 10.0.2.99 &\nudhcpc -n -q -t 2 -T 1 -i eth0 &\nwait\n";
        let began = Instant::now();
        attempt(&sandbox, &script).await;
        let n_visits = host.n_visits.load(Ordering::SeqCst) - before;
        let n_attempts = places().len() * 5 + 9;
        held(&format!("{shown}: {n_attempts} ways to the host"), n_visits == 0, n_visits);
        held(
            &format!("{shown}: they end"),
            began.elapsed() < Duration::from_secs(60),
            began.elapsed(),
        );
        held(
            &format!("{shown}: the machine answers"),
            run(&sandbox, "echo alive").await == "alive",
            (),
        );
        sandbox.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_floods_its_link_harms_itself_alone() {
    let quiet = vm_tests::started(vm_tests::minimal().network_mode(NetworkMode::Full)).await;
    let loud = vm_tests::started(vm_tests::minimal().network_mode(NetworkMode::Full)).await;
    let before = descriptors();
    let flood = "for i in $(seq 300); do nc -w 1 192.0.2.$((i % 250)) $((1000 + i)) </dev/null & done \
                 2>/dev/null; for i in $(seq 100); do nslookup x$i.invalid 10.0.2.3 >/dev/null 2>&1 & done; \
                 ping -f -c 500 10.0.2.2 >/dev/null 2>&1; wait";
    let request = ExecuteRequest::new(flood).timeout(Duration::from_secs(20));
    let flooding = loud.execute(request);
    let answering = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(run(&quiet, "echo still").await, "still");
            slowest = slowest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        slowest
    };
    let (flooded, slowest) = tokio::join!(flooding, answering);
    held(
        "a flood of connections and questions: the neighbour answers",
        slowest < Duration::from_secs(20),
        slowest,
    );
    held("the flooding guest gets its result", flooded.is_ok(), &flooded);
    loud.stop().await.unwrap();
    quiet.stop().await.unwrap();
    // Tasks that end with a machine close their sockets a moment after it.
    let began = Instant::now();
    while descriptors() > before && began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    held("no descriptor stays", descriptors() <= before, (before, descriptors()));
}

fn descriptors() -> usize {
    fs_err::read_dir("/proc/self/fd").unwrap().count()
}
