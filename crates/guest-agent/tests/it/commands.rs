//! What commands get, and what comes back.

use std::time::{Duration, Instant};

use agent_protocol::event::EventDecoder;
use agent_protocol::{ExecuteRequest, ExitReport, StreamEvent};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::harness::Agent;

#[tokio::test]
async fn exit_codes_are_the_shell_s() {
    let agent = Agent::start();
    let client = agent.client().await;
    for (command, code) in [
        ("true", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("no-such-tool", 127),
    ] {
        assert_eq!(client.sh(command).await["exit_code"], code, "{command}");
    }
}

#[tokio::test]
async fn environment_directory_shell_and_input_are_those_of_the_request() {
    let agent = Agent::start();
    let client = agent.client().await;
    let answer = client
        .execute(json!({
            "command": "pwd; echo $X; echo $HOME; echo $LANG; cat; shopt -q extglob; echo $BASH",
            "cwd": "/usr", "shell": "/bin/bash", "env": {"X": "a b"}, "stdin_base64": STANDARD.encode("input\n"),
        }))
        .await;
    assert_eq!(answer["stdout"], "/usr\na b\n/root\nC.UTF-8\ninput\n/bin/bash\n", "{answer}");
    // Signals, limits and descriptors are a fresh process's: nothing of the agent leaks.
    let answer = client.sh("ls /proc/self/fd | wc -l; ulimit -Sn; sed -n 's/SigIgn.*\\(.\\{7\\}\\)$/\\1/p; s/SigBlk.*\\(.\\{7\\}\\)$/\\1/p' /proc/self/status; cat").await;
    assert_eq!(answer["stdout"], "4\n1024\n0000000\n0000000\n", "{answer}");
}

#[tokio::test]
async fn another_user_is_another_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let agent = Agent::start();
    let client = agent.client().await;
    for user in ["nobody", "65534"] {
        let answer = client
            .execute(json!({ "command": "id -un; id -u; id -G; echo $USER; cat /etc/shadow", "user": user }))
            .await;
        assert_eq!(answer["stdout"], "nobody\n65534\n65534\nnobody\n", "{answer}");
        assert_ne!(answer["exit_code"], 0, "{answer}");
    }
    // A directory that root may enter and the user may not.
    let (status, answer) = client
        .post("/execute", json!({ "command": "pwd", "user": "nobody", "cwd": "/root" }))
        .await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test]
async fn every_byte_survives() {
    let agent = Agent::start();
    let client = agent.client().await;
    let all: Vec<u8> = (0..=255).collect();
    let answer = client.execute(json!({ "command": "cat; cat /proc/self/comm >&2", "stdin_base64": STANDARD.encode(&all) })).await;
    assert_eq!(answer["stdout_base64"], STANDARD.encode(&all));
    assert_eq!(answer["stderr"], "cat\n");
    assert!(answer.get("stderr_base64").is_none(), "{answer}");
}

#[tokio::test]
async fn output_over_the_limit_is_cut_with_a_marker() {
    let agent = Agent::start();
    let client = agent.client().await;
    let answer = client
        .execute(json!({ "command": "head -c 3000000 /dev/zero | tr '\\0' x; echo e >&2", "max_output_bytes": 1000 }))
        .await;
    assert_eq!(answer["stdout_dropped_bytes"], 2_999_000);
    let stdout = answer["stdout"].as_str().unwrap();
    assert!(stdout.starts_with(&"x".repeat(1000)));
    assert!(stdout.ends_with("[quicksand: output cut after 1000 bytes, 2999000 more dropped]\n"));
    assert_eq!(answer["stderr"], "e\n");
    assert_eq!(answer["exit_code"], 0);
}

#[tokio::test]
async fn a_background_process_does_not_delay_the_result() {
    let agent = Agent::start();
    let client = agent.client().await;
    let start = Instant::now();
    let answer = client.sh("sleep 30.25 & echo done").await;
    assert_eq!(answer["stdout"], "done\n");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // It goes on, as after any shell.
    crate::harness::there("30.25").await;
    // One that writes without end does not keep the result either.
    let start = Instant::now();
    let answer = client.sh("yes & echo first; exit 4").await;
    assert_eq!(answer["exit_code"], 4);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    client.sh("pkill -x yes; pkill -f 30.25").await;
}

