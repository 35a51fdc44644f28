//! Sandboxes that go on from a running one.

use super::{assert_clock_is_of_now, run, set_clock_back};
use sandbox::{Mount, NetworkMode, Sandbox, SandboxConfigBuilder};
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

async fn started(builder: SandboxConfigBuilder) -> Sandbox {
    let sandbox = Sandbox::new(builder.build().unwrap()).with_locator(vm_tests::search());
    sandbox.start().await.unwrap();
    sandbox
}

fn n(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn children_go_on_from_memory_and_disk_and_share_nothing_afterwards() {
    let parent = started(vm_tests::minimal()).await;
    // A process with something in its memory, a file that is open and has no name any more, and files.
    run(
        &parent,
        "echo before > /state; echo volatile > /dev/shm-state; \
         (exec 3>/held; rm /held; i=0; while :; do i=$((i+1)); echo $i >&3; sleep 0.05; done) \
         >/dev/null 2>&1 & echo $! > /pid",
    )
    .await;
    let identity = "cat /proc/sys/kernel/random/boot_id; cat /sys/class/net/eth0/address; \
                    head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'; echo";
    set_clock_back(&parent).await;
    let begun = Instant::now();
    let children = parent.fork(n(3)).await.unwrap();
    eprintln!("three children after {:?}", begun.elapsed());
    let mut seen: [HashSet<String>; 3] = Default::default();
    for sandbox in children.iter().chain([&parent]) {
        assert_eq!(run(sandbox, "cat /state /dev/shm-state").await, "before\nvolatile");
        assert_eq!(run(sandbox, "kill -0 $(cat /pid) && echo alive").await, "alive");
        for (set, line) in seen.iter_mut().zip(run(sandbox, identity).await.lines()) {
            set.insert(line.to_owned());
        }
    }
    // Each was given the time, and so was the parent, which stood still.
    for sandbox in children.iter().chain([&parent]) {
        assert_clock_is_of_now(sandbox).await;
    }
    for set in &seen {
        assert_eq!(set.len(), 4, "{set:?}");
    }
    for (index, sandbox) in children.iter().chain([&parent]).enumerate() {
        run(sandbox, &format!("echo {index} > /state; sync")).await;
    }
    for (index, sandbox) in children.iter().chain([&parent]).enumerate() {
        assert_eq!(run(sandbox, "cat /state").await, index.to_string());
    }
    // The parent's end is not theirs, and a child has children.
    parent.stop().await.unwrap();
    let grandchild = children[1].fork(n(1)).await.unwrap().remove(0);
    assert_eq!(run(&grandchild, "cat /state").await, "1");
    grandchild.checkpoint("c").await.unwrap();
    run(&grandchild, "echo lost > /state").await;
    grandchild.revert("c").await.unwrap();
    assert_eq!(run(&grandchild, "cat /state").await, "1");
    for sandbox in children.iter().chain([&grandchild]) {
        sandbox.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_have_the_shares_of_their_parent_and_a_network_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let late = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a"), "at start").unwrap();
    fs_err::write(late.path().join("b"), "hot").unwrap();
    let builder = vm_tests::minimal()
        .network_mode(NetworkMode::MountsOnly)
        .mount(Mount::new(folder.path(), "/mnt/a"));
    let parent = started(builder).await;
    parent.mount(Mount::new(late.path(), "/mnt/b")).await.unwrap();
    assert_eq!(run(&parent, "cat /mnt/a/a /mnt/b/b").await, "at starthot");
    // A file of a share that is open in the parent goes on there, and ends with errors in children.
    run(
        &parent,
        "(exec 3>/mnt/a/open; while :; do echo x >&3 || exit; sleep 0.1; done) >/dev/null 2>&1 &",
    )
    .await;
    let children = parent.fork(n(2)).await.unwrap();
    for (index, child) in children.iter().enumerate() {
        assert_eq!(run(child, "cat /mnt/a/a /mnt/b/b").await, "at starthot");
        run(child, &format!("echo {index} > /mnt/b/child-{index}")).await;
        assert_eq!(child.active_mounts().len(), 2);
        child.checkpoint("c").await.unwrap();
        child.revert("c").await.unwrap();
        assert_eq!(run(child, "cat /mnt/a/a").await, "at start");
    }
    assert_eq!(run(&parent, "ls /mnt/b").await, "b\nchild-0\nchild-1");
    run(&parent, "echo more > /mnt/a/more").await;
    assert_eq!(run(&children[0], "cat /mnt/a/more").await, "more");
    for child in &children {
        child.stop().await.unwrap();
    }
    let before = fs_err::metadata(folder.path().join("open")).unwrap().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(fs_err::metadata(folder.path().join("open")).unwrap().len() > before);
    parent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_forked_says_why() {
    let sandbox = started(vm_tests::minimal().transport(sandbox::Transport::Tcp)).await;
    let error = sandbox.fork(n(1)).await.unwrap_err();
    assert!(error.to_string().contains("transport"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(run(&sandbox, "echo on").await, "on");
    sandbox.stop().await.unwrap();
    assert!(sandbox.fork(n(1)).await.unwrap_err().to_string().contains("not running"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_with_memory_goes_on_where_it_was_made_and_boots_elsewhere() {
    let workspace = tempfile::tempdir().unwrap();
    let sandbox = started(vm_tests::minimal().workspace(workspace.path())).await;
    run(
        &sandbox,
        "(while :; do sleep 0.1; done) >/dev/null 2>&1 & echo $! > /pid; echo kept > /kept",
    )
    .await;
    let boot_id = run(&sandbox, "cat /proc/sys/kernel/random/boot_id").await;
    let options = sandbox::save::SaveOptions { memory: true, ..Default::default() };
    set_clock_back(&sandbox).await;
    sandbox.save("mem", &options).await.unwrap();
    // The machine itself goes on, in the present.
    assert_clock_is_of_now(&sandbox).await;
    assert_eq!(run(&sandbox, "kill -0 $(cat /pid) && cat /kept").await, "kept");
    sandbox.stop().await.unwrap();

    let place = workspace.path().join("mem");
    let mode = |name: &str| {
        let found = fs_err::metadata(place.join(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777
    };
    assert_eq!((mode("memory.state"), mode("memory.json")), (0o400, 0o400));
    let from = |place: &std::path::Path| sandbox::SandboxConfig::builder(place.to_str().unwrap());
    let (one, two) = (started(from(&place)).await, started(from(&place)).await);
    let mut boot_ids = HashSet::from([boot_id]);
    for sandbox in [&one, &two] {
        let timing = sandbox.boot_timing().unwrap();
        assert!(timing.warm, "{:?}", timing.cold_reason);
        assert_eq!(run(sandbox, "kill -0 $(cat /pid) && cat /kept").await, "kept");
        boot_ids.insert(run(sandbox, "cat /proc/sys/kernel/random/boot_id").await);
    }
    assert_eq!(boot_ids.len(), 3);
    // What goes on can be saved and forked again.
    run(&one, "echo again > /kept").await;
    one.save(
        "again",
        &sandbox::save::SaveOptions {
            workspace: Some(workspace.path().into()),
            memory: true,
            ..Default::default()
        },
    )
    .await
    .unwrap();
    let child = two.fork(n(1)).await.unwrap().remove(0);
    assert_eq!(run(&child, "kill -0 $(cat /pid) && cat /kept").await, "kept");
    for sandbox in [&one, &two, &child] {
        sandbox.stop().await.unwrap();
    }
    let again = started(from(&workspace.path().join("again"))).await;
    assert!(again.boot_timing().unwrap().warm);
    assert_eq!(run(&again, "kill -0 $(cat /pid) && cat /kept").await, "again");
    again.stop().await.unwrap();

    // Another machine, and a copy that this user's process has not made.
    let copy = workspace.path().join("copy");
    duct::cmd!("cp", "-a", &place, &copy).run().unwrap();
    for builder in [from(&place).memory("192M"), from(&copy)] {
        let sandbox = started(builder).await;
        let timing = sandbox.boot_timing().unwrap();
        assert!(!timing.warm);
        assert_eq!(run(&sandbox, "cat /kept").await, "kept");
        sandbox.stop().await.unwrap();
    }
}
