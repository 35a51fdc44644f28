//! Sessions: a command whose streams pass both ways while it runs.
//!
//! With our own agent they are the frames of `agent_protocol`; agents made elsewhere only have
//! server-sent events, which carry output but neither input, nor environment, nor a terminal.

use super::{AgentClient, RequestBody, accept, broken, refused};
use crate::error::{Error, Result};
use crate::execute::{ExecuteRequest, Pty, SessionEvent};
use agent_protocol::event::EventDecoder;
use agent_protocol::frame::{self, FrameDecoder, FrameKind};
use agent_protocol::{ErrorResponse, ExitReport, StreamEvent, limits, paths};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of standard input in one frame.
const STDIN_CHUNK: usize = 256 << 10;

/// The sending half of a session. Clones send to the same command.
#[derive(Clone, Debug)]
pub struct SessionInput {
    frames: mpsc::Sender<Bytes>,
}

impl SessionInput {
    /// Sends bytes to the command's standard input or terminal, as fast as it reads them.
    pub async fn write(&self, data: Bytes) -> Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(STDIN_CHUNK));
            self.send(frame::encode(FrameKind::Stdin, &chunk)).await?;
        }
        Ok(())
    }

    /// Ends the command's standard input.
    pub async fn close(&self) -> Result<()> {
        self.send(frame::encode(FrameKind::StdinEof, &[])).await
    }

    /// Tells the terminal's new size, in characters.
    pub async fn resize(&self, rows: u16, cols: u16) -> Result<()> {
        let size = agent_protocol::ResizeRequest { rows, cols };
        self.send(json_frame(FrameKind::Resize, &size)).await
    }

    /// Sends a signal, by its Linux number, to the command's process group.
    pub async fn signal(&self, signal: i32) -> Result<()> {
        let signal = agent_protocol::SignalRequest { signal };
        self.send(json_frame(FrameKind::Signal, &signal)).await
    }

    async fn send(&self, frame: Bytes) -> Result<()> {
        self.frames
            .send(frame)
            .await
            .map_err(|_| Error::AgentBroken { reason: "the command has ended".into() })
    }
}

/// The receiving half of a session. Dropping it kills the command.
pub struct SessionOutput {
    body: Incoming,
    decoder: Decoder,
    ready: VecDeque<SessionEvent>,
    ended: bool,
    /// Keeps the request open for those who send nothing: its end would be the command's.
    _input: Option<SessionInput>,
}

impl std::fmt::Debug for SessionOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionOutput").field("ended", &self.ended).finish_non_exhaustive()
    }
}

enum Decoder {
    Frames(FrameDecoder),
    Events(EventDecoder),
}

impl SessionOutput {
    /// The next event; `None` after [`SessionEvent::Exit`]. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<SessionEvent>> {
        loop {
            // Whatever a guest sends after the exit is not looked at.
            if self.ended {
                return Ok(None);
            }
            if let Some(event) = self.ready.pop_front() {
                self.ended |= matches!(event, SessionEvent::Exit { .. });
                return Ok(Some(event));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.decode(data)?;
                    }
                }
                None => {
                    let reason = "it ended before the command's exit".into();
                    return Err(Error::AgentBroken { reason });
                }
            }
        }
    }

    fn decode(&mut self, data: Bytes) -> Result<()> {
        match &mut self.decoder {
            Decoder::Frames(decoder) => {
                decoder.feed(data);
                while let Some(frame) = decoder.next_frame().map_err(broken)? {
                    self.ready.push_back(from_frame(frame)?);
                }
            }
            Decoder::Events(decoder) => {
                for event in decoder.feed(&data).map_err(broken)? {
                    self.ready.push_back(match event {
                        StreamEvent::Stdout(data) => SessionEvent::Stdout(data),
                        StreamEvent::Stderr(data) => SessionEvent::Stderr(data),
                        StreamEvent::Exit(exit) => from_exit(&exit),
                        StreamEvent::Error(error) => {
                            return Err(refused(200, ErrorResponse { error, hint: None }));
                        }
                    });
                }
            }
        }
        Ok(())
    }
}

fn from_frame(frame: frame::Frame) -> Result<SessionEvent> {
    match frame.kind {
        FrameKind::Stdout => Ok(SessionEvent::Stdout(frame.payload)),
        FrameKind::Stderr => Ok(SessionEvent::Stderr(frame.payload)),
        FrameKind::Exit => {
            let exit: ExitReport = serde_json::from_slice(&frame.payload).map_err(broken)?;
            Ok(from_exit(&exit))
        }
        FrameKind::Error => {
            Err(refused(200, serde_json::from_slice(&frame.payload).map_err(broken)?))
        }
        kind => Err(Error::AgentBroken { reason: format!("the guest sent a {kind:?} frame") }),
    }
}

fn from_exit(exit: &ExitReport) -> SessionEvent {
    SessionEvent::Exit { exit_code: exit.exit_code, timed_out: exit.timed_out }
}

