//! The agent's connection: what may pass through it, what may break it, and that no call waits for
//! ever.

use super::{execute, on_shared, run};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Error, ExecuteRequest, Sandbox};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn signal(sandbox: &Sandbox, signal: Signal) {
    let pid = sandbox.pid().and_then(|pid| Pid::from_raw(pid as i32)).expect("QEMU runs");
    kill_process(pid, signal).unwrap();
}

/// The words that begin a connection, of this and of earlier releases.
fn words() -> [Vec<u8>; 2] {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0".to_vec();
    [b"QSRESYNC".to_vec(), preface]
}

#[test]
fn data_passes_unharmed_whatever_words_are_in_it() {
    on_shared(async |sandbox| {
        for word in words() {
            for shift in 0..word.len() {
                let data = [vec![0; shift], word.repeat(20_000 / word.len())].concat();
                sandbox.write_file("/tmp/words", data.clone(), None).await.unwrap();
                let back = sandbox.read_file("/tmp/words", 1 << 20).await.unwrap();
                assert!(back == data, "a file with {shift} bytes before the words");
                let cat = ExecuteRequest::new("cat").stdin(data.clone());
                let result = sandbox.execute(cat).await.unwrap();
                assert!(result.stdout == data, "input with {shift} bytes before the words");
            }
        }
        let large = [vec![0; 5], words().concat().repeat(50_000)].concat();
        sandbox.write_file("/tmp/words", large.clone(), None).await.unwrap();
        assert!(sandbox.read_file("/tmp/words", 1 << 30).await.unwrap() == large);
        run(sandbox, "rm /tmp/words").await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cancelled_calls_while_the_machine_stands_still_are_no_harm() {
    let sandbox = Arc::new(vm_tests::started(vm_tests::minimal()).await);
    let session = sandbox.session(ExecuteRequest::new("cat"), None).await.unwrap();
    for round in 0..2 {
        signal(&sandbox, Signal::STOP);
        let mut calls = Vec::new();
        for _ in 0..1000 {
            let sandbox = Arc::clone(&sandbox);
            calls.push(tokio::spawn(async move {
                sandbox.execute(ExecuteRequest::new("sleep 77")).await
            }));
            if calls.len() % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        calls.iter().for_each(|call| call.abort());
        for call in calls {
            assert!(call.await.unwrap_err().is_cancelled());
        }
        signal(&sandbox, Signal::CONT);
        assert_eq!(run(&sandbox, "echo alive").await, "alive", "round {round}");
    }
    // A call that was under way all the time goes on, on the same connection.
    let (input, mut output) = session;
    input.write("hello".into()).await.unwrap();
    let event = output.next().await.unwrap();
    assert!(matches!(event, Some(sandbox::SessionEvent::Stdout(ref data)) if data == "hello"));
    super::eventually("no command of theirs is left", Duration::from_secs(20), async || {
        super::count_in_guest(&sandbox, "sleep 77").await == 0
    })
    .await;
}

/// Waits for a call that must fail, and that within so many seconds.
async fn fails<T>(what: &str, limit: u64, call: impl Future<Output = Result<T, Error>>) {
    let start = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(limit), call).await;
    let result = ended.unwrap_or_else(|_| panic!("{what} is still waiting after {limit} s"));
    match result {
        Ok(_) => panic!("{what} succeeds although nobody answers"),
        Err(error) => eprintln!("{what}: {:?}: {error}", start.elapsed()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_on_a_machine_that_stands_still_ends_and_later_ones_work() {
    let sandbox = Arc::new(vm_tests::started(vm_tests::minimal()).await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs_err::write(&file, vec![1; 1 << 20]).unwrap();
    signal(&sandbox, Signal::STOP);
    let s = &sandbox;
    let home = folder.path();
    let saving = sandbox::save::SaveOptions { workspace: Some(home.into()), ..Default::default() };
    let short = || ExecuteRequest::new("true").timeout(Duration::from_secs(1));
    tokio::join!(
        fails("execute", 15, s.execute(short())),
        fails("write_file", 70, s.write_file("/x", "x", None)),
        fails("read_file", 80, s.read_file("/etc/passwd", 1000)),
        fails("upload", 70, s.upload(&file, "/y")),
        fails("download", 80, s.download("/etc/passwd", home.join("z"), None)),
        fails("session", 70, s.session(ExecuteRequest::new("cat"), None)),
        fails("create_user", 130, s.create_user("alice")),
        fails("save", 40, s.save("x", &saving)),
        async {
            let listed = tokio::time::timeout(Duration::from_secs(1), s.checkpoints()).await;
            assert!(listed.unwrap().unwrap().is_empty());
        },
    );
    signal(&sandbox, Signal::CONT);
    assert_eq!(run(&sandbox, "echo alive").await, "alive");
    sandbox.write_file("/x", "x", None).await.unwrap();
    sandbox.save("x", &saving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_stands_still_is_stopped_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let builder = vm_tests::minimal().workspace(folder.path()).save("kept");
    let sandbox = vm_tests::started(builder).await;
    let pid = sandbox.pid().unwrap();
    signal(&sandbox, Signal::STOP);
    let stopped = tokio::time::timeout(Duration::from_secs(60), sandbox.stop()).await;
    let error = stopped.expect("stop ends").unwrap_err();
    assert!(matches!(error, Error::SaveFailed { .. }), "{error}");
    assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_during_uploads_succeeds_and_so_do_they() {
    let sandbox = Arc::new(vm_tests::started(vm_tests::minimal()).await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    fs_err::write(&file, vec![0x5a; 48 << 20]).unwrap();
    let uploads: Vec<_> = (0..3)
        .map(|number| {
            let (sandbox, file) = (Arc::clone(&sandbox), file.clone());
            tokio::spawn(async move {
                let to = format!("/root/large{number}");
                sandbox.upload(&file, &to).await.map(|moved| moved.n_bytes)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let options =
        sandbox::save::SaveOptions { workspace: Some(folder.path().into()), ..Default::default() };
    for round in 0..3 {
        sandbox.save("x", &options).await.unwrap_or_else(|error| panic!("{round}: {error:?}"));
        assert_eq!(run(&sandbox, "echo alive").await, "alive");
    }
    for upload in uploads {
        assert_eq!(upload.await.unwrap().unwrap(), 48 << 20);
    }
    // Nothing is frozen any more.
    run(&sandbox, "echo written > /root/after && sync").await;
    assert_eq!(
        run(&sandbox, "md5sum < /root/large0; md5sum < /root/large2").await.lines().count(),
        2
    );
}

#[test]
fn a_process_of_the_background_goes_on_writing() {
    on_shared(async |sandbox| {
        let loops = "(n=0; while :; do n=$((n+1)); echo $n; echo $n >&2; echo $n > /tmp/count; \
                     dd if=/dev/zero bs=64k count=4 2>/dev/null; sleep 0.05; done) & \
                     echo $! > /tmp/background";
        let start = Instant::now();
        run(sandbox, loops).await;
        assert!(start.elapsed() < Duration::from_secs(20), "the result waits for the background");
        let count = async || run(sandbox, "cat /tmp/count").await.parse::<u64>().unwrap_or(0);
        let before = count().await;
        super::eventually("the process goes on", Duration::from_secs(30), async || {
            count().await > before + 20
        })
        .await;
        run(sandbox, "kill $(cat /tmp/background)").await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_memory_keeps_its_agent() {
    let sandbox = vm_tests::started(vm_tests::minimal()).await;
    // All of a file in memory, doubled without end.
    let hog = "x=0123456789abcdef; while :; do x=$x$x; done";
    let result = sandbox.execute(ExecuteRequest::new(hog).timeout(Duration::from_secs(60))).await;
    eprintln!("{:?}", result.map(|result| result.exit_code));
    assert_eq!(run(&sandbox, "echo alive").await, "alive");
    // Commands are as likely to be ended as any program; the agent is the last.
    assert_eq!(run(&sandbox, "cat /proc/self/oom_score_adj").await, "0");
    assert_eq!(run(&sandbox, "cat /proc/$PPID/oom_score_adj").await, "-1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_stops_what_is_his_holds_up_nobody_else() {
    let sandbox = Arc::new(vm_tests::started(vm_tests::minimal().cpus(2)).await);
    sandbox.create_user("alice").await.unwrap();
    let stopper = "trap '' STOP; while :; do kill -STOP -1; done";
    let stopping = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        let request = ExecuteRequest::new(stopper).user("alice").timeout(Duration::from_secs(25));
        async move { sandbox.execute(request).await }
    });
    let others: Vec<_> = (0..60)
        .map(|_| {
            let sandbox = Arc::clone(&sandbox);
            let request = ExecuteRequest::new("true").user("alice").timeout(Duration::from_secs(3));
            tokio::spawn(async move { sandbox.execute(request).await })
        })
        .collect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        assert_eq!(execute(&sandbox, "echo alive").await.stdout, b"alive\n");
    }
    for other in others {
        // Ended by its time or by itself: either way it ends.
        other.await.unwrap().unwrap();
    }
    stopping.await.unwrap().unwrap();
    assert_eq!(run(&sandbox, "echo alive").await, "alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_end_with_an_error_when_the_machine_ends_and_the_next_one_starts() {
    for end in ["panic", "power-off", "kill"] {
        let sandbox = Arc::new(vm_tests::started(vm_tests::minimal()).await);
        let calls: Vec<_> = (0..5)
            .map(|_| {
                let sandbox = Arc::clone(&sandbox);
                let request = ExecuteRequest::new("sleep 1000").timeout(Duration::from_secs(900));
                tokio::spawn(async move { sandbox.execute(request).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        match end {
            "panic" => {
                let panic = "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger";
                sandbox.execute(ExecuteRequest::new(panic)).await.unwrap_err();
            }
            "power-off" => {
                let _ = sandbox.execute(ExecuteRequest::new("poweroff -f; sleep 60")).await;
            }
            _ => signal(&sandbox, Signal::KILL),
        }
        for call in calls {
            let ended = tokio::time::timeout(Duration::from_secs(20), call).await;
            let error = ended.expect("the call ends").unwrap().unwrap_err();
            assert!(matches!(error, Error::QemuExited { .. }), "{end}: {error}");
        }
        let error = sandbox.execute(ExecuteRequest::new("true")).await.unwrap_err();
        assert!(matches!(error, Error::QemuExited { .. }), "{end}: {error}");
        sandbox.start().await.unwrap();
        assert_eq!(run(&sandbox, "echo again").await, "again");
    }
}
