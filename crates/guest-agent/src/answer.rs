//! Answers with status 200, which endpoints and the router give alike.

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use crate::body::{Body, json};

/// A JSON answer with status 200.
pub fn answer(value: &impl serde::Serialize) -> Response<Body> {
    typed("application/json", Body::Whole(Some(json(value).into())))
}

/// An answer with status 200.
pub fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
