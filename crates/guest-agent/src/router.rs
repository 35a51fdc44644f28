//! Which request goes where, who may send it, and how large it may be.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use agent_protocol::routes::{self, Endpoint, Route};
use agent_protocol::{AuthenticateRequest, AuthenticateResponse, PingResponse, limits};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode, Version};

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
    let route = routes::find(request.uri().path());
    if route.is_none_or(Route::needs_token) {
        authorize(&agent, &request)?;
    }
    let unknown = || Error::UnknownPath { path: request.uri().path().to_owned() };
    let route = route.ok_or_else(unknown)?;
    if request.method() != route.method() {
        return Err(Error::WrongMethod {
            method: request.method().to_string(),
            path: route.path.to_owned(),
            allowed: route.method(),
        });
    }
    match route.endpoint {
        Endpoint::Authenticate => authenticate(&agent, &read_body(request).await?),
        Endpoint::Ping => Ok(answer(&PingResponse {
            pong: true,
            pid: std::process::id(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            resync: Some(agent_protocol::resync::VERSION),
            identity: true,
        })),
        Endpoint::Execute => endpoints::execute::whole(agent, &read_body(request).await?).await,
        Endpoint::ExecuteStream => {
            endpoints::execute::stream(agent, &read_body(request).await?).await
        }
        Endpoint::Session => endpoints::session::open(agent, request.into_body()).await,
        Endpoint::CreateUser => endpoints::users::create(agent, &read_body(request).await?).await,
        Endpoint::DeleteUser => endpoints::users::delete(agent, &read_body(request).await?).await,
        Endpoint::ReadFiles => endpoints::files::read(&read_body(request).await?).await,
        Endpoint::WriteFiles => endpoints::files::write(request.into_body()).await,
        Endpoint::Mount => endpoints::mount::mount(agent, &read_body(request).await?).await,
        Endpoint::Unmount => endpoints::mount::unmount(agent, &read_body(request).await?).await,
        Endpoint::Freeze => endpoints::disk::freeze(agent, &read_body(request).await?).await,
        Endpoint::Thaw => {
            read_body(request).await?;
            endpoints::disk::thaw(agent).await
        }
        Endpoint::Grow => {
            read_body(request).await?;
            endpoints::disk::grow().await
        }
        Endpoint::SetClock => endpoints::clock::set(&read_body(request).await?),
        Endpoint::TakeIdentity => {
            endpoints::identity::take(agent, &read_body(request).await?).await
        }
        Endpoint::Shutdown => endpoints::shutdown::request(agent, &read_body(request).await?).await,
    }
}

fn authenticate(agent: &Agent, body: &[u8]) -> Result<Response<Body>> {
    let request = AuthenticateRequest::from_json(body)?;
    if !agent.tokens.accept(request.token.as_bytes()) {
        return Err(Error::Unauthorized);
    }
    Ok(answer(&AuthenticateResponse { authenticated: true }))
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
