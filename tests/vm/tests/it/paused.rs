//! A machine that is stopped and goes on while its disk works. Shows a fault of QEMU's virtio-blk that
//! one of our patches mends: without it the guest waits for ever after some hundred stops.

use super::run;
use sandbox::{ExecuteRequest, Sandbox};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Writes, syncs and reads back without an end.
const LOAD: &str = "(while true; do dd if=/dev/urandom of=/root/load bs=64k count=20; sync; \
                    md5sum /root/load; done) >/dev/null 2>&1 &";
/// How long it is tried, at most.
const TRIED: Duration = Duration::from_secs(150);
/// With how many stops.
const STOPS: usize = 3000;

/// A monitor beside the sandbox's own.
struct Monitor {
    socket: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Monitor {
    fn open(path: &std::path::Path) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let lines = BufReader::new(socket.try_clone().unwrap());
        let mut monitor = Self { socket, lines };
        monitor.execute("qmp_capabilities");
        monitor
    }

    /// Runs a command and waits for its answer.
    fn execute(&mut self, name: &str) {
        writeln!(self.socket, "{}", json!({ "execute": name })).unwrap();
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            let answer: Value = serde_json::from_str(&line).unwrap();
            assert!(answer.get("error").is_none(), "{name}: {answer}");
            if answer.get("return").is_some() {
                return;
            }
        }
    }
}

async fn sync(sandbox: &Sandbox) -> Result<(), String> {
    let request = ExecuteRequest::new("echo 1 > /root/mine && sync && cat /root/mine");
    let answer = sandbox.execute(request.timeout(Duration::from_secs(30))).await;
    match answer {
        Ok(answer) if answer.exit_code == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: a race is looked for"]
async fn a_disk_that_works_while_the_machine_is_stopped_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qmp");
    let monitor = format!("unix:{},server=on,wait=off", path.display());
    let config = vm_tests::minimal().extra_qemu_args(["-qmp".to_owned(), monitor]);
    let sandbox = vm_tests::started(config).await;
    let mut monitor = Monitor::open(&path);
    run(&sandbox, LOAD).await;
    let start = Instant::now();
    let mut n_stops = 0;
    while n_stops < STOPS && start.elapsed() < TRIED {
        let asked = sync(&sandbox);
        let stopped = async {
            for wait in [3, 17, 8, 1, 12] {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                monitor.execute("stop");
                monitor.execute("cont");
                n_stops += 1;
            }
        };
        let (answer, ()) = tokio::join!(asked, stopped);
        if let Err(error) = answer {
            panic!("The disk hangs after {n_stops} stops: {error}");
        }
    }
    println!("{n_stops} stops in {:?}", start.elapsed());
}
