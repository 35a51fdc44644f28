//! Starts by a fork of a machine that waits: what forks have of their own, what they can do, what is
//! refused, and what follows. `QUICKSAND_FORKS=1000` is the gate of each new QEMU.

use super::{eventually, run, unix_seconds};
use duct::cmd;
use runtime_locator::Search;
use sandbox::{NetworkMode, Sandbox, SandboxConfigBuilder, Warm};
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) fn search(cache: &Path) -> Search {
    Search { cache_dir: Some(cache.to_owned()), ..vm_tests::search() }
}

/// A start that is to be a fork, as more are to follow.
async fn started(builder: SandboxConfigBuilder, cache: &Path) -> Sandbox {
    let config = builder.warm(Warm::Fork).build().unwrap();
    let sandbox = Sandbox::new(config).with_locator(search(cache)).one_of_many();
    if let Err(error) = sandbox.start().await {
        panic!("{error}\nhint: {:?}", error.hint());
    }
    sandbox
}

pub(crate) async fn forked(builder: SandboxConfigBuilder, cache: &Path) -> Sandbox {
    let sandbox = started(builder, cache).await;
    let timing = sandbox.boot_timing().unwrap();
    assert!(timing.forked, "{timing:?}");
    sandbox
}

/// A field of `/proc/PID/status`.
pub(crate) fn status(pid: u32, field: &str) -> String {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().to_owned()
}

/// Whether a process runs; one that has ended may wait for whoever takes note of it.
pub(crate) fn is_there(pid: u32) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

/// The process namespace of a machine: that of all machines of its kind, and of their copies.
pub(crate) fn namespace(pid: u32) -> PathBuf {
    fs_err::read_link(format!("/proc/{pid}/ns/pid")).unwrap()
}

pub(crate) fn processes_of(namespace: &Path) -> Vec<u32> {
    let all = fs_err::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_in = |pid: &u32| {
        let own = fs_err::read_link(format!("/proc/{pid}/ns/pid"));
        own.is_ok_and(|own| own == namespace) && is_there(*pid)
    };
    all.filter(is_in).collect()
}

