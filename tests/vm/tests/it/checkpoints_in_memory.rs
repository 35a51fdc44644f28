//! Checkpoints of machines that are forks themselves: a copy of QEMU's process stands still, and a revert
//! forks it.

use super::forks::{forked, is_there, namespace, processes_of};
use super::{assert_clock_is_of_now, eventually, run, set_clock_back};
use sandbox::{Error, ExecuteRequest, Forward, Mount, NetworkMode, Sandbox, save::SaveOptions};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many machines and copies of machines there are in it: all but the first process, which waits.
fn machines_of(namespace: &Path) -> usize {
    processes_of(namespace).len() - 1
}

async fn copies_are_gone(namespace: &Path) {
    let is_alone = async || machines_of(namespace) == 0;
    eventually("the end of the copies", Duration::from_secs(20), is_alone).await;
}

async fn tags(sandbox: &Sandbox) -> Vec<String> {
    let all = sandbox.checkpoints().await.unwrap();
    all.into_iter().map(|checkpoint| checkpoint.tag).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_forks_the_copy_and_the_machine_is_the_same() {
    let cache = tempfile::tempdir().unwrap();
    // Machines of a kind of their own: their processes are counted.
    let sandbox = Arc::new(forked(vm_tests::minimal().memory("176M"), cache.path()).await);
    let namespace = namespace(sandbox.pid().unwrap());
    run(
        &sandbox,
        "echo before > /state; dd if=/dev/urandom of=/dev/shm-ram bs=1M count=8 2>/dev/null; \
         sha256sum /dev/shm-ram > /dev/shm-sum; \
         (exec 9>/gone; rm /gone; n=0; while :; do n=$((n+1)); echo $n > /dev/shm-next; \
          mv /dev/shm-next /dev/shm-count; sleep 0.05; done) >/dev/null 2>&1 & echo $! > /counter",
    )
    .await;
    let who = "cat /proc/sys/kernel/random/boot_id /sys/class/net/eth0/address; hostname";
    let identity = run(&sandbox, who).await;
    // What makes secrets again in another machine.
    let renewal = "mkdir -p /usr/lib/quicksand && cd /usr/lib/quicksand && \
                   printf '#!/bin/sh\necho ran >> /renewed\n' > new-identity && chmod 755 new-identity";
    run(&sandbox, renewal).await;
    let waiting = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        async move { sandbox.execute(ExecuteRequest::new("echo in flight; sleep 1000")).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(machines_of(&namespace), 1);
    set_clock_back(&sandbox).await;
    let begin = Instant::now();
    let made = sandbox.checkpoint("one").await.unwrap();
    let taken = begin.elapsed();
    assert!(made.state_bytes > 1 << 20, "{made:?}");
    assert_eq!(machines_of(&namespace), 2);
    assert_clock_is_of_now(&sandbox).await;
    run(&sandbox, "echo after > /state; rm /dev/shm-ram; kill -9 $(cat /counter)").await;
    let mut random = std::collections::HashSet::new();
    for round in 0..3 {
        let old = sandbox.pid().unwrap();
        let begin = Instant::now();
        sandbox.revert("one").await.unwrap();
        eprintln!("checkpoint {taken:?}, revert {:?}", begin.elapsed());
        assert_ne!(sandbox.pid().unwrap(), old);
        eventually("the old end", Duration::from_secs(20), async || !is_there(old)).await;
        assert_eq!(machines_of(&namespace), 2, "round {round}");
        let check = "cat /state; sha256sum -c /dev/shm-sum >/dev/null && echo whole";
        assert_eq!(run(&sandbox, check).await, "before\nwhole", "round {round}");
        let count = async || run(&sandbox, "cat /dev/shm-count").await.parse::<u64>().unwrap();
        let now = count().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(count().await > now, "the process that came back does not go on");
        let held = "ls -l /proc/[0-9]*/fd/9 2>/dev/null | grep -q 'gone (deleted)' && echo held";
        assert_eq!(run(&sandbox, held).await, "held");
        assert_clock_is_of_now(&sandbox).await;
        // The same machine, and never the same random numbers.
        assert_eq!(run(&sandbox, who).await, identity);
        assert_eq!(run(&sandbox, "ls /renewed 2>/dev/null || echo none").await, "none");
        random.insert(run(&sandbox, "head -c 16 /dev/urandom | od -An -tx1").await);
        run(&sandbox, "echo after > /state").await;
    }
    assert_eq!(random.len(), 3);
    let outcome = waiting.await.unwrap();
    assert!(matches!(outcome, Err(Error::Reverted { action: "execute" })), "{outcome:?}");
    assert_eq!(run(&sandbox, "ps | grep -c '[s]leep 1000' || true").await, "0");
    assert!(sandbox.boot_timing().unwrap().forked);

    // Calls under way during a revert end at once; the next ones work.
    let sandbox_too = Arc::clone(&sandbox);
    let (call, reverted) = tokio::join!(
        sandbox.execute(ExecuteRequest::new("while :; do echo yes; done")),
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sandbox_too.revert("one").await
        }
    );
    assert!(matches!(call, Err(Error::Reverted { .. })), "{call:?}");
    reverted.unwrap();

    // The same name again, unknown ones, several, and the end of all.
    run(&sandbox, "echo middle > /state").await;
    sandbox.checkpoint("two").await.unwrap();
    run(&sandbox, "echo late > /state").await;
    sandbox.checkpoint("two").await.unwrap();
    sandbox.revert("one").await.unwrap();
    assert_eq!(run(&sandbox, "cat /state").await, "before");
    sandbox.revert("two").await.unwrap();
    assert_eq!(run(&sandbox, "cat /state").await, "late");
    assert_eq!(tags(&sandbox).await, ["one", "two"]);
    assert!(matches!(sandbox.revert("three").await, Err(Error::UnknownCheckpoint { .. })));
    assert_eq!(machines_of(&namespace), 3);
    sandbox.delete_checkpoint("one").await.unwrap();
    assert!(sandbox.revert("one").await.is_err());
    assert_eq!(machines_of(&namespace), 2);
    // It is forked with a checkpoint, which its child does not have.
    let child = sandbox.fork(NonZeroUsize::MIN).await.unwrap().remove(0);
    assert!(child.boot_timing().unwrap().forked);
    assert!(tags(&child).await.is_empty());
    assert_ne!(run(&child, who).await, identity);
    assert_eq!(run(&child, "cat /renewed").await, "ran");
    child.stop().await.unwrap();
    sandbox.stop().await.unwrap();
    assert!(sandbox.checkpoint("late").await.is_err());
    copies_are_gone(&namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_rules_and_the_disk_are_there_after_a_revert() {
    let cache = tempfile::tempdir().unwrap();
    let workspace = tempfile::tempdir().unwrap();
    let builder = vm_tests::minimal()
        .workspace(workspace.path())
        .network_mode(NetworkMode::MountsOnly)
        .port_forward(Forward::new(0, 80));
    let sandbox = forked(builder, cache.path()).await;
    // More than is copied while it stands still.
    let much = "dd if=/dev/urandom of=/much bs=1M count=6 2>/dev/null; sync; md5sum < /much";
    let sum = run(&sandbox, much).await;
    run(&sandbox, "(while :; do echo here | nc -l -p 80; done) >/dev/null 2>&1 &").await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"of the host").await;
        }
    });
    sandbox.checkpoint("one").await.unwrap();
    // A port that came after it is the host's affair, and stays.
    sandbox.add_forward(Forward::to_host(7000, port)).await.unwrap();
    run(&sandbox, "rm /much; sync").await;
    for _ in 0..2 {
        let before = sandbox.forwards().await;
        sandbox.revert("one").await.unwrap();
        assert_eq!(sandbox.forwards().await, before);
        let drop_caches = "echo 3 > /proc/sys/vm/drop_caches; md5sum < /much";
        assert_eq!(run(&sandbox, drop_caches).await, sum);
        assert_eq!(run(&sandbox, "nc 10.0.2.101 7000 </dev/null").await, "of the host");
        let mut text = String::new();
        let inwards = ("127.0.0.1", before[0].host_port);
        eventually("the guest's server", Duration::from_secs(10), async || {
            let Ok(mut stream) = tokio::net::TcpStream::connect(inwards).await else {
                return false;
            };
            text.clear();
            let read = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await;
            read.is_ok() && text == "here\n"
        })
        .await;
        run(&sandbox, "rm /much; echo after > /which; sync").await;
    }
    sandbox.revert("one").await.unwrap();
    run(&sandbox, "echo saved > /which; sync").await;
    sandbox
        .save("after", &SaveOptions { delete_checkpoints: true, ..Default::default() })
        .await
        .unwrap();
    assert!(tags(&sandbox).await.is_empty());
    sandbox.stop().await.unwrap();
    let place = workspace.path().join("after");
    let config = sandbox::SandboxConfig::builder(place.to_str().unwrap()).build().unwrap();
    let again = Sandbox::new(config).with_locator(vm_tests::search());
    again.start().await.unwrap();
    assert_eq!(run(&again, "md5sum < /much; cat /which").await, format!("{sum}\nsaved"));
    again.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_comes_later_is_mounted_anew() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a"), "of the host").unwrap();
    let sandbox = forked(vm_tests::minimal(), cache.path()).await;
    sandbox.checkpoint("without").await.unwrap();
    let handle = sandbox.mount(Mount::new(folder.path(), "/mnt/a")).await.unwrap();
    sandbox.checkpoint("with").await.unwrap();
    assert_eq!(run(&sandbox, "cat /mnt/a/a").await, "of the host");
    sandbox.revert("without").await.unwrap();
    assert!(sandbox.active_mounts().is_empty());
    assert_eq!(run(&sandbox, "ls /mnt/a 2>/dev/null | wc -l").await, "0");
    sandbox.revert("with").await.unwrap();
    assert_eq!(sandbox.active_mounts().as_slice(), std::slice::from_ref(&handle));
    assert_eq!(run(&sandbox, "cat /mnt/a/a; echo guest > /mnt/a/b").await, "of the host");
    assert_eq!(fs_err::read_to_string(folder.path().join("b")).unwrap(), "guest\n");
    sandbox.unmount(&handle, false).await.unwrap();
    assert_eq!(run(&sandbox, "ls /mnt/a 2>/dev/null | wc -l").await, "0");
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_revert_ends_all() {
    let cache = tempfile::tempdir().unwrap();
    let sandbox = forked(vm_tests::minimal().memory("184M"), cache.path()).await;
    let namespace = namespace(sandbox.pid().unwrap());
    for pause in [0, 5, 15, 30] {
        if !sandbox.is_running() {
            sandbox.start().await.unwrap();
        }
        sandbox.checkpoint("one").await.unwrap();
        let (_, stopped) = tokio::join!(sandbox.revert("one"), async {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            sandbox.stop().await
        });
        stopped.unwrap();
        assert!(!sandbox.is_running());
        copies_are_gone(&namespace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_that_is_given_up_is_done_wholly_or_not_at_all() {
    let cache = tempfile::tempdir().unwrap();
    let sandbox = forked(vm_tests::minimal().memory("168M"), cache.path()).await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    sandbox.add_forward(Forward::to_host(7000, port)).await.unwrap();
    let forwards = sandbox.forwards().await;
    sandbox.checkpoint("one").await.unwrap();
    let mut n_kept = 0;
    for pause in [0, 1, 5, 10, 20, 30, 40, 50, 60, 80] {
        run(&sandbox, "echo kept > /state").await;
        let (pid, given_up) = (sandbox.pid(), Duration::from_millis(pause));
        let reverted = tokio::time::timeout(given_up, sandbox.revert("one")).await;
        let state = run(&sandbox, "cat /state 2>/dev/null || echo reverted").await;
        let is_kept = sandbox.pid() == pid;
        assert_eq!(state, if is_kept { "kept" } else { "reverted" });
        assert!(!is_kept || reverted.is_err());
        assert_eq!(sandbox.forwards().await, forwards);
        assert_eq!(tags(&sandbox).await, ["one"]);
        n_kept += usize::from(is_kept);
        eventually("the end of the other machine", Duration::from_secs(20), async || {
            let pid = if is_kept { None } else { pid };
            pid.is_none_or(|pid| !is_there(pid))
        })
        .await;
    }
    // The first one has no time at all.
    assert!(n_kept > 0);
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_goes_back_reaches_no_more_than_it_may_now() {
    let cache = tempfile::tempdir().unwrap();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let n_seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_seen);
    tokio::spawn(async move {
        while server.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let builder =
        vm_tests::minimal().network_mode(NetworkMode::Full).allow([format!("127.0.0.1:{port}")]);
    let sandbox = forked(builder, cache.path()).await;
    let connect =
        format!("(while :; do nc -w 1 10.0.2.2 {port}; done) </dev/null >/dev/null 2>&1 &");
    run(&sandbox, &connect).await;
    let is_seen = async || n_seen.load(Ordering::SeqCst) > 0;
    eventually("a connection", Duration::from_secs(20), is_seen).await;
    sandbox.checkpoint("open").await.unwrap();
    sandbox.set_allow(Some(vec![])).await.unwrap();
    // What was under way may arrive still.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = n_seen.load(Ordering::SeqCst);
    for _ in 0..5 {
        sandbox.revert("open").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(n_seen.load(Ordering::SeqCst), before);
    // It tries still.
    sandbox.set_allow(Some(vec![format!("127.0.0.1:{port}")])).await.unwrap();
    let is_seen = async || n_seen.load(Ordering::SeqCst) > before;
    eventually("a connection", Duration::from_secs(20), is_seen).await;
    sandbox.stop().await.unwrap();
}
