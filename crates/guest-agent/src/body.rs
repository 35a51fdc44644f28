//! Bodies of answers: whole, or a command's events and files as they come.
//!
//! A body is asked for its next frame only when the connection can take one, and asks the command
//! in turn: that is the back-pressure.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use agent_protocol::event::{TextSplitter, encode_error, encode_exit, encode_output};
use agent_protocol::{FrameKind, frame};
use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::process::{Event, Running, Stream};

/// How a command's events are written.
pub enum Encoding {
    /// Binary frames.
    Frames,
    /// Server-sent events, with a splitter for each stream.
    Events([TextSplitter; 2]),
}

/// The body of an answer.
pub enum Body {
    /// All of it.
    Whole(Option<Bytes>),
    Command(Box<CommandBody>),
    /// Files on their way to the host, as frames from the thread that reads them.
    Files(mpsc::Receiver<Bytes>),
}

/// A command's events as a body.
pub struct CommandBody {
    running: Running,
    first: Option<Event>,
    encoding: Encoding,
    done: bool,
}

impl Body {
    /// A body of events; `first` is one that was taken already.
    pub fn command(running: Running, first: Option<Event>, encoding: Encoding) -> Self {
        Self::Command(Box::new(CommandBody { running, first, encoding, done: false }))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Command(command) => command.poll_bytes(cx).map(|b| b.map(|b| Ok(Frame::data(b)))),
            Self::Files(frames) => frames.poll_recv(cx).map(|b| b.map(|b| Ok(Frame::data(b)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Command(command) => command.done,
            Self::Files(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Command(_) | Self::Files(_) => SizeHint::default(),
        }
    }
}

impl CommandBody {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.done {
                return Poll::Ready(None);
            }
            let event = match self.first.take() {
                Some(event) => event,
                None => match ready!(self.running.poll_event(cx)) {
                    Some(event) => event,
                    None => {
                        self.done = true;
                        return Poll::Ready(None);
                    }
                },
            };
            self.done = matches!(event, Event::Exit(_) | Event::Failed(_));
            if self.done {
                self.running.retire();
            }
            let bytes = match &mut self.encoding {
                Encoding::Frames => encode_frame(&mut self.running, event),
                Encoding::Events(splitters) => encode_event(splitters, event),
            };
            // An unfinished character alone makes no event.
            if !bytes.is_empty() {
                return Poll::Ready(Some(bytes));
            }
        }
    }
}

fn encode_frame(running: &mut Running, event: Event) -> Bytes {
    match event {
        Event::Output(stream, chunk) => {
            let kind = match stream {
                Stream::Stdout => FrameKind::Stdout,
                Stream::Stderr => FrameKind::Stderr,
            };
            let bytes = chunk.into_frame(kind);
            running.lend(stream, &bytes);
            bytes
        }
        Event::Exit(report) => frame::encode(FrameKind::Exit, &json(&report)),
        Event::Failed(error) => frame::encode(FrameKind::Error, &json(&error)),
    }
}

fn encode_event(splitters: &mut [TextSplitter; 2], event: Event) -> Bytes {
    const NAMES: [&str; 2] = ["stdout", "stderr"];
    let mut bytes = BytesMut::new();
    match event {
        Event::Output(stream, chunk) => {
            let text = splitters[stream as usize].push(chunk.bytes());
            if !text.is_empty() {
                encode_output(NAMES[stream as usize], &text, &mut bytes);
            }
            return bytes.freeze();
        }
        Event::Exit(_) | Event::Failed(_) => {
            for (splitter, name) in splitters.iter_mut().zip(NAMES) {
                let rest = splitter.finish();
                if !rest.is_empty() {
                    encode_output(name, &rest, &mut bytes);
                }
            }
        }
    }
    match event {
        Event::Exit(report) => encode_exit(&report, &mut bytes),
        Event::Failed(error) => encode_error(&error, &mut bytes),
        Event::Output(..) => {}
    }
    bytes.freeze()
}

/// The JSON text of an answer.
pub fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Answers are structs of strings, numbers and flags, for which writing into memory cannot fail.
    serde_json::to_vec(value).expect("an answer is plain data")
}
