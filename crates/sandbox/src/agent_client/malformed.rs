//! Agents that send what the protocol does not allow, over both transports: wrong lengths and kinds, answers
//! without end, text that is not UTF-8 or that steers a terminal. Every call ends in time with an error that shows
//! nothing of it.

use super::*;
use crate::ExecuteRequest;
use crate::agent_client::execution::{Discard, run_to_end};
use agent_protocol::frame::{FrameKind, encode};
use agent_protocol::{
    EntryKind, FileEntry, MountRequest, UnmountRequest, WriteFilesRequest, hole_payload,
};
use hyper::server::conn::{http1 as server1, http2 as server2};
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};

/// By then each call has ended; its own limits are shorter in tests.
const SOON: Duration = Duration::from_secs(20);
/// The most that an agent gets rid of before it is refused.
const MOST: usize = 4 * WINDOW as usize;
/// What one machine's agent can have the host hold.
const WINDOW: u32 = 32 << 20;
/// Clears the screen, sets the title, ends in half a character.
const STEERING: &[u8] = b"\x1b[2J\x1b]0;title\x07\x9b31m\xe2\x80\xae\xff\xc3";

/// A frame of 4096 bytes.
const fn noise(kind: FrameKind) -> [u8; 5 + 4096] {
    let mut noise = [b'x'; 5 + 4096];
    (noise[0], noise[1], noise[2], noise[3], noise[4]) = (kind as u8, 0, 16, 0, 0);
    noise
}
static OUTPUT: [u8; 5 + 4096] = noise(FrameKind::Stdout);
static DATA: [u8; 5 + 4096] = noise(FrameKind::Data);

