//! Listeners: HTTP/1.1 on TCP, HTTP/2 with prior knowledge on byte streams.

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use agent_protocol::limits;
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};

use crate::agent::Agent;
use crate::virtio_port::Port;
use crate::{Error, Result, router};

/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted: descriptors are short, and come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the agent answers.
#[derive(Debug)]
pub enum Listener {
    /// HTTP/1.1 on this port of all addresses.
    Tcp(u16),
    /// HTTP/2 on a Unix socket, for tests and containers.
    Unix(PathBuf),
    /// HTTP/2 on the virtio-serial port of this name.
    Virtio(&'static str),
}

/// Opens a listener and serves it in a task of its own.
///
/// # Errors
/// A port or socket that cannot be bound. A virtio-serial port is waited for in the background.
pub async fn open(agent: &Rc<Agent>, listener: Listener) -> Result<()> {
    let agent = Rc::clone(agent);
    match listener {
        Listener::Tcp(port) => {
            let listener =
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(|source| {
                    Error::Boot { step: format!("listen on TCP port {port}"), source }
                })?;
            tokio::task::spawn_local(serve_tcp(agent, listener));
        }
        Listener::Unix(path) => {
            let listener = UnixListener::bind(&path).map_err(|source| Error::File {
                action: "listen on",
                path,
                source,
            })?;
            tokio::task::spawn_local(serve_unix(agent, listener));
        }
        Listener::Virtio(name) => {
            tokio::task::spawn_local(serve_port(agent, name));
        }
    }
    Ok(())
}

async fn serve_tcp(agent: Rc<Agent>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Answers are whole messages; waiting to fill a segment only costs time.
        let _ = stream.set_nodelay(true);
        let agent = Rc::clone(&agent);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| router::handle(Rc::clone(&agent), request));
            // A client that breaks off is not worth a word.
            let _ = http1::Builder::new()
                .auto_date_header(false)
                .max_buf_size(limits::MAX_HEADERS.max(256 << 10))
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn serve_unix(agent: Rc<Agent>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(serve_http2(Rc::clone(&agent), TokioIo::new(stream)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve_port(agent: Rc<Agent>, name: &'static str) {
    let Some(port) = Port::find(name, &agent.tokens).await else { return };
    loop {
        let Ok(connection) = port.connection().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        serve_http2(Rc::clone(&agent), connection).await;
    }
}

async fn serve_http2<I: Read + Write + Unpin + 'static>(agent: Rc<Agent>, io: I) {
    let service = service_fn(move |request| router::handle(Rc::clone(&agent), request));
    // The host ends a connection by leaving, which is no error.
    let _ = http2::Builder::new(Local)
        .auto_date_header(false)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::MAX_HTTP2_FRAME)
        .max_concurrent_streams(limits::MAX_STREAMS)
        .max_header_list_size(limits::MAX_HEADERS as u32)
        .max_send_buf_size(1 << 20)
        // The host holds the token; commands that it cancels are no attack.
        .max_local_error_reset_streams(None)
        // While the guest stands still they pile up, and arrive all at once. There is no "no limit".
        .max_pending_accept_reset_streams(usize::MAX)
        .serve_connection(io, service)
        .await;
}

/// Runs hyper's tasks on the agent's one thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
