//! Commands: results, limits of time, both streams, input, users, and many at once.

use super::{count_in_guest, eventually, execute, on_shared, run};
use bytes::Bytes;
use sandbox::{Error, ErrorKind, ExecuteRequest, OutputStream, Pty, SessionEvent};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

#[test]
fn streams_and_exit_codes_come_back() {
    on_shared(async |sandbox| {
        let result = execute(sandbox, "printf out; printf err >&2; exit 7").await;
        assert_eq!(
            (&*result.stdout, &*result.stderr, result.exit_code),
            (&b"out"[..], &b"err"[..], 7)
        );
        assert_eq!(execute(sandbox, "kill -9 $$").await.exit_code, 128 + 9);
        assert_eq!(execute(sandbox, "no-such-command").await.exit_code, 127);
        let bytes = execute(sandbox, "printf '\\377\\000\\001ä'").await.stdout;
        assert_eq!(bytes, [0xff, 0, 1, 0xc3, 0xa4]);
    });
}

#[test]
fn folder_variables_input_shell_and_user_of_a_request_apply() {
    on_shared(async |sandbox| {
        let stdout = async |request: ExecuteRequest| {
            sandbox.execute(request).await.unwrap_or_else(|error| panic!("{error}")).stdout_lossy()
        };
        assert_eq!(stdout(ExecuteRequest::new("pwd").cwd("/tmp")).await, "/tmp\n");
        let home = "pwd; echo $HOME; stat -c %a .";
        assert_eq!(stdout(ExecuteRequest::new(home)).await, "/root\n/root\n700\n");
        let request = ExecuteRequest::new("echo $A,$B").env("A", "x y").env("B", "ä");
        assert_eq!(stdout(request).await, "x y,ä\n");
        assert_eq!(
            stdout(ExecuteRequest::new("cat").stdin("from the host")).await,
            "from the host"
        );
        // Nothing to read is an end of input, not a wait for ever.
        assert_eq!(stdout(ExecuteRequest::new("cat; echo done")).await, "done\n");
        let request = ExecuteRequest::new("readlink /proc/$$/exe; echo $0").shell("/bin/busybox");
        let applet = sandbox.execute(request).await.unwrap();
        assert_ne!(applet.exit_code, 0, "busybox has no option -c: {applet:?}");
        let request = ExecuteRequest::new("id -u; id -g").user("nobody");
        assert_ne!(stdout(request).await.lines().next(), Some("0"));
        assert_eq!(run(sandbox, "id -u").await, "0");
    });
}

#[test]
fn large_input_reaches_the_command() {
    on_shared(async |sandbox| {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let request = ExecuteRequest::new("cat").stdin(data.clone());
        assert!(sandbox.execute(request).await.unwrap().stdout == data);
        // A command that does not read its input still ends.
        let request = ExecuteRequest::new("true").stdin(data);
        assert_eq!(sandbox.execute(request).await.unwrap().exit_code, 0);
    });
}

#[test]
fn what_the_caller_got_wrong_is_a_clear_error() {
    on_shared(async |sandbox| {
        for (request, expect) in [
            (ExecuteRequest::new(""), "`command` is empty"),
            (ExecuteRequest::new("a\0b"), "NUL"),
            (ExecuteRequest::new("true").timeout(Duration::ZERO), "`timeout`"),
            (ExecuteRequest::new("x".repeat(100 << 20)), "104857600"),
            (ExecuteRequest::new("true").env("A=", "b"), "`A=`"),
        ] {
            let error = sandbox.execute(request).await.unwrap_err();
            assert!(error.to_string().contains(expect), "{error}");
            assert_eq!(error.kind(), ErrorKind::Value);
        }
        for request in [
            ExecuteRequest::new("true").user("no-such-user"),
            ExecuteRequest::new("true").cwd("/no/such/folder"),
            ExecuteRequest::new("true").shell("/no/such/shell"),
        ] {
            let error = sandbox.execute(request).await.unwrap_err();
            assert!(matches!(error, Error::AgentRefused { .. }), "{error}");
            assert!(error.to_string().contains("no"), "{error}");
        }
        assert_eq!(run(sandbox, "echo alive").await, "alive");
    });
}

