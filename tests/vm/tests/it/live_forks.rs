//! Children of machines that are forks themselves: QEMU's process is forked while the machine runs.
//! `QUICKSAND_FORKS=1000` is the gate of each new QEMU.

use super::forks::{forked, is_there, status};
use super::{assert_clock_is_of_now, eventually, run, set_clock_back};
use duct::cmd;
use sandbox::{Forward, Mount, NetworkMode, Sandbox, SandboxConfig, save::SaveOptions};
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

/// More than is copied of a disk while the machine stands still.
const MUCH: &str = "dd if=/dev/urandom of=/much bs=1M count=6 2>/dev/null; sync; md5sum < /much";

/// Children that are forks of the machine's process.
async fn children(parent: &Sandbox, n: usize) -> Vec<Sandbox> {
    let children = parent.fork(NonZeroUsize::new(n).unwrap()).await.unwrap();
    for child in &children {
        let timing = child.boot_timing().unwrap();
        assert!(timing.warm && timing.forked, "{:?}", timing.unforked_reason);
    }
    children
}

async fn child(parent: &Sandbox) -> Sandbox {
    children(parent, 1).await.remove(0)
}

fn n_generations() -> usize {
    std::env::var("QUICKSAND_FORKS").map_or(50, |n| n.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_a_fork_go_on_from_it_and_share_nothing_that_tells_who_they_are() {
    let cache = tempfile::tempdir().unwrap();
    let parent = forked(vm_tests::minimal(), cache.path()).await;
    run(
        &parent,
        "echo before > /state; echo volatile > /dev/shm-state; \
         (exec 3>/held; rm /held; i=0; while :; do i=$((i+1)); echo $i >&3; sleep 0.05; done) \
         >/dev/null 2>&1 & echo $! > /pid",
    )
    .await;
    set_clock_back(&parent).await;
    let mut all = children(&parent, 3).await;
    all.push(parent);
    let identity = "cat /proc/sys/kernel/random/boot_id /sys/class/net/eth0/address; \
                    head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'";
    let mut seen: [HashSet<String>; 4] = Default::default();
    for (index, sandbox) in all.iter().enumerate() {
        assert_eq!(run(sandbox, "cat /state /dev/shm-state").await, "before\nvolatile");
        assert_eq!(run(sandbox, "kill -0 $(cat /pid) && echo alive").await, "alive");
        for (set, line) in seen.iter_mut().zip(run(sandbox, identity).await.lines()) {
            set.insert(line.to_owned());
        }
        assert_clock_is_of_now(sandbox).await;
        seen[3].insert(sandbox.pid().unwrap().to_string());
        run(sandbox, &format!("echo {index} > /state; echo {index} > /dev/shm-state; sync")).await;
    }
    for set in &seen {
        assert_eq!(set.len(), 4, "{set:?}");
    }
    for (index, sandbox) in all.iter().enumerate() {
        let both = run(sandbox, "cat /state /dev/shm-state").await;
        assert_eq!(both, format!("{index}\n{index}"));
        assert_eq!(run(sandbox, "kill -0 $(cat /pid) && echo alive").await, "alive");
    }
    for sandbox in &all {
        let pid = sandbox.pid().unwrap();
        sandbox.stop().await.unwrap();
        eventually("the end", Duration::from_secs(20), async || !is_there(pid)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_machine_is_not_that_of_its_children() {
    let cache = tempfile::tempdir().unwrap();
    // Machines of a kind of their own: all of a kind in a process descend from one.
    let parent = forked(vm_tests::minimal().memory("160M"), cache.path()).await;
    let zygote: u32 = status(parent.pid().unwrap(), "PPid:").parse().unwrap();
    let first = child(&parent).await;
    let second = child(&first).await;
    parent.stop().await.unwrap();
    cmd!("kill", "-KILL", first.pid().unwrap().to_string()).run().unwrap();
    eventually("its notice", Duration::from_secs(20), async || !first.is_running()).await;
    assert_eq!(run(&second, "echo on").await, "on");
    let third = child(&second).await;
    // One that ends by itself.
    let _ = second.execute(sandbox::ExecuteRequest::new("poweroff -f || reboot -f")).await;
    eventually("the end", Duration::from_secs(10), async || !second.is_running()).await;
    assert_eq!(run(&third, "echo on").await, "on");
    // That of what all of them descend from is.
    let pid = third.pid().unwrap();
    cmd!("kill", "-KILL", zygote.to_string()).run().unwrap();
    eventually("the end", Duration::from_secs(20), async || !is_there(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_much_on_it_is_shared_and_each_has_its_own_above_it() {
    let cache = tempfile::tempdir().unwrap();
    let workspace = tempfile::tempdir().unwrap();
    let builder = vm_tests::minimal().workspace(workspace.path());
    let parent = forked(builder, cache.path()).await;
    let sum = run(&parent, MUCH).await;
    let before = parent.metrics().await.unwrap().overlay_bytes;
    let children = children(&parent, 2).await;
    let drop_caches = "echo 3 > /proc/sys/vm/drop_caches; md5sum < /much";
    for (index, sandbox) in children.iter().chain([&parent]).enumerate() {
        assert_eq!(run(sandbox, drop_caches).await, sum);
        // What lies below still counts as its own.
        assert!(sandbox.metrics().await.unwrap().overlay_bytes >= before);
        run(sandbox, &format!("echo {index} > /which; sync")).await;
    }
    for (index, sandbox) in children.iter().chain([&parent]).enumerate() {
        let read = "echo 3 > /proc/sys/vm/drop_caches; cat /which";
        assert_eq!(run(sandbox, read).await, index.to_string());
    }
    // Checkpoints work above it.
    parent.checkpoint("c").await.unwrap();
    run(&parent, "rm /much /which; sync").await;
    parent.revert("c").await.unwrap();
    assert_eq!(run(&parent, drop_caches).await, sum);
    parent.delete_checkpoint("c").await.unwrap();
    let again = child(&parent).await;
    assert_eq!(run(&again, drop_caches).await, sum);
    again.stop().await.unwrap();
    // A save has all of it.
    parent.save("of-parent", &SaveOptions::default()).await.unwrap();
    children[0].save("of-child", &SaveOptions::default()).await.unwrap();
    for sandbox in children.iter().chain([&parent]) {
        sandbox.stop().await.unwrap();
    }
    for (name, which) in [("of-parent", "2"), ("of-child", "0")] {
        let place = workspace.path().join(name);
        let config = SandboxConfig::builder(place.to_str().unwrap()).build().unwrap();
        let sandbox = Sandbox::new(config).with_locator(vm_tests::search());
        sandbox.start().await.unwrap();
        assert_eq!(run(&sandbox, "md5sum < /much; cat /which").await, format!("{sum}\n{which}"));
        sandbox.stop().await.unwrap();
    }
}

/// A server of the host that sends a line to each connection and a second one when it is told to, and
/// keeps them open.
async fn server(lines: tokio::sync::broadcast::Sender<()>) -> u16 {
    use tokio::io::AsyncWriteExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut told = lines.subscribe();
            tokio::spawn(async move {
                stream.write_all(b"first\n").await.unwrap();
                told.recv().await.unwrap();
                let _ = stream.write_all(b"second\n").await;
                std::future::pending::<()>().await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_connection_of_the_parent_hears_that_it_is_over() {
    let (cache, workspace) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (lines, _) = tokio::sync::broadcast::channel(1);
    let port = server(lines.clone()).await;
    let waits = "mkfifo /fifo; (exec 3<>/fifo; nc 10.0.2.101 7000 <&3 >/got; echo over >/over) \
                 >/dev/null 2>&1 & until grep -q first /got 2>/dev/null; do sleep 0.05; done";
    let is_over = async |sandbox: &Sandbox| {
        let over = async || run(sandbox, "cat /over 2>/dev/null || true").await == "over";
        eventually("the end of the connection", Duration::from_secs(20), over).await;
    };
    let builder = || vm_tests::minimal().workspace(workspace.path());
    let of_process = forked(builder(), cache.path()).await;
    let of_file = vm_tests::started(builder()).await;
    for (parent, name) in [(of_process, "process"), (of_file, "file")] {
        parent.add_forward(Forward::to_host(7000, port)).await.unwrap();
        run(&parent, waits).await;
        parent.save(name, &SaveOptions { memory: true, ..Default::default() }).await.unwrap();
        parent.checkpoint("before").await.unwrap();
        let place = workspace.path().join(name);
        let saved = SandboxConfig::builder(place.to_str().unwrap());
        let mut all = vec![vm_tests::started(saved).await];
        assert!(all[0].boot_timing().unwrap().warm);
        for n in [1, 2] {
            all.extend(parent.fork(NonZeroUsize::new(n).unwrap()).await.unwrap());
        }
        for child in &all {
            is_over(child).await;
            child.stop().await.unwrap();
        }
        // Their parent's goes on.
        assert_eq!(run(&parent, "cat /over /got 2>/dev/null || true").await, "first");
        lines.send(()).unwrap();
        let got = async || run(&parent, "cat /got").await == "first\nsecond";
        eventually("the second line", Duration::from_secs(20), got).await;
        parent.revert("before").await.unwrap();
        is_over(&parent).await;
        parent.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_of_forks_go_deep() {
    let cache = tempfile::tempdir().unwrap();
    let mut sandbox = forked(vm_tests::minimal(), cache.path()).await;
    let mut tokens = HashSet::new();
    for generation in 0..n_generations() {
        // Enough for a layer each time at first; the later ones are copied.
        if generation < 24 {
            run(&sandbox, MUCH).await;
        }
        run(&sandbox, &format!("echo {generation} >> /list; echo {generation} > /last")).await;
        let next = child(&sandbox).await;
        tokens.insert(run(&next, "cat /proc/sys/kernel/random/boot_id").await);
        sandbox.stop().await.unwrap();
        sandbox = next;
    }
    assert_eq!(tokens.len(), n_generations());
    let list: Vec<String> = (0..n_generations()).map(|number| number.to_string()).collect();
    let read = "echo 3 > /proc/sys/vm/drop_caches; cat /list";
    assert_eq!(run(&sandbox, read).await, list.join("\n"));
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_writes_and_talks_is_forked_again_and_again() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a"), "of the host").unwrap();
    let builder = vm_tests::minimal().cpus(2).network_mode(NetworkMode::MountsOnly);
    let parent = forked(builder, cache.path()).await;
    parent.mount(Mount::new(folder.path(), "/mnt/a")).await.unwrap();
    // A server of the host's, which answers each connection with many bytes.
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &[b'x'; 1 << 20]).await;
            });
        }
    });
    parent.add_forward(Forward::to_host(7000, port)).await.unwrap();
    let fetch = "nc 10.0.2.101 7000 < /dev/null | wc -c";
    assert_eq!(run(&parent, fetch).await, (1 << 20).to_string());
    run(
        &parent,
        &format!(
            "(while :; do {fetch} > /dev/null; done) > /dev/null 2>&1 & \
             (while :; do dd if=/dev/urandom of=/load bs=64k count=8 2>/dev/null; sync; done) \
             > /dev/null 2>&1 &"
        ),
    )
    .await;
    for number in 0..8 {
        let child = child(&parent).await;
        assert_eq!(run(&child, "cat /mnt/a/a").await, "of the host");
        run(&child, &format!("echo {number} > /mnt/a/child-{number}")).await;
        // What was under way on its parent's link is not on its own.
        child.add_forward(Forward::to_host(7000, port)).await.unwrap();
        assert_eq!(run(&child, fetch).await, (1 << 20).to_string());
        assert_eq!(run(&child, "sync; echo fine").await, "fine");
        child.stop().await.unwrap();
    }
    assert_eq!(run(&parent, "ls /mnt/a | wc -l").await, "9");
    parent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_not_forked_says_why_its_children_are_not() {
    let sandbox = vm_tests::started(vm_tests::minimal()).await;
    let child = sandbox.fork(NonZeroUsize::MIN).await.unwrap().remove(0);
    let timing = child.boot_timing().unwrap();
    assert!(timing.warm && !timing.forked);
    assert!(timing.unforked_reason.unwrap().contains("warm=\"fork\""));
    child.stop().await.unwrap();
    sandbox.stop().await.unwrap();
}
