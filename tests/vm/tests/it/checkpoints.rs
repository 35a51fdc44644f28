//! Checkpoints: what comes back, what calls under way learn, and how long it takes.

use super::{assert_clock_is_of_now, execute, run, set_clock_back};
use sandbox::{Error, ExecuteRequest, Transport};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_brings_processes_open_files_and_the_disk_back() {
    let sandbox = Arc::new(vm_tests::started(vm_tests::minimal().memory("2G")).await);
    // A process with a deleted file open, that counts in memory; and pages that are in use.
    let script = "echo before > /state; dd if=/dev/urandom of=/dev/shm/ram bs=1M count=32 2>/dev/null; \
        sha256sum /dev/shm/ram > /dev/shm/sum; \
        (exec 9> /gone; rm /gone; echo kept >&9; n=0; \
         while :; do n=$((n + 1)); echo $n > /dev/shm/count; \
           [ -e /probe ] && cat /proc/self/fd/9 > /probed 2>/dev/null; sleep 0.05; done) \
        > /dev/null 2>&1 & echo $! > /counter";
    run(&sandbox, script).await;
    // A call that waits while the checkpoint is made ends with an error when its command is gone.
    let waiting = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        async move { sandbox.execute(ExecuteRequest::new("echo in flight; sleep 1000")).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    set_clock_back(&sandbox).await;
    let start = Instant::now();
    let made = sandbox.checkpoint("one").await.unwrap();
    let taken = start.elapsed();
    assert_clock_is_of_now(&sandbox).await;
    assert!(made.state_bytes > 32 << 20, "{made:?}");
    let count = run(&sandbox, "cat /dev/shm/count").await.parse::<u64>().unwrap();
    let after =
        "rm /dev/shm/ram; echo after > /state; echo new > /new; kill -9 $(cat /counter); sync";
    run(&sandbox, after).await;

    for round in 0..3 {
        let start = Instant::now();
        sandbox.revert("one").await.unwrap();
        eprintln!("checkpoint {taken:?}, revert {:?}", start.elapsed());
        let check =
            "cat /state; ls /new 2>/dev/null; sha256sum -c /dev/shm/sum >/dev/null && echo whole";
        assert_eq!(run(&sandbox, check).await, "before\nwhole", "round {round}");
        let now = run(&sandbox, "cat /dev/shm/count").await.parse::<u64>().unwrap();
        assert!(now <= count + 40, "{now} is not near {count}");
        tokio::time::sleep(Duration::from_millis(600)).await;
        let later = run(&sandbox, "cat /dev/shm/count").await.parse::<u64>().unwrap();
        assert!(later > now, "the process that came back does not go on");
        // Its deleted file is still open.
        let held = "ls -l /proc/[0-9]*/fd/9 2>/dev/null | grep -q 'gone (deleted)' && echo held";
        assert_eq!(run(&sandbox, held).await, "held");
        // The clock is of now.
        assert_clock_is_of_now(&sandbox).await;
        run(&sandbox, "echo after > /state; touch /new; sync").await;
    }
    let outcome = waiting.await.unwrap();
    assert!(matches!(outcome, Err(Error::Reverted { action: "execute" })), "{outcome:?}");
    // Nobody waits for that command any more, so it is gone too.
    let left = run(&sandbox, "ps | grep -c '[s]leep 1000' || true").await;
    assert_eq!(left, "0");

    // Calls under way during a revert end at once; the next ones work.
    let sandbox_too = Arc::clone(&sandbox);
    let (call, reverted) = tokio::join!(
        sandbox.execute(ExecuteRequest::new("while :; do echo yes; done")),
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            sandbox_too.revert("one").await
        }
    );
    assert!(matches!(call, Err(Error::Reverted { .. })), "{call:?}");
    reverted.unwrap();
    assert_eq!(run(&sandbox, "cat /state").await, "before");

    // Another one, the same name again, unknown ones, and the end of both.
    run(&sandbox, "echo middle > /state").await;
    sandbox.checkpoint("two").await.unwrap();
    run(&sandbox, "echo late > /state").await;
    sandbox.checkpoint("two").await.unwrap();
    run(&sandbox, "echo later > /state").await;
    sandbox.revert("two").await.unwrap();
    assert_eq!(run(&sandbox, "cat /state").await, "late");
    let tags = || async {
        let all = sandbox.checkpoints().await.unwrap();
        all.into_iter().map(|checkpoint| checkpoint.tag).collect::<Vec<_>>()
    };
    assert_eq!(tags().await, ["one", "two"]);
    let error = sandbox.revert("three").await.unwrap_err();
    assert!(matches!(error, Error::UnknownCheckpoint { .. }), "{error}");
    sandbox.delete_checkpoint("one").await.unwrap();
    assert!(sandbox.revert("one").await.is_err());
    // A save in between holds the disk alone, and may take the checkpoints away.
    let home = tempfile::tempdir().unwrap();
    let options = sandbox::save::SaveOptions {
        workspace: Some(home.path().into()),
        delete_checkpoints: true,
        ..Default::default()
    };
    sandbox.save("x", &options).await.unwrap();
    assert!(tags().await.is_empty());
    let bytes = sandbox::save::show(&home.path().join("x")).unwrap().bytes;
    assert!(bytes < 32 << 20, "{bytes} bytes hold more than the disk");
    assert_eq!(execute(&sandbox, "true").await.exit_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_works_through_tcp() {
    let sandbox = vm_tests::started(vm_tests::minimal().transport(Transport::Tcp)).await;
    run(&sandbox, "echo before > /state").await;
    sandbox.checkpoint("one").await.unwrap();
    run(&sandbox, "echo after > /state").await;
    sandbox.revert("one").await.unwrap();
    assert_eq!(run(&sandbox, "cat /state").await, "before");
    sandbox.revert("one").await.unwrap();
    assert_eq!(run(&sandbox, "cat /state").await, "before");
}
