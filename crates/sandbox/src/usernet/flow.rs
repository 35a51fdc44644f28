//! One connection: the guest's half as a stream, and the bytes between it and the host's half.

use super::policy::Verdict;
use super::stack::Shared;
use super::{Dial, Dialed};
use crate::budget::Permit;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// How long the guest may take to accept a connection.
const ACCEPT_TIME: Duration = Duration::from_secs(30);

/// The guest's half of a connection.
pub(super) struct GuestStream {
    shared: Arc<Shared>,
    handle: SocketHandle,
    /// Bytes that are copied at once.
    copy: usize,
    /// What the stack's buffers cost, as long as the socket is there.
    cost: Option<Permit>,
}

impl GuestStream {
    pub(super) fn new(
        shared: Arc<Shared>,
        handle: SocketHandle,
        copy: usize,
        cost: Permit,
    ) -> Self {
        Self { shared, handle, copy, cost: Some(cost) }
    }

    /// Whether no connection has reached this end yet.
    pub(super) fn is_listening(&self) -> bool {
        self.with(|socket| socket.state() == tcp::State::Listen)
    }

    fn with<T>(&self, call: impl FnOnce(&mut tcp::Socket<'static>) -> T) -> T {
        call(self.shared.net().sockets.get_mut::<tcp::Socket>(self.handle))
    }

    /// Waits until the guest has accepted.
    async fn established(&self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            self.with(|socket| match socket.state() {
                // One that the guest has given up listens again, and would serve somebody else.
                tcp::State::Closed | tcp::State::Listen => {
                    Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()))
                }
                tcp::State::SynSent | tcp::State::SynReceived => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                _ => Poll::Ready(Ok(())),
            })
        })
        .await
    }
}

impl Drop for GuestStream {
    fn drop(&mut self) {
        self.with(|socket| {
            // What was not closed in order is broken off, so that the guest knows.
            if socket.may_send() || !is_settled(socket) {
                socket.abort();
            }
        });
        if let Some(cost) = self.cost.take() {
            self.shared.leave(self.handle, cost);
        }
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = self.with(|socket| match socket.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) if socket.may_recv() || !is_settled(socket) => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Ok(length) => Poll::Ready(Ok(length)),
            Err(tcp::RecvError::Finished) => Poll::Ready(Ok(0)),
            // Before the first segment is in, and after a connection was broken off.
            Err(tcp::RecvError::InvalidState) if !is_settled(socket) => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Err(tcp::RecvError::InvalidState) => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        });
        poll.map_ok(|length| {
            buffer.advance(length);
            if length > 0 {
                // There is room for more, which the guest must hear of.
                self.shared.bell.notify_one();
            }
        })
    }
}

/// Whether a connection has come about, or ended.
fn is_settled(socket: &tcp::Socket<'_>) -> bool {
    !matches!(socket.state(), tcp::State::Listen | tcp::State::SynReceived | tcp::State::SynSent)
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = self.with(|socket| match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Ok(length) => Poll::Ready(Ok(length)),
            Err(_) if !is_settled(socket) => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        });
        if poll.is_ready() {
            self.shared.bell.notify_one();
        }
        poll
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Says farewell when the guest has everything: once it is said, smoltcp (0.14) takes no notice
    /// of a window that opens, and a guest that is slow would never get the rest.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.with(|socket| {
            if socket.may_send() && socket.send_queue() > 0 {
                socket.register_send_waker(context.waker());
                return Poll::Pending;
            }
            socket.close();
            Poll::Ready(Ok(()))
        });
        self.shared.bell.notify_one();
        poll
    }
}

/// Connects the host's half; `None` when it is refused out there, or by us at the last moment.
pub(super) async fn connect(verdict: Verdict, dial: Option<Dial>) -> Option<Dialed> {
    let to = match verdict {
        Verdict::Deny => return None,
        Verdict::Inside => {
            let dialed = dial?().await;
            return dialed
                .inspect_err(|error| tracing::debug!(%error, "a service took no connection"))
                .ok();
        }
        Verdict::Named(to) => to,
        Verdict::Out(to) if is_own(to).await => return None,
        Verdict::Out(to) => to,
    };
    let stream = TcpStream::connect(SocketAddr::V4(to)).await.ok()?;
    let _ = stream.set_nodelay(true);
    Some(Dialed { stream: Box::new(stream), _keep: None })
}

/// Whether an address is one of this host's: the kernel would send from where it sends to.
pub(super) async fn is_own(to: SocketAddrV4) -> bool {
    let route = async {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        // Connecting sends nothing; it only looks for the way.
        socket.connect(SocketAddr::V4(to)).await?;
        socket.local_addr()
    };
    match route.await {
        Ok(local) => local.ip() == *to.ip(),
        // Without a descriptor there is no knowing; without a way there nothing is lost.
        Err(_) => true,
    }
}

/// Copies bytes both ways until both have ended. The guest must first have answered our greeting.
pub(super) async fn carry(mut guest: GuestStream, mut host: Dialed, place: Permit) {
    let accepted = tokio::time::timeout(ACCEPT_TIME, guest.established()).await;
    if let Ok(Ok(())) = accepted {
        let copy = guest.copy;
        // A side that breaks off ends the other; there is nobody to tell.
        let host = &mut host.stream;
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut guest, host, copy, copy).await;
    }
    drop((host, place));
}

/// Leads every connection to a port of the host into the guest. One that the guest does not take is
/// reset, so that nobody takes it for an empty answer.
pub(super) async fn serve(listener: Arc<TcpListener>, guest: SocketAddrV4, shared: Arc<Shared>) {
    #[cfg(unix)]
    let _kept = crate::fork::KeptFromChildren::new(&*listener);
    loop {
        let Ok((host, _)) = listener.accept().await else {
            // Descriptors are short, and come back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = host.set_nodelay(true);
        let place = shared.budget.descriptors(1);
        let (Some(place), Some(stream)) = (place, shared.connect(guest)) else {
            let _ = host.set_zero_linger();
            continue;
        };
        tokio::spawn(async move {
            let accepted = tokio::time::timeout(ACCEPT_TIME, stream.established()).await;
            if let Ok(Ok(())) = accepted {
                let host = Dialed { stream: Box::new(host), _keep: None };
                carry(stream, host, place).await;
            } else {
                let _ = host.set_zero_linger();
            }
        });
    }
}