/// What follows the pieces of an answer.
#[derive(Clone, Copy)]
enum End {
    Proper,
    BreaksOff,
    Silence,
    Endless(&'static [u8]),
}
use End::{BreaksOff, Endless, Proper, Silence};

/// The body of an answer. Counts what was taken of it.
struct Lie {
    pieces: VecDeque<Bytes>,
    end: End,
    taken: Arc<AtomicUsize>,
}

impl Body for Lie {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match (self.pieces.pop_front(), self.end) {
            (Some(piece), _) => piece,
            (None, Proper) => return Poll::Ready(None),
            (None, BreaksOff) => return Poll::Ready(Some(Err(io::ErrorKind::Other.into()))),
            (None, Silence) => return Poll::Pending,
            (None, Endless(piece)) => Bytes::from_static(piece),
        };
        self.taken.fetch_add(piece.len().max(1), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// What an agent says to everything but a ping.
#[derive(Clone)]
struct Answer {
    status: u16,
    pieces: Vec<Bytes>,
    end: End,
    /// Whether pings get it as well.
    to_pings: bool,
}

fn says(status: u16, pieces: &[&[u8]], end: End) -> Answer {
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    Answer { status, pieces, end, to_pings: false }
}

fn answer(of: &Answer, path: &str, taken: &Arc<AtomicUsize>) -> Response<Lie> {
    let truth = path == paths::PING && !of.to_pings;
    let (status, pieces, end) = match truth {
        true => (200, vec![Bytes::from_static(br#"{"pong": true, "pid": 1}"#)], Proper),
        false => (of.status, of.pieces.clone(), of.end),
    };
    let body = Lie { pieces: pieces.into(), end, taken: Arc::clone(taken) };
    Response::builder().status(status).body(body).unwrap()
}

/// Two clients of an agent that lies, one over each wire.
async fn clients(of: Answer, taken: &Arc<AtomicUsize>) -> [AgentClient; 2] {
    let service = {
        let taken = Arc::clone(taken);
        move |request: Request<Incoming>| {
            let response = answer(&of, request.uri().path(), &taken);
            async move {
                tokio::spawn(read_bounded(request.into_body(), 1 << 20));
                Ok::<_, Infallible>(response)
            }
        }
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let on_stream = service.clone();
    tokio::spawn(async move {
        let serving = server2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(theirs), service_fn(on_stream));
        let _ = serving.await;
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = server1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(service.clone()));
            tokio::spawn(serving);
        }
    });
    [
        AgentClient::on_stream(ours, "token", WINDOW).await.unwrap(),
        AgentClient::on_port(port, "token"),
    ]
}

/// What is asked of an agent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Ping,
    Execute,
    Read,
    Write,
    Mount,
    Unmount,
    Freeze,
}
use Call::{Execute, Freeze, Mount, Ping, Read, Unmount, Write};
const CALLS: [Call; 7] = [Ping, Execute, Read, Write, Mount, Unmount, Freeze];

async fn make(call: Call, client: &AgentClient) -> Result<()> {
    match call {
        Ping => client.ping().await,
        Execute => {
            let request = ExecuteRequest::new("true").timeout(Duration::from_millis(100));
            run_to_end(client, &request.max_output(1 << 20), &mut Discard).await.map(drop)
        }
        Read => crate::files::read_file(client, "/x".into(), 1 << 20).await.map(drop),
        Write => {
            let (sender, frames) = mpsc::channel(1);
            drop(sender);
            let request = WriteFilesRequest { path: "/x".into(), name: None };
            client.write_files(&request, frames).await.map(drop)
        }
        Mount => {
            let request = MountRequest {
                source: "//10.0.2.100/share".into(),
                target: "/mnt".into(),
                kind: "cifs".into(),
                options: String::new(),
                readonly: false,
                file: false,
            };
            client.mount(&request).await
        }
        Unmount => client.unmount(&UnmountRequest { target: "/mnt".into(), force: false }).await,
        Freeze => client.freeze().await.map(drop),
    }
}

/// Makes the calls to such an agent, and judges how they end.
async fn refused_by(what: &str, calls: &[Call], of: Answer) {
    for call in calls {
        let taken = Arc::new(AtomicUsize::new(0));
        for (wire, client) in ["socket", "tcp"].iter().zip(clients(of.clone(), &taken).await) {
            let shown = format!("{call:?} over {wire} of {what}");
            let result = tokio::time::timeout(SOON, make(*call, &client)).await;
            let error = result.unwrap_or_else(|_| panic!("{shown}: it is still waiting"));
            let error = error.err().unwrap_or_else(|| panic!("{shown}: it is believed"));
            let text = format!("{error} {}", error.hint().unwrap_or_default());
            assert_eq!(crate::printable(&text), text, "{shown}: it steers terminals");
            assert!(text.len() < 5000, "{shown}: {} bytes of words", text.len());
        }
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken < MOST, "{call:?} of {what}: {taken} bytes were taken");
    }
}

fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    encode(kind, payload).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_bounded_in_length_and_time_and_steer_nothing() {
    let json = |text: &str| serde_json::json!({"error": text, "hint": text}).to_string();
    let steering = json(&String::from_utf8_lossy(STEERING));
    let long = json(&"x".repeat(60_000));
    for status in [400, 401, 403, 404, 405, 500, 503, 599] {
        for (what, pieces, end) in [
            ("control characters in JSON", steering.as_bytes(), Proper),
            ("control characters alone", STEERING, Proper),
            ("a long text", long.as_bytes(), Proper),
            ("nothing", b"", Proper),
            ("half a text", b"{\"error\": \"", BreaksOff),
            ("a text that never comes", b"{", Silence),
            ("a text without an end", b"{\"error\": \"", Endless(&[b'x'; 4096])),
        ] {
            let of = Answer { to_pings: true, ..says(status, &[pieces], end) };
            // One status is enough for what differs in its text alone.
            let calls: &[Call] = if status == 500 { &CALLS } else { &[Ping, Execute, Mount] };
            refused_by(&format!("{status} and {what}"), calls, of).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_answers_are_refused() {
    // What is asked for, and an answer would be.
    let calls = [Write, Freeze];
    for (what, pieces, end) in [
        ("nothing", &b""[..], Proper),
        ("no JSON", b"yes", Proper),
        ("no text", STEERING, Proper),
        ("other JSON", b"[[[[{\"frozen\": \"\x1b[2J\"}]]]]", Proper),
        ("numbers out of range", b"{\"frozen\": 1e999, \"n_files\": -1}", Proper),
        ("half", b"{\"frozen\": tr", BreaksOff),
        ("half and silence", b"{\"frozen\": tr", Silence),
        ("no end", b"{\"frozen\": true}", Endless(&[b' '; 4096])),
    ] {
        let calls = if matches!(end, Silence) { &calls[..1] } else { &calls };
        refused_by(what, calls, says(200, &[pieces], end)).await;
    }
    let endless = says(200, &[b"{}"], Endless(&[b' '; 4096]));
    refused_by("no end", &[Ping], Answer { to_pings: true, ..endless }).await;
    let deep = "[".repeat(60_000);
    refused_by("deep JSON", &calls, says(200, &[deep.as_bytes()], Proper)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_sessions_are_refused() {
    let exit = |json: &[u8]| frame(FrameKind::Exit, json);
    let error = serde_json::json!({"error": String::from_utf8_lossy(STEERING), "hint": "\u{1b}c"});
    let error = error.to_string();
    for (what, pieces, end) in [
        ("an unknown kind", vec![99, 0, 0, 0, 0], Proper),
        ("a kind of the host's", frame(FrameKind::Stdin, b"x"), Proper),
        ("a kind of files", frame(FrameKind::Data, b"x"), Proper),
        ("a length of all ones", vec![16, 255, 255, 255, 255], Silence),
        ("a length of one too many", vec![16, 1, 0, 16, 0], Silence),
        ("half a header", vec![16, 1, 0], Proper),
        ("half a frame", vec![16, 9, 0, 0, 0, b'x'], Proper),
        ("half a frame, and breaks off", vec![16, 9, 0, 0, 0, b'x'], BreaksOff),
        ("half a frame, and is silent", vec![16, 9, 0, 0, 0, b'x'], Silence),
        ("no exit", frame(FrameKind::Stdout, b"x"), Proper),
        ("an exit that is no JSON", exit(STEERING), Proper),
        ("an exit without a code", exit(b"{}"), Proper),
        ("a code out of range", exit(b"{\"exit_code\": 99999999999}"), Proper),
        ("a code that is text", exit(b"{\"exit_code\": \"\x1b[2J\"}"), Proper),
        ("an error that steers", frame(FrameKind::Error, error.as_bytes()), Proper),
        ("an error that is no text", frame(FrameKind::Error, STEERING), Proper),
        ("output without an end", vec![], Endless(&OUTPUT)),
        ("empty output without an end", vec![], Endless(&[17, 0, 0, 0, 0])),
        ("silence", vec![], Silence),
    ] {
        let taken = Arc::new(AtomicUsize::new(0));
        let of = says(200, &[&pieces], end);
        if let Endless(_) = end {
            // Output is taken as fast as it comes until the command's time is over.
            for client in clients(of, &taken).await {
                let ended = tokio::time::timeout(SOON, make(Execute, &client)).await;
                let error = ended.unwrap_or_else(|_| panic!("{what}: it is still waiting"));
                let error = error.err().unwrap_or_else(|| panic!("{what}: it is believed"));
                let is_over = error.to_string().contains("time is over");
                assert!(is_over || matches!(error, Error::GuestSilent { .. }), "{what}: {error}");
            }
        } else {
            refused_by(what, &[Execute], of).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_after_the_exit_are_ignored() {
    let mut frames = frame(FrameKind::Exit, b"{\"exit_code\": 3}");
    frames.extend(frame(FrameKind::Stdout, b"late"));
    frames.extend(frame(FrameKind::Exit, b"{\"exit_code\": 0}"));
    let taken = Arc::new(AtomicUsize::new(0));
    for client in clients(says(200, &[&frames], Silence), &taken).await {
        let request = ExecuteRequest::new("true");
        let (_input, mut output) = client.session(&request, None, true).await.unwrap();
        let exit = output.next().await.unwrap().unwrap();
        assert!(matches!(exit, crate::SessionEvent::Exit { exit_code: 3, .. }), "{exit:?}");
        for _ in 0..3 {
            assert_eq!(output.next().await.unwrap(), None);
        }
    }
}

/// A guest has many commands' worth of answers, and the host's caller reads none of them.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_are_bounded() {
    const N_SESSIONS: usize = 200;
    let taken = Arc::new(AtomicUsize::new(0));
    let [client, _] = clients(says(200, &[], Endless(&[16; 4096])), &taken).await;
    let mut unread = Vec::new();
    for _ in 0..N_SESSIONS {
        let request = ExecuteRequest::new("yes");
        unread.push(client.session(&request, None, false).await.unwrap());
    }
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = taken.load(Ordering::Relaxed);
        if now == last {
            break;
        }
        last = now;
    }
    // What the other side holds ready for the wire is its own.
    let most = WINDOW as usize + N_SESSIONS * (64 << 10);
    assert!((1 << 20..most).contains(&last), "{last} bytes were taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_transfers_are_refused() {
    let entry = |entry: FileEntry| frame(FrameKind::Entry, &serde_json::to_vec(&entry).unwrap());
    let file = || entry(FileEntry::new("", EntryKind::File));
    let with = |more: Vec<u8>| [file(), more].concat();
    let data = frame(FrameKind::Data, b"x");
    let hole = |length: u64| frame(FrameKind::Hole, &hole_payload(length));
    let done = || frame(FrameKind::Done, b"");
    for (what, pieces, end) in [
        ("nothing", vec![], Proper),
        ("no file", done(), Proper),
        ("data of no file", [data.clone(), done()].concat(), Proper),
        ("a folder", [entry(FileEntry::new("", EntryKind::Folder)), done()].concat(), Proper),
        ("two files", with([file(), done()].concat()), Proper),
        ("an entry that is no JSON", frame(FrameKind::Entry, STEERING), Proper),
        (
            "an entry of an unknown kind",
            frame(FrameKind::Entry, b"{\"path\": \"\", \"kind\": \"\x1b[2J\"}"),
            Proper,
        ),
        ("no end", with(data.clone()), Proper),
        ("an end in the middle", with(data.clone()), BreaksOff),
        ("silence in the middle", with(data.clone()), Silence),
        ("data without a byte", with([frame(FrameKind::Data, b""), done()].concat()), Proper),
        ("a hole of nothing", with([hole(0), done()].concat()), Proper),
        (
            "a hole without a length",
            with([frame(FrameKind::Hole, b"\x01"), done()].concat()),
            Proper,
        ),
        ("a hole of all there is", with([hole(u64::MAX), done()].concat()), Proper),
        ("holes that add up", with([hole(1 << 63), hole(1 << 63), done()].concat()), Proper),
        ("more than was asked for", with(frame(FrameKind::Data, &[0; 1 << 20])), Endless(&DATA)),
        ("a file without an end", with(vec![]), Endless(&DATA)),
        (
            "entries without an end",
            vec![],
            Endless(b"\x20\x1d\0\0\0{\"path\": \"\", \"kind\": \"file\"}"),
        ),
        ("an output frame", with(frame(FrameKind::Stdout, b"x")), Proper),
        (
            "an error that steers",
            with(frame(FrameKind::Error, b"{\"error\": \"\\u001b[2J\"}")),
            Proper,
        ),
        ("a length of all ones", with(vec![33, 255, 255, 255, 255]), Silence),
    ] {
        refused_by(what, &[Read], says(200, &[&pieces], end)).await;
    }
}

/// Agents made elsewhere have no sessions, and say so.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_events_are_refused() {
    for (what, pieces, end) in [
        ("no event", &b""[..], Proper),
        ("no JSON", b"data: \x1b[2J\n\n", Proper),
        ("no text", b"data: \xff\xfe\n\n", Proper),
        ("an unknown kind", b"data: {\"type\": \"\\u001b[2J\"}\n\n", Proper),
        ("an exit without a code", b"data: {\"type\": \"exit\"}\n\n", Proper),
        ("a code out of range", b"data: {\"type\": \"exit\", \"exit_code\": 1e99}\n\n", Proper),
        (
            "an error that steers",
            b"data: {\"type\": \"error\", \"error\": \"\\u001b[2J\"}\n\n",
            Proper,
        ),
        ("no base64", b"data: {\"type\": \"stdout\", \"data_base64\": \"\x1b\"}\n\n", Proper),
        ("half an event", b"data: {\"type\": \"exit\", \"exit_code\": 0", Proper),
        ("silence", b"data: ", Silence),
        ("a line without an end", b"data: ", Endless(&[b'x'; 4096])),
        ("lines without an event", b"", Endless(b"data: x\n")),
        ("remarks without an end", b"", Endless(b": still there\n\n")),
    ] {
        let taken = Arc::new(AtomicUsize::new(0));
        for client in clients(says(200, &[pieces], end), &taken).await {
            client.note_no_sessions();
            let result = tokio::time::timeout(SOON, make(Execute, &client)).await;
            let error = result.unwrap_or_else(|_| panic!("{what}: it is still waiting"));
            let text = error.err().unwrap_or_else(|| panic!("{what}: it is believed")).to_string();
            assert_eq!(crate::printable(&text), text, "{what}: it steers terminals");
            assert!(text.len() < 5000, "{what}: {} bytes of words", text.len());
        }
    }
}

/// A listener that says these bytes to each, the last ones for ever.
async fn raw_port(first: &'static [u8], endless: &'static [u8]) -> (AgentClient, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, first.to_vec(), endless, Arc::clone(&count)));
        }
    });
    (AgentClient::on_port(port, "token"), taken)
}

/// Says it once there is a request, and reads what comes.
async fn talk<S>(stream: S, first: Vec<u8>, endless: &'static [u8], taken: Arc<AtomicUsize>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut buffer = [0; 4096];
    if !matches!(reading.read(&mut buffer).await, Ok(1..)) {
        return;
    }
    tokio::spawn(async move { while matches!(reading.read(&mut buffer).await, Ok(1..)) {} });
    let mut said = writing.write_all(&first).await;
    while said.is_ok() && !endless.is_empty() {
        taken.fetch_add(endless.len(), Ordering::Relaxed);
        said = writing.write_all(endless).await;
    }
    // Without more to say the connection ends.
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http1_is_refused() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
    let is_endless = b"x";
    for (what, first, endless) in [
        ("nothing", &b""[..], &b""[..]),
        ("noise", STEERING, b""),
        ("no status", b"HTTP/1.1 \r\n\r\n", b""),
        ("another version", b"HTTP/9.9 200 OK\r\n\r\n", b""),
        ("a reason without an end", b"HTTP/1.1 200 ", is_endless),
        ("a header without an end", b"HTTP/1.1 200 OK\r\nx: ", is_endless),
        ("headers without an end", OK, b"x: y\r\n"),
        ("interim answers without an end", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("a length that is not a number", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", b""),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy",
            b"",
        ),
        (
            "a length that is too long",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            b"",
        ),
        (
            "a length that is a lie",
            b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n{}",
            b"",
        ),
        (
            "a chunk that is too long",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            b"",
        ),
        (
            "a malformed chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\x1b[2J\r\n",
            b"",
        ),
        (
            "chunks without an end",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
        ),
        (
            "a trailer without an end",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"x: y\r\n",
        ),
        ("an upgrade", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b""),
    ] {
        let (client, taken) = raw_port(first, endless).await;
        let ping = client.ping_within(Duration::from_secs(2));
        let error = tokio::time::timeout(SOON, ping).await.unwrap().err();
        let text = error.unwrap_or_else(|| panic!("{what}: it is believed")).to_string();
        assert_eq!(crate::printable(&text), text, "{what}: it steers terminals");
        // Interim answers are taken for as long as the call lasts; none of them is kept.
        if !what.starts_with("interim") {
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken < MOST, "{what}: {taken} bytes were taken");
        }
    }
}

/// A frame of HTTP/2: <https://www.rfc-editor.org/rfc/rfc9113#section-4.1>.
fn h2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http2_is_refused() {
    const CONTINUATION: &[u8] = b"\x00\x00\x04\x09\x00\x00\x00\x00\x01\x00\x01x\x00";
    const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678";
    const SETTINGS: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    const RESET: &[u8] = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x02";
    // `:status: 200` of the static table.
    let headers = |flags| h2(1, flags, 1, &[0x88]);
    for (what, frames, endless) in [
        ("noise", STEERING.to_vec(), &b""[..]),
        ("data of the connection", h2(0, 0, 0, b"x"), b""),
        ("data of a stream that was never opened", h2(0, 1, 99, b"x"), b""),
        ("data before headers", h2(0, 1, 1, b"x"), b""),
        ("an answer to nobody", h2(1, 5, 2, &[0x88]), b""),
        ("a promise", h2(5, 4, 1, &[0, 0, 0, 2, 0x88]), b""),
        ("a window of nothing", h2(8, 0, 0, &[0; 4]), b""),
        ("windows that overflow", h2(8, 0, 0, &[0x7f, 255, 255, 255]).repeat(3), b""),
        ("a window that is too large", h2(4, 0, 0, &[0, 4, 255, 255, 255, 255]), b""),
        ("settings of no length", h2(4, 0, 0, &[0; 5]), b""),
        ("a frame that is too long", vec![255, 255, 255, 0, 0, 0, 0, 0, 1], &[0; 4096]),
        ("a continuation of nothing", h2(9, 4, 1, b""), b""),
        ("headers without an end", headers(0), CONTINUATION),
        ("malformed headers", h2(1, 5, 1, &[255; 20]), b""),
        ("headers without a status", h2(1, 5, 1, &[]), b""),
        ("padding longer than its frame", h2(0, 8, 1, &[200, 0]), b""),
        ("a reset", h2(3, 0, 1, &[0, 0, 0, 2]), b""),
        ("resets without an end", vec![], RESET),
        ("a good-bye", h2(7, 0, 0, &[0; 8]), b""),
        ("pings without an end", vec![], PING),
        ("settings without an end", vec![], SETTINGS),
        ("an answer that breaks off", headers(4), b""),
    ] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let first = [SETTINGS.to_vec(), frames].concat();
        tokio::spawn(talk(theirs, first, endless, Arc::clone(&taken)));
        let client = AgentClient::on_stream(ours, "token", WINDOW).await.unwrap();
        let ping = client.ping_within(Duration::from_secs(2));
        let error = tokio::time::timeout(SOON, ping).await.unwrap().err();
        let text = error.unwrap_or_else(|| panic!("{what}: it is believed")).to_string();
        assert_eq!(crate::printable(&text), text, "{what}: it steers terminals");
        if matches!(what, "headers without an end" | "a frame that is too long") {
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken < MOST, "{what}: {taken} bytes were taken");
        }
    }
}
