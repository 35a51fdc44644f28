//! An agent of one test: the real binary as a child process, and a client for it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_protocol::{ExecuteRequest, ExitReport, Frame, FrameDecoder, FrameKind, frame, limits};
use bytes::Bytes;
use http_body_util::{BodyExt as _, channel::Channel};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

pub const TOKEN: &str = "a-token-for-tests";

pub struct Agent {
    process: Child,
    folder: tempfile::TempDir,
    pub port: u16,
}

pub type Body = Channel<Bytes>;

impl Agent {
    pub fn start() -> Self {
        Self::with(&["--token", TOKEN])
    }

    // The agent is not ours to launch through the wrapper of another crate.
    #[allow(clippy::disallowed_methods)]
    pub fn with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let agent = env!("CARGO_BIN_EXE_quicksand-agent");
        let mut command = if rustix::process::geteuid().is_root() {
            Command::new(agent)
        } else {
            // The agent is root in its guest: here it is that of a user namespace, with a home of its own.
            let home = "mount -t tmpfs tmpfs /root && exec \"$0\" \"$@\"";
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", home, agent]);
            command
        };
        let mut process = command
            .arg("serve")
            .args(arguments)
            .args(["--tcp", &port.to_string(), "--unix"])
            .arg(folder.path().join("agent.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), agent_protocol::READY_LINE);
        Self { process, folder, port }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub async fn client(&self) -> Client {
        let stream = tokio::net::UnixStream::connect(self.folder.path().join("agent.sock"));
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_frame_size(limits::MAX_HTTP2_FRAME)
            .handshake(TokioIo::new(stream.await.unwrap()))
            .await
            .unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Client { sender, connection: connection.abort_handle() }
    }

    /// A request over HTTP/1.1, byte by byte as written; the whole answer.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Body>,
    connection: tokio::task::AbortHandle,
}

impl Client {
    /// Breaks the connection off.
    pub fn leave(self) {
        self.connection.abort();
    }

    pub async fn send(&self, method: &str, path: &str, body: &[u8]) -> Response<Incoming> {
        let (mut sender, channel) = Body::new(4);
        let request = Request::builder()
            .method(method)
            .uri(format!("http://agent{path}"))
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(channel)
            .unwrap();
        let body = Bytes::copy_from_slice(body);
        tokio::spawn(async move {
            if !body.is_empty() {
                let _ = sender.send_data(body).await;
            }
        });
        self.sender.clone().send_request(request).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.send("POST", path, body.to_string().as_bytes()).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            panic!("no JSON: {}", String::from_utf8_lossy(&bytes));
        });
        (status, value)
    }

    pub async fn execute(&self, request: Value) -> Value {
        let (status, value) = self.post("/execute", request).await;
        assert_eq!(status, 200, "{value}");
        value
    }

    pub async fn sh(&self, command: &str) -> Value {
        self.execute(json!({ "command": command })).await
    }

    pub async fn session(&self, request: &ExecuteRequest) -> Session {
        let (sender, channel) = Body::new(4);
        let http = Request::builder()
            .method("POST")
            .uri("http://agent/session")
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(channel)
            .unwrap();
        let mut sender = Sender(sender);
        sender.send(FrameKind::Start, &serde_json::to_vec(request).unwrap()).await;
        let response = self.sender.clone().send_request(http).await.unwrap();
        assert_eq!(response.status(), 200);
        Session {
            sender,
            output: Output { body: response.into_body(), decoder: FrameDecoder::new() },
        }
    }
}

pub struct Sender(http_body_util::channel::Sender<Bytes>);

impl Sender {
    pub async fn send(&mut self, kind: FrameKind, payload: &[u8]) {
        self.0.send_data(frame::encode(kind, payload)).await.unwrap();
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.send_data(Bytes::copy_from_slice(bytes)).await.unwrap();
    }
}

pub struct Session {
    pub sender: Sender,
    output: Output,
}

impl Session {
    /// Both directions apart.
    pub fn split(self) -> (Sender, Output) {
        (self.sender, self.output)
    }

    pub async fn next(&mut self) -> Option<Frame> {
        self.output.next().await
    }

    pub async fn read_until(&mut self, text: &str) -> String {
        self.output.read_until(text).await
    }

    /// Output of both streams until the end; the other direction stays open until then.
    pub async fn finish(self) -> (Vec<u8>, Vec<u8>, ExitReport) {
        let (_sender, output) = self.split();
        output.finish().await
    }
}

pub struct Output {
    body: Incoming,
    decoder: FrameDecoder,
}

impl Output {
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let data = self.body.frame().await?.unwrap().into_data().unwrap();
            self.decoder.feed(data);
        }
    }

    /// Output of both streams until the end.
    pub async fn finish(mut self) -> (Vec<u8>, Vec<u8>, ExitReport) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let frame = self.next().await.expect("an exit frame is last");
            match frame.kind {
                FrameKind::Stdout => stdout.extend_from_slice(&frame.payload),
                FrameKind::Stderr => stderr.extend_from_slice(&frame.payload),
                FrameKind::Exit => {
                    let exit = serde_json::from_slice(&frame.payload).unwrap();
                    assert!(self.next().await.is_none(), "nothing follows an exit frame");
                    return (stdout, stderr, exit);
                }
                kind => panic!("{kind:?}: {}", String::from_utf8_lossy(&frame.payload)),
            }
        }
    }

    /// Reads standard output until it contains `text`.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let frame = self.next().await.unwrap_or_else(|| panic!("`{text}` not in `{seen}`"));
            assert_eq!(frame.kind, FrameKind::Stdout, "`{text}` not in `{seen}`");
            seen += &String::from_utf8_lossy(&frame.payload);
        }
        seen
    }
}

/// Whether a process that ends with this argument is alive.
pub fn is_running(marker: &str) -> bool {
    fs_err::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs_err::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.trim_ascii_end().ends_with(format!("{marker}\0").as_bytes()))
    })
}

/// Waits until no process ends with this argument.
pub async fn gone(marker: &str) {
    for _ in 0..300 {
        if !is_running(marker) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a process with `{marker}` is still alive");
}

/// Waits until a process ends with this argument.
pub async fn there(marker: &str) {
    for _ in 0..300 {
        if is_running(marker) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no process with `{marker}` came up");
}
