//! The client of the guest's agent: one API over two wires.
//!
//! Owns HTTP and its limits; knows neither QEMU nor the life cycle. Over the virtio-serial stream
//! it is HTTP/2 with prior knowledge, so that requests run side by side on the one stream; over
//! TCP it is HTTP/1.1 with a connection for each request. Every byte that comes back is the
//! guest's: headers, frames, events and error texts are bounded.

mod by_command;
mod clock;
mod disk;
pub(crate) mod execution;
mod files;
#[cfg(unix)]
mod identity;
#[cfg(all(test, unix))]
mod malformed;
#[cfg(unix)]
mod resync;
mod session;

use crate::error::{Error, Result};
use agent_protocol::{ErrorResponse, limits, paths};
#[cfg(unix)]
use agent_protocol::{PingResponse, resync::VERSION};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
#[cfg(unix)]
use hyper::client::conn::http2;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
#[cfg(unix)]
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

pub(crate) use files::{Part, data_frame, done_frame, entry_frame, hole_frame};
#[cfg(unix)]
pub(crate) use identity::Identity;
pub use session::{SessionInput, SessionOutput};

/// The longest error text of the agent that is read.
const MAX_ERROR: usize = 64 << 10;
/// The longest reason why a connection is broken, in characters.
const MAX_REASON: usize = 1000;
/// How often the guest is pinged while a request is open. The agent of an older image, seldom, is
/// not woken for a message; the next one makes up for it, so that such a request is late, not lost.
const NUDGE: Duration = Duration::from_secs(1);
/// A ping without an answer means nothing: the guest may be paused, or busy.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long the text of a refusal may take to arrive after its status.
const ERROR_TIME: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 10_000 });
/// How many answers may wait untaken before they keep all others waiting.
#[cfg(unix)]
const N_UNREAD: u32 = 64;
/// The least that an answer may send ahead. See RFC 9113, section 6.9.2.
#[cfg(unix)]
const SMALLEST: u32 = 65_535;
/// How long the agent may take to be found again.
const FOUND_TIME: Duration = Duration::from_secs(30);
/// How often a request is sent again that the connection has not taken.
const N_ATTEMPTS: usize = 3;
/// Portions of a request body that wait for the wire.
const QUEUE: usize = 4;

/// A client for one machine's agent. Clones share the wire.
#[derive(Clone)]
pub(crate) struct AgentClient {
    wire: Wire,
    authorization: Arc<str>,
    /// Whether this agent was made elsewhere and has no sessions.
    has_no_sessions: Arc<AtomicBool>,
    /// Likewise, and cannot set the clock.
    has_no_clock: Arc<AtomicBool>,
    /// The identity that the host gave the guest, for a machine that was copied.
    #[cfg(unix)]
    identity: Option<Arc<Identity>>,
}

#[derive(Clone)]
enum Wire {
    #[cfg(unix)]
    Stream(Arc<resync::Stream>),
    Tcp(u16),
}

impl AgentClient {
    /// Speaks HTTP/2 on a stream. Nothing is waited for: requests are answered once the guest's
    /// agent has opened its end.
    #[cfg(unix)]
    /// `window` is how many bytes of answers may wait for somebody to take them.
    pub(crate) async fn on_stream(
        stream: tokio::net::UnixStream,
        token: &str,
        window: u32,
    ) -> Result<Self> {
        let stream = resync::Stream::open(stream, token, window).await?;
        Ok(Self::new(Wire::Stream(Arc::new(stream)), token))
    }

    /// Speaks HTTP/1.1 to a loopback port.
    pub(crate) fn on_port(port: u16, token: &str) -> Self {
        Self::new(Wire::Tcp(port), token)
    }

    fn new(wire: Wire, token: &str) -> Self {
        Self {
            wire,
            authorization: format!("Bearer {token}").into(),
            has_no_sessions: Arc::default(),
            has_no_clock: Arc::default(),
            #[cfg(unix)]
            identity: None,
        }
    }