impl AgentClient {
    /// Runs a command as a session. Without `interactive` the request's own standard input is all
    /// that the command reads.
    pub(crate) async fn session(
        &self,
        request: &ExecuteRequest,
        pty: Option<&Pty>,
        interactive: bool,
    ) -> Result<(SessionInput, SessionOutput)> {
        let wire = wire_request(request, pty)?;
        if !self.has_sessions() {
            return self.event_session(wire, request, pty, interactive).await;
        }
        let start = serde_json::to_vec(&wire).map_err(broken)?;
        if start.len() > limits::MAX_FRAME_PAYLOAD {
            return Err(Error::InvalidRequest {
                message: format!("command and environment have {} bytes in all", start.len()),
                hint: Some("Send large data on standard input or write it to a file first".into()),
            });
        }
        let mut first = BytesMut::from(&frame::encode(FrameKind::Start, &start)[..]);
        let has_input = interactive || !request.stdin.is_empty();
        if !has_input {
            // In one portion with the start, so that the agent spares the command a pipe.
            first.extend_from_slice(&frame::encode(FrameKind::StdinEof, &[]));
        }
        let (mut body, frames) = RequestBody::frames(first.freeze());
        if !has_input {
            // A request that is complete is never reset for its rest, and the agent's HTTP/2
            // ends a connection after some hundreds of such resets.
            body.rest = None;
        }
        let input = SessionInput { frames };
        let response = self.send(Method::POST, paths::SESSION, body).await?;
        if matches!(response.status().as_u16(), 404 | 405) {
            self.note_no_sessions();
            return self.event_session(wire, request, pty, interactive).await;
        }
        let response = accept(response).await?;
        let output = SessionOutput {
            body: response.into_body(),
            decoder: Decoder::Frames(FrameDecoder::new()),
            ready: VecDeque::new(),
            ended: false,
            _input: (!interactive).then(|| input.clone()),
        };
        Ok((input, output))
    }

    /// Runs a command on an agent that has no sessions.
    async fn event_session(
        &self,
        wire: agent_protocol::ExecuteRequest,
        request: &ExecuteRequest,
        pty: Option<&Pty>,
        interactive: bool,
    ) -> Result<(SessionInput, SessionOutput)> {
        if interactive || pty.is_some() || !request.stdin.is_empty() || !request.env.is_empty() {
            return Err(Error::AgentRefused {
                status: 404,
                message: "this image's agent takes neither input nor an environment".into(),
                hint: Some("Write both into the command itself".into()),
            });
        }
        let texts = [Some(&wire.command), wire.cwd.as_ref(), wire.shell.as_ref()];
        if texts.into_iter().flatten().any(|text| text.as_str().is_none()) {
            return Err(Error::InvalidRequest {
                message: "command, folder or shell is not UTF-8, which this image's agent cannot \
                    take"
                    .into(),
                hint: Some("Write the bytes as escapes of `printf` in the command".into()),
            });
        }
        // Only what every agent of the layout knows, as others may refuse unknown fields.
        let body = serde_json::json!({
            "command": wire.command,
            "timeout": wire.timeout,
            "cwd": wire.cwd,
            "shell": wire.shell,
            "user": wire.user,
            "exclusive": wire.exclusive,
        });
        let body = RequestBody::json(body.to_string().into_bytes());
        let response = accept(self.send(Method::POST, paths::EXECUTE_STREAM, body).await?).await?;
        // The queue's other end is gone, so that sending says that the agent does not listen.
        let (frames, _) = mpsc::channel(1);
        let output = SessionOutput {
            body: response.into_body(),
            decoder: Decoder::Events(EventDecoder::new()),
            ready: VecDeque::new(),
            ended: false,
            _input: None,
        };
        Ok((SessionInput { frames }, output))
    }
}

/// The request in the agent's words, checked here as the agent would, so that a mistake costs no
/// trip and is reported as the caller's.
fn wire_request(
    request: &ExecuteRequest,
    pty: Option<&Pty>,
) -> Result<agent_protocol::ExecuteRequest> {
    // What the agent's clock cannot count to is no limit.
    let limit = Duration::from_secs_f64(limits::MAX_TIMEOUT_SECONDS);
    let wire = agent_protocol::ExecuteRequest {
        command: request.command.clone(),
        timeout: request
            .timeout
            .filter(|timeout| *timeout <= limit)
            .map(|timeout| timeout.as_secs_f64()),
        cwd: request.cwd.clone(),
        shell: Some(request.shell.clone()),
        user: request.user.clone(),
        exclusive: request.exclusive,
        env: request.env.clone(),
        pty: pty.map(|pty| agent_protocol::PtyRequest {
            rows: pty.rows,
            cols: pty.cols,
            term: Some(pty.term.clone()),
        }),
        ..agent_protocol::ExecuteRequest::default()
    };
    wire.validate().map_err(|error| Error::InvalidRequest {
        hint: error.hint(),
        message: error.to_string(),
    })?;
    Ok(wire)
}

fn json_frame(kind: FrameKind, value: &impl serde::Serialize) -> Bytes {
    // Plain structs of strings and numbers always have a JSON form.
    frame::encode(kind, &serde_json::to_vec(value).unwrap_or_default())
}
