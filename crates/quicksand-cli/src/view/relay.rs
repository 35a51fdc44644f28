//! Carries VNC's bytes between a browser's WebSocket and the machine's VNC server.

use futures_util::{SinkExt as _, StreamExt as _};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};

/// Bytes that are read from VNC at a time.
const CHUNK: usize = 64 << 10;
/// The most bytes of one message of the browser: it sends keys, movements and its clipboard.
const MAX_MESSAGE: usize = 1 << 20;

/// Carries bytes until either side ends. A side that does not read holds the other one up.
pub async fn run(browser: impl AsyncRead + AsyncWrite + Unpin, vnc: SocketAddr) {
    let Ok(vnc) = TcpStream::connect(vnc).await else { return };
    let _ = vnc.set_nodelay(true);
    let (mut read, mut write) = vnc.into_split();
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(browser, Role::Server, Some(limits)).await;
    let (mut to_browser, mut from_browser) = socket.split();
    let down = async {
        let mut chunk = vec![0; CHUNK];
        while let Ok(n @ 1..) = read.read(&mut chunk).await {
            let message = Message::Binary(chunk[..n].to_vec().into());
            if to_browser.send(message).await.is_err() {
                return;
            }
        }
        let _ = to_browser.close().await;
    };
    let up = async {
        while let Some(Ok(message)) = from_browser.next().await {
            match message {
                Message::Binary(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Message::Close(_) => return,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
    }
}