    /// The identity that the host gave the guest, for a machine that was copied.
    #[cfg(target_os = "linux")]
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.clone()
    }

    /// Waits for the agent's answer to a ping.
    pub(crate) async fn ping(&self) -> Result<()> {
        let response = self.send(Method::GET, paths::PING, RequestBody::empty()).await?;
        let response = accept(response).await?;
        let _answer = read_bounded(response.into_body(), MAX_ERROR).await?;
        #[cfg(unix)]
        if let Wire::Stream(stream) = &self.wire {
            let answer = serde_json::from_slice(&_answer);
            let version = answer.ok().and_then(|answer: PingResponse| answer.resync);
            stream.note_agent(version.is_some_and(|version| version >= VERSION));
        }
        Ok(())
    }

    /// Waits for the agent's answer to a ping, for a time.
    pub(crate) async fn ping_within(&self, limit: Duration) -> Result<()> {
        let silent = Err(Error::GuestSilent { timeout: limit });
        tokio::time::timeout(limit, self.ping()).await.unwrap_or(silent)
    }

    /// Waits for an answer for as long as the agent answers others.
    pub(crate) async fn while_alive<T>(
        &self,
        limit: Duration,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut wait = std::pin::pin!(wait);
        loop {
            match tokio::time::timeout(limit, &mut wait).await {
                Ok(result) => return result,
                Err(_) => self.ping_within(FOUND_TIME).await?,
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: RequestBody,
    ) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .header(header::AUTHORIZATION, &*self.authorization)
            .header(header::CONTENT_TYPE, body.content_type);
        match &self.wire {
            #[cfg(unix)]
            Wire::Stream(stream) => {
                let request = request.uri(format!("http://agent{path}"));
                let mut request = request.body(body).map_err(broken)?;
                // A connection that has ended is opened again, for what it has not taken yet.
                for _ in 1..N_ATTEMPTS {
                    let (mut sender, number) = stream.sender();
                    if sender.ready().await.is_ok() {
                        match sender.try_send_request(request).await {
                            Ok(response) => return Ok(response),
                            Err(mut error) => match error.take_message() {
                                Some(unsent) => request = unsent,
                                None => return Err(broken(error.into_error())),
                            },
                        }
                    }
                    stream.reopen(number).await?;
                }
                let (mut sender, _) = stream.sender();
                sender.ready().await.map_err(broken)?;
                sender.send_request(request).await.map_err(broken)
            }
            Wire::Tcp(port) => {
                let stream =
                    TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.map_err(broken)?;
                stream.set_nodelay(true).map_err(broken)?;
                let (mut sender, connection) = http1::Builder::new()
                    .max_buf_size(limits::MAX_HEADERS)
                    .handshake(TokioIo::new(stream))
                    .await
                    .map_err(broken)?;
                // Ends with the response, or as soon as whoever reads the response gives up.
                tokio::spawn(connection);
                let request = request.uri(path).header(header::HOST, "agent");
                let request = request.body(body).map_err(broken)?;
                sender.send_request(request).await.map_err(broken)
            }
        }
    }

    /// Finds the agent of a guest that went back in time, within a minute. Everything that was under
    /// way is lost.
    pub(crate) async fn resync(&self) -> Result<()> {
        match &self.wire {
            #[cfg(unix)]
            Wire::Stream(stream) => stream.resync().await?,
            Wire::Tcp(_) => {
                let found = wait_on_port(self, std::future::ready(()));
                let silent = Err(Error::GuestSilent { timeout: FOUND_TIME });
                tokio::time::timeout(FOUND_TIME, found).await.unwrap_or(silent)?;
                if !self.set_clock().await {
                    // As well as a command can: to the second.
                    let command = format!("date -s @{}", clock::unix_nanos() / 1_000_000_000);
                    let _ = tokio::time::timeout(ERROR_TIME, self.command(&command)).await;
                }
            }
        }
        self.ping_within(FOUND_TIME).await
    }

    fn has_sessions(&self) -> bool {
        !self.has_no_sessions.load(Ordering::Relaxed)
    }

    fn note_no_sessions(&self) {
        self.has_no_sessions.store(true, Ordering::Relaxed);
    }
}

/// Waits until the agent behind a loopback port answers.
///
/// SLIRP accepts a connection at once and repeats the guest's side on a slow timer, so that a
/// connection made too early waits for seconds after the agent is there. Therefore each attempt is
/// short, and one starts the moment the console says `ready`.
pub(crate) async fn wait_on_port(
    client: &AgentClient,
    ready: impl Future<Output = ()>,
) -> Result<()> {
    const ATTEMPT: Duration = Duration::from_millis(1500);
    let mut ready = std::pin::pin!(ready);
    let mut is_ready = false;
    loop {
        tokio::select! {
            answer = tokio::time::timeout(ATTEMPT, client.ping()) => match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error @ Error::AgentRefused { .. })) => return Err(error),
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(_) => {}
            },
            () = &mut ready, if !is_ready => is_ready = true,
        }
    }
}