#[test]
fn a_timeout_kills_the_whole_group() {
    on_shared(async |sandbox| {
        let start = Instant::now();
        let command = "echo before; (sleep 4711 & sleep 4711); sleep 4711";
        let request = ExecuteRequest::new(command).timeout(Duration::from_millis(1500));
        let result = sandbox.execute(request).await.unwrap();
        assert!(result.timed_out);
        assert_eq!(result.exit_code, -1);
        assert_eq!(result.stdout_lossy(), "before\n");
        assert!(result.stderr_lossy().contains("timed out"), "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        assert_eq!(count_in_guest(sandbox, "sleep 4711").await, 0);
    });
}

#[test]
fn a_dropped_call_kills_its_command() {
    on_shared(async |sandbox| {
        let call = sandbox.execute(ExecuteRequest::new("sleep 4712 & sleep 4712"));
        assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
        eventually("the command's end", Duration::from_secs(10), async || {
            count_in_guest(sandbox, "sleep 4712").await == 0
        })
        .await;
    });
}

#[test]
fn fifty_megabytes_arrive_complete_and_in_order() {
    on_shared(async |sandbox| {
        const SIZE: usize = 50_000_000;
        let (mut n_bytes, mut is_in_order) = (0usize, true);
        let start = Instant::now();
        let request =
            ExecuteRequest::new(format!("yes 0123456789abcde | head -c {SIZE}; echo end >&2"))
                .timeout(Duration::from_secs(120));
        let result = sandbox
            .stream(request, |stream, data: Bytes| {
                if stream == OutputStream::Stdout {
                    let expect = b"0123456789abcde\n";
                    is_in_order &= data
                        .iter()
                        .enumerate()
                        .all(|(index, byte)| *byte == expect[(n_bytes + index) % 16]);
                    n_bytes += data.len();
                }
                async { ControlFlow::Continue(()) }
            })
            .await
            .unwrap();
        let seconds = start.elapsed().as_secs_f64();
        println!("50 MB: {:.0} MB/s", SIZE as f64 / 1e6 / seconds);
        assert!(is_in_order);
        assert_eq!((n_bytes, result.stdout.len(), result.stdout_dropped), (SIZE, SIZE, 0));
        assert_eq!(result.stderr_lossy(), "end\n");
    });
}

#[test]
fn results_are_bounded_and_say_so() {
    on_shared(async |sandbox| {
        let request = ExecuteRequest::new("head -c 1000000 /dev/zero").max_output(1000);
        let result = sandbox.execute(request).await.unwrap();
        assert_eq!((result.stdout.len(), result.stdout_dropped), (1000, 999_000));
    });
}

#[test]
fn a_slow_receiver_slows_the_command_and_may_end_it() {
    on_shared(async |sandbox| {
        let mut n_chunks = 0;
        let request = ExecuteRequest::new("exec yes slow-receiver");
        let error = sandbox
            .stream(request, |_, _| {
                n_chunks += 1;
                let is_enough = n_chunks == 5;
                async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }
            })
            .await
            .unwrap_err();
        assert!(matches!(error, Error::OutputRefused), "{error}");
        // One that does not read holds up nobody else.
        assert_eq!(run(sandbox, "echo free").await, "free");
        eventually("the command's end", Duration::from_secs(10), async || {
            count_in_guest(sandbox, "yes slow-receiver").await == 0
        })
        .await;
    });
}

#[test]
fn a_hundred_commands_run_side_by_side() {
    on_shared(async |sandbox| {
        let start = Instant::now();
        // Each waits until all of them are there, so that none can end before the last began.
        let calls = (0..100).map(|number| async move {
            let command = format!(
                "mkdir -p /tmp/hundred; touch /tmp/hundred/{number}; \
                 until [ $(ls /tmp/hundred | wc -l) = 100 ]; do sleep 1; done; echo {number}"
            );
            let request = ExecuteRequest::new(command).timeout(Duration::from_secs(120));
            let result = sandbox.execute(request).await.unwrap();
            assert_eq!(result.stdout_lossy(), format!("{number}\n"));
        });
        let mut set = Vec::from_iter(calls.map(Box::pin));
        std::future::poll_fn(|context| {
            set.retain_mut(|call| call.as_mut().poll(context).is_pending());
            if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        eprintln!("a hundred commands: {:?}", start.elapsed());
        run(sandbox, "rm -r /tmp/hundred").await;
    });
}

#[test]
fn a_session_passes_both_ways_and_has_a_terminal() {
    on_shared(async |sandbox| {
        let request = ExecuteRequest::new("").timeout(Duration::from_secs(60));
        let pty = Pty { rows: 30, cols: 100, term: "xterm".into() };
        let (input, mut output) = sandbox.session(request, Some(pty)).await.unwrap();
        input.write("stty size; echo $((6*7))\n".into()).await.unwrap();
        let mut seen = String::new();
        while !seen.contains("42\r\n") {
            match output.next().await.unwrap() {
                Some(SessionEvent::Stdout(data)) => seen.push_str(&String::from_utf8_lossy(&data)),
                other => panic!("{other:?} after {seen}"),
            }
        }
        assert!(seen.contains("30 100"), "{seen}");
        input.resize(50, 120).await.unwrap();
        input.write("stty size; exit 3\n".into()).await.unwrap();
        let mut end = None;
        while let Some(event) = output.next().await.unwrap() {
            match event {
                SessionEvent::Stdout(data) => seen.push_str(&String::from_utf8_lossy(&data)),
                event => end = Some(event),
            }
        }
        assert!(seen.contains("50 120"), "{seen}");
        assert_eq!(end, Some(SessionEvent::Exit { exit_code: 3, timed_out: false }));
    });
}

#[test]
fn a_session_takes_signals_and_ends_when_dropped() {
    on_shared(async |sandbox| {
        let request = ExecuteRequest::new(
            "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.1; done",
        );
        let (input, mut output) = sandbox.session(request, None).await.unwrap();
        assert_eq!(output.next().await.unwrap(), Some(SessionEvent::Stdout("up\n".into())));
        input.signal(15).await.unwrap();
        let mut events = Vec::new();
        while let Some(event) = output.next().await.unwrap() {
            events.push(event);
        }
        assert!(events.contains(&SessionEvent::Stdout("got\n".into())), "{events:?}");
        let dropped = sandbox.session(ExecuteRequest::new("sleep 4713"), None).await.unwrap();
        assert_eq!(count_in_guest(sandbox, "sleep 4713").await, 1);
        drop(dropped);
        eventually("the command's end", Duration::from_secs(10), async || {
            count_in_guest(sandbox, "sleep 4713").await == 0
        })
        .await;
    });
}