#[tokio::test]
async fn a_background_process_goes_on_writing_after_the_result() {
    let agent = Agent::start();
    let client = agent.client().await;
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    // More than a pipe holds, on both streams, each time round.
    let command = format!(
        "(n=0; while :; do n=$((n + 1)); head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2; \
         echo $n > {0}.new; mv {0}.new {0}; sleep 0.01; done) & echo $! > {0}.pid; echo done",
        count.display()
    );
    let mut session = client.session(&ExecuteRequest::new(&*command)).await;
    while session.next().await.is_some() {}
    let read = || fs_err::read_to_string(&count).unwrap_or_default().trim().parse().unwrap_or(0u32);
    let before = read();
    let start = Instant::now();
    while read() < before + 50 {
        assert!(start.elapsed() < Duration::from_secs(60), "it stands still at {}", read());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Others are served meanwhile, and its descriptors go with it.
    assert_eq!(client.sh("echo ok").await["stdout"], "ok\n");
    let descriptors = || fs_err::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    let with = descriptors();
    client.sh(&format!("kill $(cat {}.pid)", count.display())).await;
    let start = Instant::now();
    while descriptors() + 2 > with {
        assert!(start.elapsed() < Duration::from_secs(20), "{} of {with}", descriptors());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn calls_that_are_cancelled_while_the_agent_stands_still_do_not_end_the_connection() {
    let agent = Agent::start();
    let client = agent.client().await;
    let signal = |number| {
        // SAFETY: the process is our own child.
        unsafe { libc::kill(agent.pid() as i32, number) };
    };
    signal(libc::SIGSTOP);
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.sh("sleep 73.5").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for call in calls {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    signal(libc::SIGCONT);
    assert_eq!(client.sh("echo alive").await["stdout"], "alive\n");
    crate::harness::gone("73.5").await;
}

#[tokio::test]
async fn a_hundred_commands_run_side_by_side() {
    let agent = Agent::start();
    let client = agent.client().await;
    let start = Instant::now();
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let answer = client.sh(&format!("sleep 1; echo {number}; exit {number}")).await;
                assert_eq!(answer["stdout"], format!("{number}\n"));
                assert_eq!(answer["exit_code"], number);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(30), "one after another: {:?}", start.elapsed());
}

#[tokio::test]
async fn exclusive_commands_run_alone() {
    let agent = Agent::start();
    let client = agent.client().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("busy").display().to_string();
    let command = format!("mkdir {file} || exit 9; sleep 0.1; rmdir {file}");
    let tasks: Vec<_> = (0..5)
        .map(|_| {
            let (client, command) = (client.clone(), command.clone());
            tokio::spawn(async move {
                client.execute(json!({ "command": command, "exclusive": true })).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap()["exit_code"], 0);
    }
    // One that waits longer than its timeout is a timeout.
    let busy = tokio::spawn({
        let client = client.clone();
        async move { client.sh("sleep 1").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer =
        client.execute(json!({ "command": "true", "exclusive": true, "timeout": 0.2 })).await;
    assert_eq!(
        (&answer["exit_code"], &answer["timed_out"]),
        (&json!(-1), &json!(true)),
        "{answer}"
    );
    busy.await.unwrap();
}

#[tokio::test]
async fn zombies_are_reaped() {
    let agent = Agent::start();
    let client = agent.client().await;
    client.sh("for i in 1 2 3 4 5; do (sh -c 'sleep 0.05 & exit' &) ; done").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let children = fs_err::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid()));
    assert_eq!(children.unwrap().trim(), "");
}

async fn events(agent: &Agent, command: &str) -> Vec<(Duration, StreamEvent)> {
    let client = agent.client().await;
    let start = Instant::now();
    let body = json!({ "command": command }).to_string();
    let mut body = client.send("POST", "/execute_stream", body.as_bytes()).await.into_body();
    let mut decoder = EventDecoder::new();
    let mut events = Vec::new();
    while let Some(frame) = body.frame().await {
        let decoded = decoder.feed(&frame.unwrap().into_data().unwrap()).unwrap();
        events.extend(decoded.into_iter().map(|event| (start.elapsed(), event)));
    }
    events
}

#[tokio::test]
async fn events_come_as_the_command_writes_and_not_by_lines() {
    let agent = Agent::start();
    let events = events(&agent, "printf a; sleep 0.7; printf b >&2; sleep 0.1; exit 5").await;
    let kinds: Vec<&StreamEvent> = events.iter().map(|(_, event)| event).collect();
    let exit = StreamEvent::Exit(ExitReport { exit_code: 5, ..ExitReport::default() });
    assert_eq!(kinds, [&StreamEvent::Stdout("a".into()), &StreamEvent::Stderr("b".into()), &exit]);
    assert!(events[1].0 - events[0].0 > Duration::from_millis(400), "{events:?}");
}

#[tokio::test]
async fn characters_are_not_split_between_events() {
    let agent = Agent::start();
    // 0xe2 0x82 0xac is the euro sign, written a byte at a time.
    let events = events(&agent, r"printf '\342'; sleep 0.1; printf '\202'; sleep 0.1; printf '\254\377'; sleep 0.1; printf '\342'").await;
    let stdout: Vec<&[u8]> = events
        .iter()
        .filter_map(|(_, event)| match event {
            StreamEvent::Stdout(bytes) => Some(&bytes[..]),
            _ => None,
        })
        .collect();
    assert_eq!(stdout, [&[0xe2, 0x82, 0xac, 0xff][..], &[0xe2]]);
}

#[tokio::test]
async fn a_large_stream_is_complete_to_the_byte() {
    let agent = Agent::start();
    let events = events(&agent, "seq 1 2000000").await;
    let mut all = Vec::new();
    for (_, event) in &events {
        if let StreamEvent::Stdout(bytes) = event {
            all.extend_from_slice(bytes);
        }
    }
    let expect: String = (1..=2_000_000).map(|number| format!("{number}\n")).collect();
    assert!(all == expect.as_bytes(), "{} bytes instead of {}", all.len(), expect.len());
}
