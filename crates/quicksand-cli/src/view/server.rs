//! The web server of the view: loopback only, and only for who holds the secret.
//!
//! Invariant: nothing is answered but 403 unless the request names this server as its host (a page of
//! elsewhere whose name was made to point here does not), comes from no other origin, and has the
//! secret in its path.

use super::relay;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{collections::HashMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");

/// What is served, and to whom.
pub struct Page {
    /// The first part of each path.
    pub secret: String,
    /// The port that is served on.
    pub port: u16,
    /// The machine's VNC server.
    pub vnc: SocketAddr,
    pub password: String,
    /// noVNC's scripts.
    pub files: HashMap<String, Vec<u8>>,
}

/// What a request gets.
#[derive(Debug, PartialEq)]
enum Answer<'a> {
    Content(&'static str, &'a [u8]),
    Socket,
    Refused(StatusCode),
}

/// Connections at a time: a browser takes six for files and one for the screen. More are closed at
/// once, so that another user of the host cannot use up this process.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may take to say what it wants.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// The pause after a failed accept: descriptors are short, and come back.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves for as long as it is waited for.
pub async fn serve(listener: TcpListener, page: Page) -> Infallible {
    let page = Arc::new(page);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let page = Arc::clone(&page);
                async move { Ok::<_, Infallible>(respond(&page, request)) }
            });
            // A browser that goes away in the middle is no failure of the view.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

fn respond(page: &Page, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = page.answer(request.method(), request.uri().path(), request.headers());
    let (status, kind, content) = match answer {
        Answer::Content(kind, content) => (StatusCode::OK, kind, content.to_vec()),
        Answer::Refused(status) => (status, "text/plain", Vec::new()),
        Answer::Socket => return upgrade(page, &mut request),
    };
    let mut response = Response::new(Full::from(content));
    *response.status_mut() = status;
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self' ws://127.0.0.1:{port} ws://localhost:{port}; frame-ancestors 'none'",
        port = page.port
    );
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Takes the connection over for VNC once the answer is out:
/// <https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2>.
fn upgrade(page: &Page, request: &mut Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    };
    let accept = derive_accept_key(key.as_bytes());
    let vnc = page.vnc;
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            relay::run(TokioIo::new(upgraded), vnc).await;
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

impl Page {
    /// Decides on a request.
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer<'_> {
        let Some(path) = self.admitted(path, headers) else {
            return Answer::Refused(StatusCode::FORBIDDEN);
        };
        if method != Method::GET {
            return Answer::Refused(StatusCode::METHOD_NOT_ALLOWED);
        }
        match path {
            "" => Answer::Content("text/html; charset=utf-8", PAGE.as_bytes()),
            "page.js" => Answer::Content("text/javascript", SCRIPT.as_bytes()),
            "password" => Answer::Content("text/plain", self.password.as_bytes()),
            "socket" => Answer::Socket,
            _ => match path.strip_prefix("novnc/").and_then(|name| self.files.get(name)) {
                Some(content) => Answer::Content("text/javascript", content),
                None => Answer::Refused(StatusCode::NOT_FOUND),
            },
        }
    }

    /// The path below the secret, for who may come in.
    fn admitted<'p>(&self, path: &'p str, headers: &HeaderMap) -> Option<&'p str> {
        let ours = |value: &HeaderValue, scheme: &str| {
            ["127.0.0.1", "localhost"]
                .iter()
                .any(|host| value.as_bytes() == format!("{scheme}{host}:{}", self.port).as_bytes())
        };
        if !headers.get(header::HOST).is_some_and(|host| ours(host, "")) {
            return None;
        }
        if headers.get_all(header::ORIGIN).iter().any(|origin| !ours(origin, "http://")) {
            return None;
        }
        let (secret, rest) = path.strip_prefix('/')?.split_once('/')?;
        is_same(secret.as_bytes(), self.secret.as_bytes()).then_some(rest)
    }
}

/// Compares without telling by its time how much is right.
fn is_same(given: &[u8], expect: &[u8]) -> bool {
    given.len() == expect.len()
        && given.iter().zip(expect).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            secret: "5ec2e7".to_owned(),
            port: 8080,
            vnc: ([127, 0, 0, 1], 5900).into(),
            password: "password".to_owned(),
            files: [("core/rfb.js".to_owned(), b"//".to_vec())].into(),
        }
    }

    fn status(path: &str, headers: &[(header::HeaderName, &'static str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        match page().answer(&Method::GET, path, &map) {
            Answer::Content(..) => 200,
            Answer::Socket => 101,
            Answer::Refused(status) => status.as_u16(),
        }
    }

    #[tokio::test]
    async fn silent_connections_are_bounded_in_number() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, page()));
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        // They are taken in order, so that this one is too many.
        let mut late = tokio::net::TcpStream::connect(address).await.unwrap();
        assert_eq!(late.read(&mut [0; 16]).await.unwrap_or(0), 0);
        // A place that is free again is given to the next.
        drop(silent.pop());
        let mut answer = String::new();
        while answer.is_empty() {
            let mut next = tokio::net::TcpStream::connect(address).await.unwrap();
            let asked = next.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
            if asked.is_ok() {
                let _ = next.read_to_string(&mut answer).await;
            }
        }
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        serving.abort();
    }

    #[test]
    fn only_the_secret_lets_in() {
        let host = [(header::HOST, "127.0.0.1:8080")];
        for (path, expect) in [
            ("/5ec2e7/", 200),
            ("/5ec2e7/password", 200),
            ("/5ec2e7/novnc/core/rfb.js", 200),
            ("/5ec2e7/socket", 101),
            ("/5ec2e7/novnc/core/../../etc/passwd", 404),
            ("/5ec2e7/other", 404),
            ("/5ec2e7", 403),
            ("/5ec2e/password", 403),
            ("/5ec2e8/password", 403),
            ("//password", 403),
            ("/password", 403),
            ("/", 403),
        ] {
            assert_eq!(status(path, &host), expect, "{path}");
        }
    }

    #[test]
    fn other_origins_and_hosts_are_refused() {
        let host = (header::HOST, "127.0.0.1:8080");
        for (headers, expect) in [
            (vec![host.clone(), (header::ORIGIN, "http://127.0.0.1:8080")], 101),
            (
                vec![(header::HOST, "localhost:8080"), (header::ORIGIN, "http://localhost:8080")],
                101,
            ),
            (vec![host.clone(), (header::ORIGIN, "http://evil.example")], 403),
            (vec![host.clone(), (header::ORIGIN, "http://127.0.0.1:8081")], 403),
            (vec![host.clone(), (header::ORIGIN, "null")], 403),
            (vec![(header::HOST, "evil.example:8080")], 403),
            (vec![], 403),
        ] {
            assert_eq!(status("/5ec2e7/socket", &headers), expect, "{headers:?}");
        }
        let headers =
            HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost:8080"))]);
        let answer = page();
        let answer = answer.answer(&Method::POST, "/5ec2e7/", &headers);
        assert_eq!(answer, Answer::Refused(StatusCode::METHOD_NOT_ALLOWED));
    }
}
