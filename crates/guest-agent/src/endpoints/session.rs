//! `POST /session`: one command, full duplex, in binary frames.
//!
//! The body of the request is read by a task of its own; when it breaks off, the command is killed. Errors of the start frame are the session's, not HTTP's: the
//! host has one place to look for them.

use std::rc::{Rc, Weak};
use std::time::Duration;

use agent_protocol::{
    ExecuteRequest, ExitReport, Frame, FrameKind, ResizeRequest, SignalRequest, frame,
    timeout_message,
};
use hyper::Response;
use hyper::body::Incoming;

use super::frames::Frames;
use super::start;
use crate::agent::Agent;
use crate::answer::typed;
use crate::body::{Body, Encoding, json};
use crate::process::running::{Process, Stdin};
use crate::{Error, Result};

const CONTENT_TYPE: &str = "application/octet-stream";
/// How long the first frame may take to arrive.
const START_TIME: Duration = Duration::from_secs(60);
/// How long the answer's head waits for the command's first event, so that both leave as one
/// message for a command that is quick.
const TOGETHER: Duration = Duration::from_millis(20);

/// Runs the session.
///
/// # Errors
/// Only when the request breaks off before its first frame.
pub async fn open(agent: Rc<Agent>, body: Incoming) -> Result<Response<Body>> {
    let frames = Frames::new(body);
    match begin(&agent, frames).await {
        Ok(response) => Ok(response),
        Err(error @ (Error::BodyLost { .. } | Error::BodyTimeout { .. })) => Err(error),
        Err(Error::WaitTimeout { seconds }) => {
            let exit = ExitReport { exit_code: -1, timed_out: true, signal: None };
            let mut frames =
                frame::encode(FrameKind::Stderr, timeout_message(seconds).as_bytes()).to_vec();
            frames.extend(frame::encode(FrameKind::Exit, &json(&exit)));
            Ok(typed(CONTENT_TYPE, Body::Whole(Some(frames.into()))))
        }
        Err(error) => {
            let frame = frame::encode(FrameKind::Error, &json(&error.response()));
            Ok(typed(CONTENT_TYPE, Body::Whole(Some(frame))))
        }
    }
}

async fn begin(agent: &Rc<Agent>, mut frames: Frames) -> Result<Response<Body>> {
    let first = frames.next_within(START_TIME).await?;
    let Some(Frame { kind: FrameKind::Start, payload }) = first else {
        return Err(out_of_place("the first frame must be a start frame"));
    };
    let request = ExecuteRequest::from_json(&payload)?;
    let ahead = request.stdin_bytes()?;
    // A host without input says so at once, which spares a pipe.
    let next = frames.decoder.next_frame()?;
    let no_input = request.pty.is_none()
        && ahead.is_none()
        && next.as_ref().is_some_and(|frame| frame.kind == FrameKind::StdinEof);
    let stdin = if no_input { Stdin::Null } else { Stdin::Queue };
    let mut running = start(agent, &request, stdin).await?;
    let process = Rc::clone(running.process());
    if let Some(bytes) = ahead {
        process.input().push(bytes.into()).await;
    }
    if let Some(frame) = next {
        apply(&process, frame).await?;
    }
    tokio::task::spawn_local(feed(Rc::downgrade(&process), frames));
    drop(process);
    let first = match stdin {
        Stdin::Null => tokio::time::timeout(TOGETHER, running.next()).await.unwrap_or(None),
        Stdin::Queue => None,
    };
    Ok(typed(CONTENT_TYPE, Body::command(running, first, Encoding::Frames)))
}

/// Passes on what the host sends until it ends. What arrives after the command's end is read all
/// the same: a body that is dropped before its end resets its stream, and what the host had on its
/// way then counts as misuse of the connection.
async fn feed(process: Weak<Process>, mut frames: Frames) {
    loop {
        let next = frames.next().await;
        let Some(process) = process.upgrade() else {
            match next {
                Ok(Some(_)) => continue,
                Ok(None) | Err(_) => return,
            }
        };
        let applied = match next {
            Ok(Some(frame)) => apply(&process, frame).await,
            Ok(None) => {
                process.input().close();
                return;
            }
            Err(error) => Err(error),
        };
        if let Err(error) = applied {
            process.fail(error.response());
            return;
        }
    }
}

async fn apply(process: &Process, frame: Frame) -> Result<()> {
    match frame.kind {
        FrameKind::Stdin => process.input().push(frame.payload).await,
        FrameKind::StdinEof => process.input().close(),
        FrameKind::Resize => {
            let size = ResizeRequest::from_json(&frame.payload)?;
            process.resize(size.rows, size.cols);
        }
        FrameKind::Signal => {
            let signal = SignalRequest::from_json(&frame.payload)?.signal;
            if !(1..=64).contains(&signal) {
                return Err(Error::Protocol(agent_protocol::Error::value(
                    format!("`signal` is `{signal}`, not 1 to 64"),
                    None,
                )));
            }
            process.signal(signal);
        }
        _ => return Err(out_of_place("a host sends input, resizes and signals")),
    }
    Ok(())
}

fn out_of_place(what: &str) -> Error {
    Error::Protocol(agent_protocol::Error::value(format!("Frame out of place: {what}"), None))
}
