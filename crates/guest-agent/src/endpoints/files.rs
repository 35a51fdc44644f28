//! `POST /files/read` and `POST /files/write`.
//!
//! The work is done on threads of its own: a disk that is frozen, a network file system that has gone
//! and a slow disk hold up the transfer that needs them, and nothing else.

use std::time::Duration;

use agent_protocol::{
    FileEntry, Frame, FrameKind, ReadFilesRequest, WriteFilesRequest, WriteFilesResponse,
    hole_length,
};
use hyper::Response;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::frames::Frames;
use crate::answer::{answer, typed};
use crate::body::Body;
use crate::files::{Reader, Writer};
use crate::{Error, Result};

/// How long the host may let a transfer rest.
const FRAME_TIME: Duration = Duration::from_secs(120);
/// Frames that wait for the disk or the wire, of at most 1 MiB each.
const QUEUE: usize = 2;

/// Sends a file or a tree.
///
/// # Errors
/// Nothing there, or nothing that can be sent. What fails later is said in the answer's last frame.
pub async fn read(body: &[u8]) -> Result<Response<Body>> {
    let request = ReadFilesRequest::from_json(body)?;
    let mut reader = ended(spawn_blocking(move || Reader::new(&request))).await?;
    let (sender, frames) = mpsc::channel(QUEUE);
    spawn_blocking(move || {
        while let Some(frame) = reader.next_frame() {
            // The host may have left.
            if sender.blocking_send(frame).is_err() {
                break;
            }
        }
    });
    Ok(typed("application/octet-stream", Body::Files(frames)))
}

/// Takes a file or a tree.
///
/// # Errors
/// Frames out of place, or what the kernel refuses. Files that were complete by then stay.
pub async fn write(body: Incoming) -> Result<Response<Body>> {
    let mut frames = Frames::new(body);
    let result = take(&mut frames).await;
    frames.drain();
    result
}

async fn take(frames: &mut Frames) -> Result<Response<Body>> {
    let first = frames.next_within(FRAME_TIME).await?;
    let Some(first) = first.filter(|frame| frame.kind == FrameKind::Start) else {
        return Err(out_of_place("the first frame must be a start frame"));
    };
    let request = WriteFilesRequest::from_json(&first.payload)?;
    let (sender, queue) = mpsc::channel(QUEUE);
    let writing = spawn_blocking(move || write_all(&request, queue));
    while let Some(frame) = frames.next_within(FRAME_TIME).await? {
        let is_last = frame.kind == FrameKind::Done;
        // A writer that has failed takes no more frames, and its result says why.
        if sender.send(frame).await.is_err() || is_last {
            return Ok(answer(&ended(writing).await?));
        }
    }
    // The queue ends without its last frame, so that the writer removes what is not whole.
    drop(sender);
    ended(writing).await?;
    Err(out_of_place("the transfer ended without its last frame"))
}

/// Writes until the last frame. Blocking.
fn write_all(
    request: &WriteFilesRequest,
    mut queue: mpsc::Receiver<Frame>,
) -> Result<WriteFilesResponse> {
    let mut writer = Writer::new(request)?;
    while let Some(frame) = queue.blocking_recv() {
        match frame.kind {
            FrameKind::Entry => writer.entry(&FileEntry::from_json(&frame.payload)?)?,
            FrameKind::Data => writer.data(&frame.payload)?,
            FrameKind::Hole => writer.hole(hole_length(&frame.payload)?)?,
            FrameKind::Done => return writer.finish(),
            _ => return Err(out_of_place("a transfer has entries, data and an end")),
        }
    }
    Err(out_of_place("the transfer ended without its last frame"))
}

async fn ended<T>(work: JoinHandle<Result<T>>) -> Result<T> {
    work.await.unwrap_or_else(|error| {
        let source = std::io::Error::other(error.to_string());
        Err(Error::Spawn { stage: "file work", source })
    })
}

fn out_of_place(what: &str) -> Error {
    Error::Protocol(agent_protocol::Error::value(format!("Frame out of place: {what}"), None))
}
