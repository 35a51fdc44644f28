//! `POST /clock`: the clock of a machine that stood still is behind by as long.

use agent_protocol::ClockRequest;
use hyper::Response;

use crate::answer::answer;
use crate::body::Body;
use crate::{Error, Result, clock};

/// Sets it. In the agent's own thread: each moment in another one would be missing from the time.
///
/// # Errors
/// A malformed body, and a kernel that refuses.
pub fn set(body: &[u8]) -> Result<Response<Body>> {
    let request = ClockRequest::from_json(body)?;
    clock::set(request.unix_nanos)
        .map_err(|source| Error::Boot { step: "set the clock".into(), source })?;
    Ok(answer(&clock::response()))
}
