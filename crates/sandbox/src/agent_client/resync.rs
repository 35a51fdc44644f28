//! The byte stream to the agent, and how it begins again: when the guest went back in time, and when
//! the connection on it has broken.
//!
//! The socket outlives every HTTP/2 connection on it. What the restored guest still sends on the
//! connection of its past is thrown away up to an answer that nobody can foresee; see
//! [`agent_protocol::resync`].

use super::clock::unix_nanos;
use super::{RequestBody, begin, broken};
use crate::error::{Error, Result};
use agent_protocol::resync::{ANSWER_LEN, NONCE_LEN, Request, Secret, answer, unkeyed_request};
use bytes::{Buf, Bytes};
use hyper::client::conn::http2;
use hyper::rt::Executor;
use std::io;
use std::os::unix::net::UnixStream as Socket;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// How long the first request waits for its answer. It may be lost: an agent of an earlier release
/// does not see it behind bytes of the past in one buffer of the guest.
const ATTEMPT: Duration = Duration::from_millis(400);
/// How long all of them may take.
const GIVE_UP: Duration = Duration::from_secs(30);
/// How many bytes of the past are thrown away, beside twice those that the connection allowed: what lies
/// in buffers on the way. An agent that sends more has not heard of the request.
const ON_THE_WAY: usize = 16 << 20;

/// The socket with the connection that is on it now.
pub(super) struct Stream {
    socket: Socket,
    /// How many bytes of answers may wait for somebody to take them.
    window: u32,
    secret: Mutex<Secret>,
    /// Whether the agent knows the secret; one of an earlier release does not.
    is_keyed: AtomicBool,
    now: Mutex<Connection>,
    /// Held by whoever opens the next connection.
    opening: tokio::sync::Mutex<()>,
}

struct Connection {
    sender: http2::SendRequest<RequestBody>,
    tasks: Tasks,
    /// How many there were before.
    number: u64,
}

/// The tasks of one connection. They end together and at once: a connection that says good-bye
/// would shut the socket down, which the next one needs.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Ends them, and waits until they have.
    async fn end(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            work.await;
        });
    }
}

impl Stream {
    pub(super) async fn open(stream: UnixStream, token: &str, window: u32) -> Result<Self> {
        let socket = stream.into_std().map_err(broken)?;
        let tasks = Tasks::default();
        let sender = begin(Ahead::new(Bytes::new(), to_stream(&socket)?), &tasks, window).await?;
        Ok(Self {
            socket,
            window,
            secret: Mutex::new(Secret::new(token.as_bytes())),
            is_keyed: AtomicBool::new(false),
            now: Mutex::new(Connection { sender, tasks, number: 0 }),
            opening: Default::default(),
        })
    }

    /// Finds the agent of a machine that was copied while another host spoke with it, which knew this
    /// token.
    pub(super) async fn open_copy(stream: UnixStream, token: &str, window: u32) -> Result<Self> {
        let socket = stream.into_std().map_err(broken)?;
        let secret = Secret::new(token.as_bytes());
        let (ahead, stream) = find(&socket, Some(&secret), window).await?;
        let tasks = Tasks::default();
        let sender = begin(Ahead::new(ahead, stream), &tasks, window).await?;
        Ok(Self {
            socket,
            window,
            secret: Mutex::new(secret),
            is_keyed: AtomicBool::new(true),
            now: Mutex::new(Connection { sender, tasks, number: 0 }),
            opening: Default::default(),
        })
    }

    /// Takes note of the agent's new token.
    pub(super) fn renew(&self, token: &str) {
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = Secret::new(token.as_bytes());
    }

    /// The connection that is there now, and its number.
    pub(super) fn sender(&self) -> (http2::SendRequest<RequestBody>, u64) {
        let now = self.now();
        (now.sender.clone(), now.number)
    }

    /// Takes note of what the agent says that it understands.
    pub(super) fn note_agent(&self, is_keyed: bool) {
        self.is_keyed.store(is_keyed, Ordering::Relaxed);
    }

    fn now(&self) -> MutexGuard<'_, Connection> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the next connection in the place of this one, which has broken. Of many that ask, the
    /// first one does it.
    pub(super) async fn reopen(&self, number: u64) -> Result<()> {
        let _opening = self.opening.lock().await;
        if self.now().number != number {
            return Ok(());
        }
        tracing::warn!("the agent's connection broke and is opened again");
        self.next().await
    }

    /// Ends the connection, finds the agent, and begins a new one.
    pub(super) async fn resync(&self) -> Result<()> {
        let _opening = self.opening.lock().await;
        self.next().await
    }