/// Begins HTTP/2 on a stream, with all of its work on these tasks.
#[cfg(unix)]
async fn begin<S>(
    stream: S,
    tasks: &resync::Tasks,
    window: u32,
) -> Result<http2::SendRequest<RequestBody>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(tasks.clone())
        // A stream that nobody reads from keeps little from the others.
        .initial_stream_window_size((window / N_UNREAD).clamp(SMALLEST, limits::STREAM_WINDOW))
        .initial_connection_window_size(window)
        .max_frame_size(limits::MAX_HTTP2_FRAME)
        .max_header_list_size(limits::MAX_HEADERS as u32)
        // Calls that are cancelled while the guest stands still are answered all the same, and their
        // number is the caller's affair: it must not end the connection.
        .max_concurrent_reset_streams(limits::MAX_STREAMS as usize)
        .max_local_error_reset_streams(None)
        .timer(TokioTimer::new())
        .keep_alive_interval(NUDGE)
        .keep_alive_timeout(NEVER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    hyper::rt::Executor::execute(tasks, async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the agent's connection ended");
        }
    });
    Ok(sender)
}

/// Turns an answer that is no success into an error with the agent's words.
async fn accept(response: Response<Incoming>) -> Result<Response<Incoming>> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let body = tokio::time::timeout(ERROR_TIME, read_bounded(response.into_body(), MAX_ERROR));
    let body = body.await.ok().and_then(Result::ok).unwrap_or_default();
    let answer = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorResponse {
        error: String::from_utf8_lossy(&body).into_owned(),
        hint: None,
    });
    Err(refused(status.as_u16(), answer))
}

/// The agent's words as an error, without what could steer a terminal.
fn refused(status: u16, answer: ErrorResponse) -> Error {
    let clean = |text: String| -> String {
        let plain: String = text.chars().filter(|c| !c.is_control()).take(2000).collect();
        crate::printable(&plain).into_owned()
    };
    Error::AgentRefused { status, message: clean(answer.error), hint: answer.hint.map(clean) }
}

async fn read_bounded(mut body: Incoming, limit: usize) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(Error::AgentBroken {
                    reason: format!("the answer is longer than {limit} bytes"),
                });
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Any error of the wire, with all its causes in one line.
fn broken(error: impl std::error::Error) -> Error {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    // What was sent may be quoted in it.
    let reason = crate::printable(&reason).chars().take(MAX_REASON).collect();
    Error::AgentBroken { reason }
}

/// A request body: what is known at once, then what a queue brings until its senders are gone.
struct RequestBody {
    first: Option<Bytes>,
    rest: Option<mpsc::Receiver<Bytes>>,
    content_type: &'static str,
}

impl RequestBody {
    fn empty() -> Self {
        Self::new(None, None, "application/json")
    }

    fn json(bytes: Vec<u8>) -> Self {
        Self::new(Some(bytes.into()), None, "application/json")
    }

    fn queue(first: Bytes, rest: mpsc::Receiver<Bytes>) -> Self {
        Self::new(Some(first), Some(rest), "application/octet-stream")
    }

    fn frames(first: Bytes) -> (Self, mpsc::Sender<Bytes>) {
        let (sender, rest) = mpsc::channel(QUEUE);
        (Self::queue(first, rest), sender)
    }

    fn new(
        first: Option<Bytes>,
        rest: Option<mpsc::Receiver<Bytes>>,
        content_type: &'static str,
    ) -> Self {
        Self { first, rest, content_type }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let next = match (self.first.take(), &mut self.rest) {
            (Some(first), _) => Poll::Ready(Some(first)),
            (None, Some(rest)) => rest.poll_recv(context),
            (None, None) => Poll::Ready(None),
        };
        next.map(|data| data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match (&self.first, &self.rest) {
            (first, None) => hyper::body::SizeHint::with_exact(
                first.as_ref().map_or(0, |first| first.len() as u64),
            ),
            _ => hyper::body::SizeHint::default(),
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
