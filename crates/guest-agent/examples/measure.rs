//! Measures an agent behind a Unix socket (QEMU's end of the virtio-serial port, or `serve --unix`):
//! `measure SOCKET TOKEN [N]`. Prints what a process costs the guest itself, what a session of
//! `true` costs from here, and how fast output flows.

use std::time::Instant;

use agent_protocol::{ExecuteRequest, FrameDecoder, FrameKind, frame, limits};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};

type Client = SendRequest<Full<Bytes>>;
type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, socket, token, rest @ ..] = &arguments[..] else {
        return Err("usage: measure SOCKET TOKEN [N]".into());
    };
    let n_runs: usize = rest.first().map_or(Ok(200), |text| text.parse())?;
    let stream = tokio::net::UnixStream::connect(socket).await?;
    let (mut client, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::MAX_HTTP2_FRAME)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);

    let ping = Request::builder()
        .uri("http://agent/ping")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::default())?;
    let ping = client.send_request(ping).await?.into_body().collect().await?.to_bytes();
    println!("ping: {}", String::from_utf8_lossy(&ping));
    let pid: agent_protocol::PingResponse = serde_json::from_slice(&ping)?;

    // Both in turns of a few, so that a busy host disturbs both alike.
    const TURN: usize = 10;
    let command = format!("exec /proc/{}/exe measure-spawn {TURN}", pid.pid);
    let (mut own, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..n_runs.div_ceil(TURN) {
        let (text, _) = run(&mut client, token, &command).await?;
        own.extend(String::from_utf8(text)?.lines().filter_map(|line| line.parse::<f64>().ok()));
        for _ in 0..TURN {
            let start = Instant::now();
            run(&mut client, token, "true").await?;
            ours.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let [own, ours] = [quantiles(own), quantiles(ours)];
    println!("guest's own spawn of sh -c true: p50 {:.0} us, p99 {:.0} us", own.0, own.1);
    println!("session of true:                 p50 {:.0} us, p99 {:.0} us", ours.0, ours.1);
    println!("ratio of the medians:            {:.2}", ours.0 / own.0);

    for command in [
        "head -c 20000000 /dev/zero",
        "dd if=/dev/zero bs=256k count=200 2>/dev/null",
        "dd if=/dev/zero of=/dev/null bs=256k count=200 2>&1",
    ] {
        let start = Instant::now();
        let (_, n_bytes) = run(&mut client, token, command).await?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{command}: {n_bytes} bytes, {:.0} MB/s", n_bytes as f64 / 1e6 / seconds);
    }
    Ok(())
}

/// Runs a command; the first mebibyte of its output, and the length of all of it.
async fn run(client: &mut Client, token: &str, command: &str) -> Result<(Vec<u8>, usize), Failure> {
    let start = serde_json::to_vec(&ExecuteRequest::new(command))?;
    let mut body = frame::encode(FrameKind::Start, &start).to_vec();
    body.extend(frame::encode(FrameKind::StdinEof, b""));
    let request = Request::builder()
        .method(Method::POST)
        .uri("http://agent/session")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::from(body))?;
    let mut body = client.send_request(request).await?.into_body();
    let mut decoder = FrameDecoder::new();
    let (mut output, mut n_bytes) = (Vec::new(), 0);
    while let Some(data) = body.frame().await {
        let Ok(data) = data?.into_data() else { continue };
        decoder.feed(data);
        while let Some(frame) = decoder.next_frame()? {
            match frame.kind {
                FrameKind::Stdout => {
                    n_bytes += frame.payload.len();
                    if output.len() < 1 << 20 {
                        output.extend_from_slice(&frame.payload);
                    }
                }
                FrameKind::Exit => return Ok((output, n_bytes)),
                _ => return Err(String::from_utf8_lossy(&frame.payload).into()),
            }
        }
    }
    Err("the session ended without an exit frame".into())
}

/// Median and 99th percentile.
fn quantiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part) as usize];
    (at(0.5), at(0.99))
}