fn n_forks() -> usize {
    std::env::var("QUICKSAND_FORKS").map_or(12, |n| n.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_share_nothing_that_tells_who_they_are() {
    let cache = tempfile::tempdir().unwrap();
    let mut seen: [HashSet<String>; 5] = Default::default();
    let mut sandboxes: Vec<Sandbox> = Vec::new();
    for number in 0..n_forks() {
        let begin = Instant::now();
        let sandbox = forked(vm_tests::minimal(), cache.path()).await;
        let script = "cat /proc/sys/kernel/random/uuid; cat /proc/sys/kernel/random/boot_id; \
                      cat /sys/class/net/eth0/address; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n'; \
                      echo; date +%s; grep -c boot_id /proc/mounts; \
                      cat /tmp/number /number 2>/dev/null; true";
        let before = unix_seconds();
        let output = run(&sandbox, script).await;
        let after = unix_seconds();
        eprintln!("{:?} until the first answer; {:?}", begin.elapsed(), sandbox.boot_timing());
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 6, "what another fork has written is there: {output}");
        assert_eq!(
            lines[5], "1",
            "one file covers the kernel's boot id, however often it was copied"
        );
        for (set, line) in seen.iter_mut().zip(&lines[..4]) {
            set.insert((*line).to_owned());
        }
        let guest: u64 = lines[4].parse().unwrap();
        assert!((before - 1..=after + 1).contains(&guest), "{before} {guest} {after}");
        seen[4].insert(sandbox.pid().unwrap().to_string());
        // Memory and disk are its own.
        run(&sandbox, &format!("echo {number} > /tmp/number; echo {number} > /number; sync")).await;
        sandboxes.push(sandbox);
        for (index, sandbox) in sandboxes.iter().enumerate() {
            let own = number + 1 - sandboxes.len() + index;
            let both = run(sandbox, "cat /tmp/number /number").await;
            assert_eq!(both, format!("{own}\n{own}"));
        }
        if sandboxes.len() > 4 {
            let sandbox = sandboxes.remove(0);
            let pid = sandbox.pid().unwrap();
            sandbox.stop().await.unwrap();
            // The kernel takes it away a moment after it has ended.
            eventually("the end", Duration::from_secs(20), async || !is_there(pid)).await;
        }
    }
    for set in &seen {
        assert_eq!(set.len(), n_forks(), "{set:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_does_what_a_machine_does() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("host.txt"), "from the host").unwrap();
    let workspace = tempfile::tempdir().unwrap();
    let builder = || {
        vm_tests::minimal()
            .cpus(2)
            .network_mode(NetworkMode::MountsOnly)
            .workspace(workspace.path())
    };
    let sandbox = forked(builder(), cache.path()).await;
    let mount = sandbox::Mount::new(folder.path(), "/mnt/host");
    let _mounted = sandbox.mount(mount).await.unwrap();
    assert_eq!(run(&sandbox, "cat /mnt/host/host.txt").await, "from the host");
    run(&sandbox, "echo guest > /mnt/host/guest.txt; echo kept > /kept").await;
    assert_eq!(fs_err::read_to_string(folder.path().join("guest.txt")).unwrap(), "guest\n");
    sandbox.checkpoint("one").await.unwrap();
    run(&sandbox, "echo lost > /kept; sync").await;
    sandbox.revert("one").await.unwrap();
    assert_eq!(run(&sandbox, "cat /kept").await, "kept");
    sandbox.save("of-a-fork", &sandbox::save::SaveOptions::default()).await.unwrap();
    // Both processors work, and time passes as it should.
    let begin = Instant::now();
    let both = "(while :; do :; done) & (while :; do :; done) & sleep 1; kill %1 %2; nproc";
    assert_eq!(run(&sandbox, both).await, "2");
    assert!(begin.elapsed() > Duration::from_millis(900), "{:?}", begin.elapsed());
    // Its siblings know nothing of all that.
    let other = forked(builder(), cache.path()).await;
    assert_eq!(run(&other, "ls /kept 2>/dev/null || echo none").await, "none");
    other.stop().await.unwrap();
    sandbox.stop().await.unwrap();
    let place = workspace.path().join("of-a-fork");
    let again = sandbox::SandboxConfig::builder(place.to_str().unwrap());
    let again = started(again.workspace(workspace.path()), cache.path()).await;
    assert_eq!(run(&again, "cat /kept").await, "kept");
    again.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_forks_at_once_all_answer_under_load() {
    let cache = tempfile::tempdir().unwrap();
    let first = forked(vm_tests::minimal(), cache.path()).await;
    let script = "for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/load bs=64k count=8 2>/dev/null; sync; done; \
                  md5sum /load | cut -c1-32";
    let starts: Vec<_> = (0..n_forks().min(100))
        .map(|_| {
            let cache = cache.path().to_owned();
            tokio::spawn(async move {
                let sandbox = forked(vm_tests::minimal(), &cache).await;
                (run(&sandbox, script).await, sandbox)
            })
        })
        .collect();
    let mut sums = HashSet::new();
    for start in starts {
        let (sum, sandbox) = start.await.unwrap();
        assert_eq!(sum.len(), 32);
        sums.insert(sum);
        sandbox.stop().await.unwrap();
    }
    assert_eq!(sums.len(), n_forks().min(100));
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_forked_is_copied_and_says_why() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The first start of a kind in a process, of which no more are known to follow: other tests start
    // other machines.
    let config = vm_tests::minimal().memory("144M").warm(Warm::Fork).build().unwrap();
    let sandbox = Sandbox::new(config).with_locator(search(cache.path()));
    sandbox.start().await.unwrap();
    let timing = sandbox.boot_timing().unwrap();
    assert!(timing.warm && !timing.forked, "{timing:?}");
    assert!(timing.unforked_reason.unwrap().contains("first start"));
    sandbox.stop().await.unwrap();
    // A share has a window of memory, which two machines would have in common.
    let mount = sandbox::Mount::new(folder.path(), "/mnt/host");
    let sandbox = started(vm_tests::minimal().mount(mount), cache.path()).await;
    let timing = sandbox.boot_timing().unwrap();
    assert!(!timing.forked, "{timing:?}");
    run(&sandbox, "echo fine > /mnt/host/fine").await;
    sandbox.stop().await.unwrap();
    // The end of what it was forked from is the end of a fork, and not of the next start. Nobody else
    // has machines of this size: all starts of one kind in this process fork the same machine.
    let alone = || vm_tests::minimal().memory("152M");
    let sandbox = forked(alone(), cache.path()).await;
    let pid = sandbox.pid().unwrap();
    let zygote: u32 = status(pid, "PPid:").parse().unwrap();
    assert_ne!(zygote, std::process::id());
    cmd!("kill", "-KILL", zygote.to_string()).run().unwrap();
    eventually("the end", Duration::from_secs(20), async || !is_there(pid)).await;
    eventually("its notice", Duration::from_secs(20), async || !sandbox.is_running()).await;
    let again = started(alone(), cache.path()).await;
    assert_eq!(run(&again, "echo fine").await, "fine");
    again.stop().await.unwrap();
    let again = forked(alone(), cache.path()).await;
    again.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_stays_behind_the_walls() {
    let cache = tempfile::tempdir().unwrap();
    let sandbox = forked(vm_tests::minimal(), cache.path()).await;
    let pid = sandbox.pid().unwrap();
    let zygote: u32 = status(pid, "PPid:").parse().unwrap();
    let own = std::process::id();
    for process in [pid, zygote] {
        assert_eq!(status(process, "Seccomp:"), "2");
        assert_eq!(status(process, "NoNewPrivs:"), "1");
        assert_eq!(u64::from_str_radix(&status(process, "CapEff:"), 16).unwrap(), 0);
        for space in ["pid", "net", "mnt", "user", "ipc"] {
            let of = |pid: u32| fs_err::read_link(format!("/proc/{pid}/ns/{space}")).unwrap();
            assert_ne!(of(process), of(own), "{space}");
        }
    }
    // The filters of a fork are those of what it was forked from.
    assert_eq!(status(pid, "Seccomp_filters:"), status(zygote, "Seccomp_filters:"));
    sandbox.stop().await.unwrap();
}

#[test]
fn a_killed_host_leaves_no_fork_and_nothing_to_fork_from() {
    vm_tests::search();
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (input, _keep_open) = std::io::pipe().unwrap();
    let forks = format!("forks:{}", cache.path().display());
    let reader = cmd!("env", "--default-signal", env!("CARGO_BIN_EXE_vm-host"), "minimal", forks)
        .env("TMPDIR", folder.path())
        .stdin_file(input)
        .unchecked()
        .reader()
        .unwrap();
    let host = reader.pids()[0];
    let mut lines = BufReader::new(&reader).lines();
    let mut pids: Vec<u32> =
        (0..4).map(|_| lines.next().unwrap().unwrap().parse().unwrap()).collect();
    pids.push(status(pids[0], "PPid:").parse().unwrap());
    assert_ne!(pids[4], host);
    // What all are forked from, three forks, a child, and the copy for the child's checkpoint.
    let all = processes_of(&namespace(pids[0]));
    assert_eq!(all.len(), 6, "{all:?} beside {pids:?}");
    pids.extend(all);
    assert!(fs_err::read_dir(folder.path()).unwrap().next().is_none(), "files have names");
    cmd!("kill", "-KILL", host.to_string()).run().unwrap();
    let start = Instant::now();
    while pids.iter().any(|pid| is_there(*pid)) {
        assert!(start.elapsed() < Duration::from_secs(2), "a machine outlives its host");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// QEMU by itself: what is not known to be fit for two processes is refused, and the machine goes on.
#[test]
fn what_is_not_known_is_refused_by_qemu() {
    let search = vm_tests::search();
    let qemu = runtime_locator::find_qemu(&search, search.host.arch).unwrap();
    let firmware = qemu.firmware_dir.clone().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = format!("file,id=log,path={}", folder.path().join("log").display());
    for (arguments, expect) in [
        // Its own monitor's descriptors were not passed.
        (vec![], "would be shared with the clone"),
        (vec!["-accel", "tcg,thread=single"], "a thread for each vCPU"),
        (vec!["-device", "virtio-vga"], "Devices of type 'virtio-vga'"),
        (vec!["-device", "usb-ehci"], "Devices of type"),
        (vec!["-netdev", "user,id=net0"], "of type 'user'"),
        (vec!["-chardev", &log], "type 'chardev-file'"),
        (vec!["-object", "memory-backend-memfd,id=m,size=1M"], "type 'memory-backend-memfd'"),
        (vec!["-blockdev", "null-co,node-name=n"], "driver 'null-co'"),
        (vec!["-vnc", "127.0.0.1:0,to=99"], "would be shared with the clone"),
    ] {
        let mut line =
            vec!["-nodefaults", "-S", "-machine", "q35,usb=off,sata=off,smbus=off,hpet=off"];
        line.extend(["-display", "none", "-m", "64M", "-qmp", "stdio", "-L"]);
        line.push(firmware.to_str().unwrap());
        line.extend(&arguments);
        let (input, mut commands) = std::io::pipe().unwrap();
        let reader = cmd(&qemu.system, line).stdin_file(input).unchecked().reader().unwrap();
        let mut answers = BufReader::new(&reader).lines();
        let mut ask = |command: &str| -> Value {
            writeln!(commands, "{command}").unwrap();
            loop {
                let line = answers.next().expect("QEMU has ended").unwrap();
                let answer: Value = serde_json::from_str(&line).unwrap();
                if answer.get("return").or(answer.get("error")).is_some() {
                    return answer;
                }
            }
        };
        ask("{\"execute\": \"qmp_capabilities\"}");
        ask("{\"execute\": \"cont\"}");
        let fork = "{\"execute\": \"x-fork-clone\", \"arguments\": {\"fds\": []}}";
        let reason = ask(fork)["error"]["desc"].as_str().unwrap_or_default().to_owned();
        assert!(reason.contains(expect), "{arguments:?}: {reason}");
        assert_eq!(ask("{\"execute\": \"query-status\"}")["return"]["running"], true);
        ask("{\"execute\": \"quit\"}");
    }
}
