//! Which request goes where, who may send it, and how large it may be.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use agent_protocol::{AuthenticateRequest, AuthenticateResponse, PingResponse, limits, paths};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Version};

use crate::agent::Agent;
use crate::answer::answer;
use crate::body::Body;
use crate::{Error, Result, endpoints, token};

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How much of a body that is too large is thrown away before the answer, so that a client that
/// sends all before it reads gets to read. Over HTTP/2 the answer needs no such courtesy.
const MAX_DISCARDED: u64 = 1 << 30;

/// Answers a request; errors become answers.
///
/// # Errors
/// Never.
pub async fn handle(
    agent: Rc<Agent>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let version = request.version();
    Ok(route(agent, request).await.unwrap_or_else(|error| refusal(&error, version)))
}

async fn route(agent: Rc<Agent>, request: Request<Incoming>) -> Result<Response<Body>> {
    let path = request.uri().path();
    if path != paths::AUTHENTICATE {
        authorize(&agent, &request)?;
    }
    let method = match path {
        paths::PING => Method::GET,
        paths::AUTHENTICATE
        | paths::EXECUTE
        | paths::EXECUTE_STREAM
        | paths::SESSION
        | paths::CREATE_USER
        | paths::DELETE_USER
        | paths::FILES_READ
        | paths::FILES_WRITE
        | paths::MOUNT
        | paths::UNMOUNT
        | paths::FREEZE
        | paths::THAW
        | paths::GROW
        | paths::CLOCK
        | paths::IDENTITY
        | paths::SHUTDOWN => Method::POST,
        _ => return Err(Error::UnknownPath { path: path.to_owned() }),
    };
    if request.method() != method {
        return Err(Error::WrongMethod {
            method: request.method().to_string(),
            path: path.to_owned(),
            allowed: if method == Method::GET { "GET" } else { "POST" },
        });
    }
    match path {
        paths::PING => Ok(answer(&PingResponse {
            pong: true,
            pid: std::process::id(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            resync: Some(agent_protocol::resync::VERSION),
            identity: true,
        })),
        paths::SESSION => endpoints::session::open(agent, request.into_body()).await,
        paths::FILES_WRITE => endpoints::files::write(request.into_body()).await,
        path => {
            let path = path.to_owned();
            let body = read_body(request).await?;
            endpoint(agent, &path, &body).await
        }
    }
}

async fn endpoint(agent: Rc<Agent>, path: &str, body: &[u8]) -> Result<Response<Body>> {
    match path {
        paths::AUTHENTICATE => {
            let request = AuthenticateRequest::from_json(body)?;
            if !agent.tokens.accept(request.token.as_bytes()) {
                return Err(Error::Unauthorized);
            }
            Ok(answer(&AuthenticateResponse { authenticated: true }))
        }
        paths::EXECUTE => endpoints::execute::whole(agent, body).await,
        paths::EXECUTE_STREAM => endpoints::execute::stream(agent, body).await,
        paths::CREATE_USER => endpoints::users::create(agent, body).await,
        paths::DELETE_USER => endpoints::users::delete(agent, body).await,
        paths::FILES_READ => endpoints::files::read(body).await,
        paths::MOUNT => endpoints::mount::mount(agent, body).await,
        paths::UNMOUNT => endpoints::mount::unmount(agent, body).await,
        paths::FREEZE => endpoints::disk::freeze(agent, body).await,
        paths::THAW => endpoints::disk::thaw(agent).await,
        paths::GROW => endpoints::disk::grow().await,
        paths::IDENTITY => endpoints::identity::take(agent, body).await,
        paths::CLOCK => endpoints::clock::set(body),
        paths::SHUTDOWN => endpoints::shutdown::request(agent, body).await,
        // One that the router lets pass and that has no place here.
        _ => Err(Error::UnknownPath { path: path.to_owned() }),
    }
}

fn authorize(agent: &Agent, request: &Request<Incoming>) -> Result<()> {
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    match header.and_then(token::bearer) {
        Some(token) if agent.tokens.accept(token) => Ok(()),
        _ => Err(Error::Unauthorized),
    }
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes> {
    let version = request.version();
    let read = async {
        let mut body = request.into_body();
        let announced = hyper::body::Body::size_hint(&body).lower();
        let mut too_large = announced > limits::MAX_BODY as u64;
        let mut n_discarded = 0;
        let mut bytes = BytesMut::new();
        while !too_large || (version < Version::HTTP_2 && n_discarded < MAX_DISCARDED) {
            let Some(frame) = body.frame().await else { break };
            let Ok(data) = frame.map_err(|source| Error::BodyLost { source })?.into_data() else {
                continue;
            };
            too_large |= bytes.len() + data.len() > limits::MAX_BODY;
            if too_large {
                bytes = BytesMut::new();
                n_discarded += data.len() as u64;
            } else {
                bytes.extend_from_slice(&data);
            }
        }
        if too_large {
            return Err(Error::BodyTooLarge { limit: limits::MAX_BODY });
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(BODY_TIME, read)
        .await
        .unwrap_or(Err(Error::BodyTimeout { seconds: BODY_TIME.as_secs() }))
}

fn refusal(error: &Error, version: Version) -> Response<Body> {
    let mut response = answer(&error.response());
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    match error {
        Error::Unauthorized => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Error::WrongMethod { allowed, .. } => {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        _ => {}
    }
    let unread =
        matches!(error.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    if unread && version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
