//! What users of such tools met elsewhere and nothing else here tries: long arguments, children that
//! hold pipes, a network that refuses, services on the guest's own loopback, files in use.

use super::{eventually, execute, free_port, on_shared, run};
use bytes::Bytes;
use sandbox::{ErrorKind, ExecuteRequest, Forward, Sandbox};
use std::io::ErrorKind as Io;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The kernel takes no argument of 128 KiB: that is an error before anything runs.
#[test]
fn a_command_too_long_for_an_argument_is_refused_with_a_hint() {
    on_shared(async |sandbox| {
        let long = "x".repeat(200_000);
        let many = |request: ExecuteRequest| {
            (0..30).fold(request, |it, number| it.env(format!("A{number}"), &long[..100_000]))
        };
        for (what, request) in [
            ("a command", ExecuteRequest::new(format!("true # {long}"))),
            ("a variable", ExecuteRequest::new("true").env("A", long.as_str())),
            ("3 MB in all", many(ExecuteRequest::new("true"))),
        ] {
            let error = sandbox.execute(request).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value, "{what}: {error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("standard input")), "{what}");
        }
        // Just below the limits it runs, and standard input takes any length.
        let echo = format!("echo ok # {}", &long[..131_000]);
        assert_eq!(run(sandbox, &echo).await, "ok");
        let request = ExecuteRequest::new("echo ${#A}").env("A", &long[..131_000]);
        assert_eq!(sandbox.execute(request).await.unwrap().stdout, b"131000\n");
        let script = format!("A={long}; echo ${{#A}}");
        let request = ExecuteRequest::new("sh").stdin(script.into_bytes());
        assert_eq!(sandbox.execute(request).await.unwrap().stdout, b"200000\n");
    });
}

/// However a child is put into the background, the result does not wait for the pipes that it holds.
#[test]
fn children_that_hold_the_pipes_keep_no_result() {
    on_shared(async |sandbox| {
        for command in [
            "sleep 77 & echo done",
            "(sleep 77 &) ; echo done",
            "trap '' HUP; sleep 77 & echo done",
            "setsid sleep 77 & echo done",
            "setsid sh -c 'sleep 77 & sleep 77' & echo done",
            "exec 3>&1 4>&2; sleep 77 >&3 2>&4 & echo done",
            "sleep 77 </dev/null & disown 2>/dev/null; echo done",
        ] {
            let begin = Instant::now();
            let result = execute(sandbox, command).await;
            assert_eq!(result.stdout_lossy().trim_end(), "done", "{command}: {result:?}");
            assert!(begin.elapsed() < Duration::from_secs(10), "{command}: {:?}", begin.elapsed());
        }
        let count = "n=0; for p in /proc/[0-9]*; do \
                     [ \"$(tr '\\0' ' ' <$p/cmdline 2>/dev/null)\" = 'sleep 77 ' ] && n=$((n+1)); \
                     done; echo $n";
        // They live on; the last ones may just be beginning.
        eventually("all children", Duration::from_secs(20), async || {
            run(sandbox, count).await == "8"
        })
        .await;
        run(sandbox, "killall sleep; true").await;
    });
}

/// What the mode does not carry fails at once: nothing waits for a time-out.
#[test]
fn refused_connections_fail_quickly_with_an_error() {
    on_shared(async |sandbox| {
        for command in [
            "nslookup example.org",
            "nslookup example.org 10.0.2.3",
            "wget -q -O - http://example.org/",
            "wget -q -O - http://192.0.2.1/",
            "wget -q -O - http://10.0.2.2:8000/",
            "nc 192.0.2.1 443 </dev/null",
            "nc 10.0.2.2 22 </dev/null",
        ] {
            let begin = Instant::now();
            let result = execute(sandbox, command).await;
            assert_ne!(result.exit_code, 0, "{command}: {result:?}");
            assert!(!result.timed_out, "{command}");
            let words = result.stdout_lossy() + &result.stderr_lossy();
            assert!(!words.is_empty() || command.starts_with("nc"), "{command}: silently");
            assert!(begin.elapsed() < Duration::from_secs(15), "{command}: {:?}", begin.elapsed());
        }
    });
}

/// A forward to a service that listens on the guest's loopback alone is a reset, not an answer of
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_the_guests_loopback_is_refused_by_a_reset() {
    let port = free_port();
    let builder = vm_tests::minimal().port_forward(Forward::new(port, 7777));
    let sandbox = vm_tests::started(builder).await;
    let serve = "(while :; do echo hello | nc -l -s 127.0.0.1 -p 7777; done) >/dev/null 2>&1 &";
    run(&sandbox, serve).await;
    let mut read = Vec::new();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut read)).await;
    let error = answer.expect("the connection ends").unwrap_err();
    assert_eq!((error.kind(), read.len()), (Io::ConnectionReset, 0));
    sandbox.stop().await.unwrap();
}

/// A file that is replaced is never seen half, nor is a program that runs an obstacle.
#[test]
fn files_in_use_are_replaced_in_one_step() {
    on_shared(async |sandbox| {
        const LENGTH: usize = 8_000_000;
        let write = async |sandbox: &Sandbox, letter: u8| {
            let data = Bytes::from(vec![letter; LENGTH]);
            sandbox.write_file("/root/whole", data, None).await.unwrap();
        };
        write(sandbox, b'a').await;
        let watch = format!(
            "m={LENGTH}; while [ ! -e /tmp/written ]; do n=$(stat -c %s /root/whole); \
             [ $n -lt $m ] && m=$n; done; echo $m"
        );
        let writing = async {
            for letter in *b"bcd" {
                write(sandbox, letter).await;
            }
            run(sandbox, "touch /tmp/written").await;
        };
        let request = ExecuteRequest::new(watch).timeout(Duration::from_secs(120));
        let (seen, ()) = tokio::join!(sandbox.execute(request), writing);
        assert_eq!(seen.unwrap().stdout_lossy().trim(), LENGTH.to_string());
        run(
            sandbox,
            "cp /bin/busybox /root/busy; /root/busy sleep 60 >/dev/null 2>&1 & rm /tmp/written",
        )
        .await;
        sandbox
            .write_file("/root/busy", Bytes::from("#!/bin/sh\necho new\n"), Some(0o755))
            .await
            .unwrap();
        assert_eq!(
            run(sandbox, "/root/busy; rm /root/busy /root/whole; killall sleep busy; true").await,
            "new"
        );
    });
}
