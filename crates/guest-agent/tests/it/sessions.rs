//! Full duplex sessions, with and without a terminal.

use std::time::Duration;

use agent_protocol::{ErrorResponse, ExecuteRequest, FrameKind, GuestText, PtyRequest, frame};

use crate::harness::{Agent, Session};

#[tokio::test]
async fn input_and_output_flow_both_ways() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut session = client.session(&ExecuteRequest::new("cat; echo end >&2; exit 6")).await;
    for text in ["one\n", "two\n"] {
        session.sender.send(FrameKind::Stdin, text.as_bytes()).await;
        assert_eq!(session.read_until(text).await, text);
    }
    session.sender.send(FrameKind::StdinEof, b"").await;
    let (stdout, stderr, exit) = session.finish().await;
    assert_eq!((&stdout[..], &stderr[..], exit.exit_code), (&b""[..], &b"end\n"[..], 6));
}

#[tokio::test]
async fn large_input_comes_back_to_the_byte() {
    let agent = Agent::start();
    let client = agent.client().await;
    let data: Vec<u8> =
        (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let session = client.session(&ExecuteRequest::new("cat; wc -c < /dev/null >&2")).await;
    let (mut sender, session) = session.split();
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        for chunk in sent.chunks(700_001) {
            sender.send(FrameKind::Stdin, chunk).await;
        }
        sender.send(FrameKind::StdinEof, b"").await;
    });
    let (stdout, stderr, exit) = session.finish().await;
    writer.await.unwrap();
    assert_eq!((&stderr[..], exit.exit_code), (&b"0\n"[..], 0));
    assert!(stdout == data, "{} bytes instead of {}", stdout.len(), data.len());
}

#[tokio::test]
async fn frames_may_be_cut_anywhere() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut session = client.session(&ExecuteRequest::new("cat")).await;
    for byte in frame::encode(FrameKind::Stdin, b"abc") {
        session.sender.send_bytes(&[byte]).await;
    }
    session.read_until("abc").await;
    session.sender.send(FrameKind::Signal, br#"{"signal":15}"#).await;
    let (_, _, exit) = session.finish().await;
    assert_eq!((exit.exit_code, exit.signal), (143, Some(15)));
}

#[tokio::test]
async fn signals_pass_by_input_that_nobody_reads() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut session = client.session(&ExecuteRequest::new("echo up; sleep 60")).await;
    session.read_until("up").await;
    session.sender.send(FrameKind::Stdin, &vec![0; 500_000]).await;
    session.sender.send(FrameKind::Signal, br#"{"signal":2}"#).await;
    let (_, _, exit) = session.finish().await;
    assert_eq!(exit.exit_code, 130);
}

async fn error_of(mut session: Session) -> ErrorResponse {
    loop {
        let frame = session.next().await.expect("an error frame");
        if frame.kind == FrameKind::Error {
            assert!(session.next().await.is_none(), "nothing follows an error frame");
            return serde_json::from_slice(&frame.payload).unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_start_comes_as_an_error_frame() {
    let agent = Agent::start();
    let client = agent.client().await;
    let request = |cwd: Option<&str>, shell: Option<&str>, user: Option<&str>| ExecuteRequest {
        cwd: cwd.map(GuestText::from),
        shell: shell.map(GuestText::from),
        user: user.map(str::to_owned),
        ..ExecuteRequest::new("true")
    };
    for (request, expect) in [
        (request(Some("/no/such"), None, None), "`/no/such`"),
        (request(None, Some("/no/sh"), None), "`/no/sh`"),
        (request(None, None, Some("nosuch")), "`nosuch`"),
        (ExecuteRequest::new(""), "`command` is empty"),
        (ExecuteRequest { timeout: Some(-1.0), ..ExecuteRequest::new("true") }, "`timeout`"),
    ] {
        let error = error_of(client.session(&request).await).await;
        assert!(error.error.contains(expect), "{}", error.error);
    }
}

#[tokio::test]
async fn frames_of_the_wrong_kind_end_the_session() {
    let agent = Agent::start();
    let client = agent.client().await;
    for (bytes, expect) in [
        (frame::encode(FrameKind::Stdout, b"x").to_vec(), "out of place"),
        (vec![99, 0, 0, 0, 0], "kind `99`"),
        (vec![1, 255, 255, 255, 255], "larger than"),
        (frame::encode(FrameKind::Resize, b"{}").to_vec(), "`rows`"),
        (frame::encode(FrameKind::Signal, br#"{"signal":0}"#).to_vec(), "`signal`"),
    ] {
        let mut session = client.session(&ExecuteRequest::new("sleep 77.125")).await;
        session.sender.send_bytes(&bytes).await;
        let error = error_of(session).await;
        assert!(error.error.contains(expect), "{}", error.error);
        crate::harness::gone("77.125").await;
    }
}

fn terminal(command: &str) -> ExecuteRequest {
    let pty = PtyRequest { rows: 24, cols: 80, term: Some("vt100".into()) };
    ExecuteRequest { pty: Some(pty), ..ExecuteRequest::new(command) }
}

#[tokio::test]
async fn a_terminal_has_a_size_and_a_type_and_can_be_resized() {
    let agent = Agent::start();
    let client = agent.client().await;
    let command =
        "tty; echo $TERM; stty size; trap 'stty size' WINCH; echo go; while :; do sleep 0.05; done";
    let mut session = client.session(&terminal(command)).await;
    let seen = session.read_until("go").await;
    assert!(seen.contains("/dev/pts/") && seen.contains("vt100\r\n24 80\r\n"), "{seen}");
    session.sender.send(FrameKind::Resize, br#"{"rows":50,"cols":132}"#).await;
    session.read_until("50 132").await;
    // Ctrl-C is a byte like any other; the terminal makes the signal of it.
    session.sender.send(FrameKind::Stdin, &[3]).await;
    let (_, _, exit) = session.finish().await;
    assert_eq!(exit.exit_code, 130);
}

#[tokio::test]
async fn an_interactive_shell_survives_ctrl_c_and_ends_with_exit() {
    let agent = Agent::start();
    let client = agent.client().await;
    let request = ExecuteRequest { shell: Some("/bin/bash".into()), ..terminal("") };
    let mut session = client.session(&request).await;
    session.sender.send(FrameKind::Stdin, b"sleep 78.125\n").await;
    crate::harness::there("78.125").await;
    session.sender.send(FrameKind::Stdin, &[3]).await;
    crate::harness::gone("78.125").await;
    session.sender.send(FrameKind::Stdin, b"echo st''ill; exit 9\n").await;
    session.read_until("still").await;
    let (_, _, exit) = session.finish().await;
    assert_eq!(exit.exit_code, 9);
}

#[tokio::test]
async fn the_end_of_input_is_ctrl_d_on_a_terminal() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut session = client.session(&terminal("cat; echo over")).await;
    session.sender.send(FrameKind::Stdin, b"line\n").await;
    session.read_until("line\r\nline\r\n").await;
    session.sender.send(FrameKind::StdinEof, b"").await;
    session.read_until("over").await;
    assert_eq!(session.finish().await.2.exit_code, 0);
}

#[tokio::test]
async fn a_background_process_on_the_terminal_does_not_delay_the_end() {
    let agent = Agent::start();
    let client = agent.client().await;
    let session = client.session(&terminal("setsid -f sleep 79.125; echo done")).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), session.finish()).await;
    let (stdout, _, exit) = ended.expect("the session ends with its command");
    assert_eq!((String::from_utf8_lossy(&stdout).as_ref(), exit.exit_code), ("done\r\n", 0));
    client.sh("pkill -f 'sleep 79.125'").await;
}
