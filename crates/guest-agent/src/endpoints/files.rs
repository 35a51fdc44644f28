//! `POST /files/read` and `POST /files/write`.

use std::time::Duration;

use agent_protocol::{FileEntry, FrameKind, ReadFilesRequest, WriteFilesRequest};
use hyper::Response;
use hyper::body::Incoming;

use super::frames::Frames;
use crate::body::Body;
use crate::files::{Reader, Writer};
use crate::router::{answer, typed};
use crate::{Error, Result};

/// How long the host may let a transfer rest.
const FRAME_TIME: Duration = Duration::from_secs(120);

/// Sends a file or a tree.
///
/// # Errors
/// Nothing there, or nothing that can be sent. What fails later is told in the answer's last frame.
pub fn read(body: &[u8]) -> Result<Response<Body>> {
    let reader = Reader::new(&ReadFilesRequest::from_json(body)?)?;
    Ok(typed("application/octet-stream", reader.into()))
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
    let mut writer = Writer::new(&WriteFilesRequest::from_json(&first.payload)?)?;
    while let Some(frame) = frames.next_within(FRAME_TIME).await? {
        match frame.kind {
            FrameKind::Entry => writer.entry(&FileEntry::from_json(&frame.payload)?)?,
            FrameKind::Data => writer.data(&frame.payload)?,
            FrameKind::Done => return Ok(answer(&writer.finish()?)),
            _ => return Err(out_of_place("a transfer has entries, data and an end")),
        }
    }
    Err(out_of_place("the transfer ended without its last frame"))
}

fn out_of_place(what: &str) -> Error {
    Error::Protocol(agent_protocol::Error::value(format!("Frame out of place: {what}"), None))
}
