//! Timeouts, cancellation and back-pressure: nothing is left behind, nothing piles up.

use std::time::{Duration, Instant};

use agent_protocol::{ExecuteRequest, FrameKind};
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::harness::{Agent, gone, is_running, there};

#[tokio::test]
async fn a_timeout_kills_the_command_and_all_that_it_started() {
    let agent = Agent::start();
    let client = agent.client().await;
    let start = Instant::now();
    // A child, one in a session of its own, one that ignores SIGTERM; none may stay.
    let command =
        "trap '' TERM; echo before; setsid sleep 71.125 & sleep 71.125 & sleep 71.125; echo after";
    let answer = client.execute(json!({ "command": command, "timeout": 0.5 })).await;
    let elapsed = start.elapsed();
    assert!(
        elapsed > Duration::from_millis(490) && elapsed < Duration::from_secs(3),
        "{elapsed:?}"
    );
    assert_eq!(answer["exit_code"], -1);
    assert_eq!(answer["timed_out"], true);
    assert_eq!(answer["stdout"], "before\n");
    assert_eq!(answer["stderr"], "Command timed out after 0.5 s\n");
    gone("71.125").await;
    // A command within its time is left alone.
    let answer = client.execute(json!({ "command": "sleep 0.1; echo ok", "timeout": 20 })).await;
    assert_eq!(answer["stdout"], "ok\n");
}

/// The same where there is cgroup2: descendants that left session and parents are reached too.
#[tokio::test]
async fn a_control_group_reaches_those_who_left() {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let usable = |root: &&&str| {
        let probe = format!("{root}/quicksand-probe");
        let made = fs_err::create_dir(&probe).is_ok();
        let kills = fs_err::metadata(format!("{probe}/cgroup.kill")).is_ok();
        made && fs_err::remove_dir(&probe).is_ok() && kills
    };
    let Some(root) = roots.iter().find(usable) else {
        eprintln!("skipped: no cgroup2 that this user may write to");
        return;
    };
    let agent = Agent::with(&["--token", crate::harness::TOKEN, "--cgroup", root]);
    let client = agent.client().await;
    let answer = client.sh("cat /proc/self/cgroup").await;
    assert!(answer["stdout"].as_str().unwrap().contains("/quicksand/command-"), "{answer}");
    let command = "(setsid sh -c 'setsid sleep 72.125 & exit' &); sleep 0.2; sleep 72.125";
    client.execute(json!({ "command": command, "timeout": 0.5 })).await;
    gone("72.125").await;
    // The group is used again, and one with a living process is not.
    client.sh("setsid sleep 72.25 &").await;
    there("72.25").await;
    let answer = client.execute(json!({ "command": "sleep 9; true", "timeout": 0.2 })).await;
    assert_eq!(answer["exit_code"], -1);
    assert!(is_running("72.25"), "a timeout killed another command's process");
    client.sh("pkill -f 'sleep 72.25'").await;
}

#[tokio::test]
async fn a_host_that_leaves_takes_its_commands_along() {
    let agent = Agent::start();
    for path in ["/execute", "/execute_stream"] {
        let client = agent.client().await;
        let request = json!({ "command": "sleep 73.125" }).to_string();
        let task = tokio::spawn({
            let client = client.clone();
            async move {
                let response = client.send("POST", path, request.as_bytes()).await;
                response.into_body().collect().await
            }
        });
        there("73.125").await;
        client.leave();
        task.abort();
        gone("73.125").await;
    }
}

#[tokio::test]
async fn a_reset_stream_kills_only_its_own_command() {
    let agent = Agent::start();
    let client = agent.client().await;
    let kept = client.session(&ExecuteRequest::new("sleep 74.25")).await;
    let dropped = client.session(&ExecuteRequest::new("sleep 74.125")).await;
    there("74.125").await;
    there("74.25").await;
    drop(dropped);
    gone("74.125").await;
    assert!(is_running("74.25"));
    drop(kept);
    gone("74.25").await;
}

/// HTTP/1.1 has no stream to reset: the connection is closed.
#[tokio::test]
async fn a_closed_connection_kills_over_http1_too() {
    use std::io::Write as _;
    let agent = Agent::start();
    for path in ["/execute", "/execute_stream"] {
        let body = r#"{"command":"sleep 75.125"}"#;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", agent.port)).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            crate::harness::TOKEN,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        there("75.125").await;
        drop(stream);
        gone("75.125").await;
    }
}

#[tokio::test]
async fn a_host_that_does_not_read_stops_the_command_and_not_the_agent() {
    let agent = Agent::start();
    let client = agent.client().await;
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("count").display().to_string();
    let command = format!(
        "i=0; while :; do head -c 1000000 /dev/zero; i=$((i+1)); echo $i > {counter}; done"
    );
    let mut session = client.session(&ExecuteRequest::new(command)).await;
    let read = || fs_err::read_to_string(&counter).ok().and_then(|text| text.trim().parse().ok());
    let mut before: u64 = 0;
    let mut still = 0;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = read().unwrap_or(before);
        still = if now == before && now > 0 { still + 1 } else { 0 };
        before = now;
        if still == 5 {
            break;
        }
    }
    assert_eq!(still, 5, "the command goes on although nobody reads");
    // Windows, buffers and the pipe, and not more.
    assert!(before < 40, "{before} MB are somewhere");
    let status = fs_err::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident < 40_000, "the agent holds {resident} kB");
    // Others are served meanwhile, and a timeout counts although nobody reads.
    assert_eq!(agent.client().await.sh("echo ok").await["stdout"], "ok\n");
    // Once somebody reads, it goes on.
    let mut n_bytes = 0;
    while n_bytes < 100_000_000 {
        n_bytes += session.next().await.unwrap().payload.len();
    }
    session.sender.send(FrameKind::Signal, br#"{"signal":9}"#).await;
    let (_, _, exit) = session.finish().await;
    assert_eq!((exit.exit_code, exit.signal), (137, Some(9)));
}

#[tokio::test]
async fn a_timeout_counts_although_nobody_reads() {
    let agent = Agent::start();
    let client = agent.client().await;
    let request =
        ExecuteRequest { timeout: Some(0.5), ..ExecuteRequest::new("cat /dev/zero; sleep 76.125") };
    let session = client.session(&request).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let children = format!("/proc/{0}/task/{0}/children", agent.pid());
    assert_eq!(fs_err::read_to_string(children).unwrap().trim(), "", "the command lives on");
    let (_, stderr, exit) = session.finish().await;
    assert!(exit.timed_out && exit.exit_code == -1);
    assert_eq!(stderr, b"Command timed out after 0.5 s\n");
}