    async fn next(&self) -> Result<()> {
        let (tasks, number) = {
            let now = self.now();
            (now.tasks.clone(), now.number)
        };
        // Their end is waited for, so that they write nothing in between.
        tasks.end().await;
        let secret = self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_keyed = self.is_keyed.load(Ordering::Relaxed);
        let secret = is_keyed.then_some(&secret);
        let (ahead, stream) = find(&self.socket, secret, self.window).await?;
        let tasks = Tasks::default();
        let sender = begin(Ahead::new(ahead, stream), &tasks, self.window).await?;
        *self.now() = Connection { sender, tasks, number: number + 1 };
        Ok(())
    }
}

/// Asks until the agent answers; gives the stream and what came behind the answer.
async fn find(
    socket: &Socket,
    secret: Option<&Secret>,
    window: u32,
) -> Result<(Bytes, UnixStream)> {
    let mut past = ON_THE_WAY + 2 * window as usize;
    let deadline = Instant::now() + GIVE_UP;
    let mut patience = ATTEMPT;
    let mut stream = to_stream(socket)?;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(patience.min(rest), call(&mut stream, secret, &mut past)).await {
            Ok(Ok(ahead)) => return Ok((ahead, stream)),
            Ok(Err(error)) => return Err(broken(error)),
            Err(_) if Instant::now() >= deadline => {
                return Err(Error::GuestSilent { timeout: GIVE_UP });
            }
            // A slow guest answers late, and a second request undoes what it began.
            Err(_) => patience *= 2,
        }
    }
}

fn to_stream(socket: &Socket) -> Result<UnixStream> {
    let socket = socket.try_clone().map_err(broken)?;
    UnixStream::from_std(socket).map_err(broken)
}

/// Asks once and reads to the answer, throwing away no more of the past than is left of it; gives what
/// came after the answer.
async fn call(
    stream: &mut UnixStream,
    secret: Option<&Secret>,
    past: &mut usize,
) -> io::Result<Bytes> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce)?;
    let request = Request { nonce, unix_nanos: unix_nanos() };
    match secret {
        Some(secret) => stream.write_all(&secret.request(&request)).await?,
        None => stream.write_all(&unkeyed_request(&request)).await?,
    }
    let answer = answer(&nonce);
    let mut kept: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        kept.extend_from_slice(&buffer[..length]);
        if let Some(at) = kept.windows(ANSWER_LEN).position(|window| window == answer) {
            return Ok(Bytes::from(kept.split_off(at + ANSWER_LEN)));
        }
        *past = past.checked_sub(length).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it sends without an answer")
        })?;
        // The answer may lie across two reads.
        kept.drain(..kept.len().saturating_sub(ANSWER_LEN - 1));
    }
}

/// The stream of one connection, with bytes that were read too early.
struct Ahead {
    ahead: Bytes,
    stream: UnixStream,
}

impl Ahead {
    fn new(ahead: Bytes, stream: UnixStream) -> Self {
        Self { ahead, stream }
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Does nothing: HTTP/2 shuts a connection down that has failed, and the socket is the only way to
    /// the agent, which the next connection needs.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_protocol::resync::{REQUEST_LEN, Scan, Scanner};

    #[tokio::test]
    async fn late_answers_of_an_earlier_connection_are_discarded() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let secret = Secret::new(b"token");
        let agent = tokio::spawn(async move {
            let mut message = [0; REQUEST_LEN];
            // The first request is lost, as behind bytes of the past.
            theirs.read_exact(&mut message).await.unwrap();
            theirs.write_all(&vec![7; 200_000]).await.unwrap();
            theirs.read_exact(&mut message).await.unwrap();
            let found = Scanner::new(vec![Secret::new(b"token")]).scan(&message);
            let Scan::Request(request, _) = found else { panic!("{found:?}") };
            let answer = answer(&request.nonce);
            theirs.write_all(&answer[..5]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            theirs.write_all(&[&answer[5..], b"new"].concat()).await.unwrap();
            theirs
        });
        let patience = Duration::from_millis(50);
        let mut past = 400_000;
        let first = call(&mut ours, Some(&secret), &mut past);
        let first = tokio::time::timeout(patience, first).await;
        assert!(first.is_err());
        assert_eq!(call(&mut ours, Some(&secret), &mut past).await.unwrap(), "new");
        let mut theirs = agent.await.unwrap();
        theirs.write_all(&[7; 1000]).await.unwrap();
        // An agent that sends without end is given up.
        past = 999;
        let error = call(&mut ours, Some(&secret), &mut past).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(theirs);
        assert!(call(&mut ours, Some(&secret), &mut past).await.is_err());
    }
}
