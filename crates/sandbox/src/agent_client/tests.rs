//! Agents that break off, lie or stay silent, against the client alone.

use super::*;
use agent_protocol::resync::{Scan, Scanner, Secret, answer};
use agent_protocol::{ReadFilesRequest, WriteFilesRequest};
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Notify;

/// Answers every request of one connection with a ping's answer.
async fn serve(stream: UnixStream) {
    let service = service_fn(|_| async {
        let answer = r#"{"pong": true, "pid": 1, "resync": 2}"#;
        Ok::<_, Infallible>(Response::new(http_body_util::Full::new(Bytes::from(answer))))
    });
    let _ = server::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An agent whose connection turns into noise each time that it is told, and that takes requests to
/// begin again. Counts them.
async fn fragile(stream: UnixStream, breaks: Arc<Notify>, n_begun: Arc<AtomicUsize>) {
    let socket = stream.into_std().unwrap();
    let dup = || UnixStream::from_std(socket.try_clone().unwrap()).unwrap();
    loop {
        let serving = tokio::spawn(serve(dup()));
        breaks.notified().await;
        serving.abort();
        let _ = serving.await;
        let mut raw = dup();
        raw.write_all(&[0xff; 1000]).await.unwrap();
        let mut scanner = Scanner::new(vec![Secret::new(b"token")]);
        let mut buffer = [0; 100];
        let request = loop {
            let length = raw.read(&mut buffer).await.unwrap();
            match scanner.scan(&buffer[..length]) {
                Scan::Request(request, rest) => {
                    assert_eq!(rest, b"", "the host waits for the answer");
                    break request;
                }
                Scan::Data | Scan::Begun => assert_ne!(length, 0),
            }
        };
        n_begun.fetch_add(1, Ordering::SeqCst);
        raw.write_all(b"of the past").await.unwrap();
        raw.write_all(&answer(&request.nonce)).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_opened_again_once_for_all_that_call() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (breaks, n_begun) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(fragile(theirs, breaks.clone(), n_begun.clone()));
    let client = AgentClient::on_stream(ours, "token", 32 << 20).await.unwrap();
    client.ping().await.unwrap();
    for round in 1..=3 {
        breaks.notify_one();
        let Wire::Stream(stream) = &client.wire else { unreachable!() };
        let (mut sender, _) = stream.sender();
        while sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.ping_within(Duration::from_secs(20)).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(n_begun.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn an_agent_that_is_gone_is_an_error_at_once() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = AgentClient::on_stream(ours, "token", 32 << 20).await.unwrap();
    drop(theirs);
    for _ in 0..3 {
        let error = client.ping_within(Duration::from_secs(20)).await.unwrap_err();
        assert!(matches!(error, Error::AgentBroken { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_set_the_clock_is_asked_once() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let n_asked = Arc::new(AtomicUsize::new(0));
    let n_heard = Arc::clone(&n_asked);
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let status = match request.uri().path() {
                paths::CLOCK if n_heard.fetch_add(1, Ordering::SeqCst) > 0 => 404,
                _ => 200,
            };
            async move { Response::builder().status(status).body(String::new()) }
        });
        let _ = server::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(theirs), service)
            .await;
    });
    let client = AgentClient::on_stream(ours, "token", 32 << 20).await.unwrap();
    // One that does, and then one that does not.
    assert!(client.set_clock().await);
    for _ in 0..3 {
        assert!(!client.set_clock().await);
    }
    assert_eq!(n_asked.load(Ordering::SeqCst), 2);
}

/// A port that takes connections, says these bytes on each, and nothing more.
async fn mute(words: &'static [u8]) -> AgentClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(words).await.unwrap();
            held.push(stream);
        }
    });
    AgentClient::on_port(port, "token")
}

/// Runs a call against the clock of the test, which jumps whenever all wait.
async fn within<T>(limit: u64, call: impl Future<Output = Result<T>>) -> Error {
    let limit = Duration::from_secs(limit);
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.err().expect("nobody answers"),
        Err(_) => panic!("the call is still waiting after {limit:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_to_a_silent_agent_ends() {
    let client = mute(b"").await;
    let silent = |error: Error| assert!(matches!(error, Error::GuestSilent { .. }), "{error}");
    let write = WriteFilesRequest { path: "/x".into(), name: None };
    // The source has given all that it has: what is waited for is the agent.
    let (_, frames) = mpsc::channel(1);
    // The clock also jumps while a connection is being made, so that each limit is a wide one.
    silent(within(121, client.write_files(&write, frames)).await);
    let read = ReadFilesRequest { path: "/x".into(), tree: false };
    silent(within(121, async { client.read_files(&read).await.map(|_| ()) }).await);
    let request = crate::ExecuteRequest::new("true");
    let opening = client.session(&request, None, true);
    let limit = Duration::from_secs(30);
    silent(within(121, async { client.while_alive(limit, opening).await.map(|_| ()) }).await);
    silent(within(121, client.resync()).await);
    silent(within(121, client.freeze()).await);
}

#[tokio::test]
async fn a_refusal_without_its_text_is_a_refusal_in_time() {
    let client = mute(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 9\r\n\r\n").await;
    let read = ReadFilesRequest { path: "/x".into(), tree: false };
    // By the real clock, both at once: the answer's head has arrived before any limit.
    let (read, ping) = tokio::join!(
        within(30, async { client.read_files(&read).await.map(|_| ()) }),
        within(30, client.ping()),
    );
    assert!(matches!(read, Error::GuestFile { .. } | Error::AgentRefused { .. }), "{read}");
    let error = ping;
    assert!(matches!(error, Error::AgentRefused { status: 500, .. }), "{error}");
}
