//! `POST /execute` and `POST /execute_stream`.

use std::rc::Rc;

use agent_protocol::{ExecuteRequest, ExecuteResponse, ExitReport, event, limits, timeout_message};
use bytes::BytesMut;
use hyper::Response;

use super::{no_terminal, start};
use crate::agent::Agent;
use crate::answer::{answer, typed};
use crate::body::{Body, Encoding};
use crate::process::running::Stdin;
use crate::process::{Event, Running, Stream};
use crate::{Error, Result};

const EVENT_STREAM: &str = "text/event-stream";
/// The end of a command whose time was over before it could begin.
const EXPIRED: ExitReport = ExitReport { exit_code: -1, timed_out: true, signal: None };

/// Runs a command and answers with all of its output.
///
/// # Errors
/// A request that is refused, or a command that cannot be started.
pub async fn whole(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let request = ExecuteRequest::from_json(body)?;
    let running = match begin(&agent, &request).await {
        Err(Error::WaitTimeout { seconds }) => {
            let stderr = timeout_message(seconds).into_bytes();
            return Ok(answer(&ExecuteResponse::from_bytes(Vec::new(), stderr, &EXPIRED)));
        }
        result => result?,
    };
    let limit = request.max_output_bytes.unwrap_or(limits::DEFAULT_MAX_OUTPUT);
    Ok(answer(&collect(running, limit).await?))
}

/// Runs a command and answers with events.
///
/// # Errors
/// A request that is refused, or a command that cannot be started.
pub async fn stream(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let request = ExecuteRequest::from_json(body)?;
    let running = match begin(&agent, &request).await {
        Err(Error::WaitTimeout { seconds }) => {
            let mut events = BytesMut::new();
            event::encode_output("stderr", timeout_message(seconds).as_bytes(), &mut events);
            event::encode_exit(&EXPIRED, &mut events);
            return Ok(typed(EVENT_STREAM, Body::Whole(Some(events.freeze()))));
        }
        result => result?,
    };
    let encoding = Encoding::Events(Default::default());
    Ok(typed(EVENT_STREAM, Body::command(running, None, encoding)))
}

async fn begin(agent: &Rc<Agent>, request: &ExecuteRequest) -> Result<Running> {
    no_terminal(request)?;
    let Some(bytes) = request.stdin_bytes()? else {
        return start(agent, request, Stdin::Null).await;
    };
    let running = start(agent, request, Stdin::Queue).await?;
    // One message of any size fits the queue, which counts only what is in it already.
    running.process().input().push(bytes.into()).await;
    running.process().input().close();
    Ok(running)
}

/// Output up to a limit; the rest is counted and thrown away, so that the command can end.
struct Bounded {
    bytes: Vec<u8>,
    limit: u64,
    n_dropped: u64,
}

impl Bounded {
    fn new(limit: u64) -> Self {
        Self { bytes: Vec::new(), limit, n_dropped: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len() as u64);
        let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.n_dropped += (bytes.len() - kept) as u64;
    }

    /// The bytes, with a line at the end that says what is missing.
    fn finish(mut self) -> (Vec<u8>, u64) {
        if self.n_dropped > 0 {
            let marker = format!(
                "\n[quicksand: output cut after {} bytes, {} more dropped]\n",
                self.bytes.len(),
                self.n_dropped
            );
            self.bytes.extend_from_slice(marker.as_bytes());
        }
        (self.bytes, self.n_dropped)
    }
}

async fn collect(mut running: Running, limit: u64) -> Result<ExecuteResponse> {
    let [mut stdout, mut stderr] = [Bounded::new(limit), Bounded::new(limit)];
    loop {
        match running.next().await {
            Some(Event::Output(Stream::Stdout, chunk)) => stdout.add(chunk.bytes()),
            Some(Event::Output(Stream::Stderr, chunk)) => stderr.add(chunk.bytes()),
            Some(Event::Exit(report)) => {
                let (stdout, stdout_dropped_bytes) = stdout.finish();
                let (stderr, stderr_dropped_bytes) = stderr.finish();
                let response = ExecuteResponse::from_bytes(stdout, stderr, &report);
                return Ok(ExecuteResponse {
                    stdout_dropped_bytes,
                    stderr_dropped_bytes,
                    ..response
                });
            }
            Some(Event::Failed(error)) => {
                return Err(Error::Tool { tool: "command".into(), output: error.error });
            }
            None => return Err(Error::Tool { tool: "command".into(), output: "no result".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bounded;

    #[test]
    fn what_is_over_the_limit_is_counted_and_marked() {
        let mut bounded = Bounded::new(4);
        bounded.add(b"abc");
        bounded.add(b"def");
        bounded.add(b"g");
        let (bytes, n_dropped) = bounded.finish();
        assert_eq!(n_dropped, 3);
        assert_eq!(bytes, b"abcd\n[quicksand: output cut after 4 bytes, 3 more dropped]\n");
        let mut bounded = Bounded::new(4);
        bounded.add(b"abcd");
        assert_eq!(bounded.finish(), (b"abcd".to_vec(), 0));
    }
}
