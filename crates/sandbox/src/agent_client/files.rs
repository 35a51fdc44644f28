//! Files to and from the guest: transfers of frames, and the requests about mounts.

use super::{AgentClient, RequestBody, accept, broken, read_bounded, refused};
use crate::error::{Error, Result};
use agent_protocol::frame::{self, FrameDecoder, FrameKind};
use agent_protocol::{
    FileEntry, MountRequest, ReadFilesRequest, UnmountRequest, WriteFilesRequest,
    WriteFilesResponse, limits, paths,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Response};
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest short answer.
const MAX_ANSWER: usize = 64 << 10;
/// How long the guest may let a transfer rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// A part of a transfer from the guest.
#[derive(Debug)]
pub(crate) enum Part {
    /// A file, folder or link begins.
    Entry(FileEntry),
    /// Bytes of the file that began last.
    Data(Bytes),
}

/// A transfer from the guest as it arrives.
pub(crate) struct Parts {
    body: Incoming,
    decoder: FrameDecoder,
}

impl Parts {
    /// The next part; `None` when the transfer is complete.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(broken)? {
                return match frame.kind {
                    FrameKind::Entry => {
                        Ok(Some(Part::Entry(FileEntry::from_json(&frame.payload).map_err(broken)?)))
                    }
                    FrameKind::Data => Ok(Some(Part::Data(frame.payload))),
                    FrameKind::Done => Ok(None),
                    FrameKind::Error => {
                        let answer = serde_json::from_slice(&frame.payload).map_err(broken)?;
                        Err(of_file(refused(400, answer)))
                    }
                    kind => Err(Error::AgentBroken {
                        reason: format!("the guest sent a {kind:?} frame"),
                    }),
                };
            }
            match patiently(async { Ok(self.body.frame().await) }).await? {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.decoder.feed(data);
                    }
                }
                None => {
                    let reason = "it ended in the middle of a file".into();
                    return Err(Error::AgentBroken { reason });
                }
            }
        }
    }
}

impl AgentClient {
    /// Asks for a file or a tree.
    pub(crate) async fn read_files(&self, request: &ReadFilesRequest) -> Result<Parts> {
        request.validate().map_err(invalid)?;
        let response = self.post(paths::FILES_READ, request).await.map_err(of_file)?;
        Ok(Parts { body: response.into_body(), decoder: FrameDecoder::new() })
    }

    /// Sends what the queue brings: frames of entries and data. The queue's end is the transfer's,
    /// unless the sender has said by then that it failed.
    pub(crate) async fn write_files(
        &self,
        request: &WriteFilesRequest,
        frames: mpsc::Receiver<Bytes>,
    ) -> Result<WriteFilesResponse> {
        request.validate().map_err(invalid)?;
        let first = frame::encode(FrameKind::Start, &serde_json::to_vec(request).map_err(broken)?);
        let body = RequestBody::queue(first, frames);
        let response = self.send(Method::POST, paths::FILES_WRITE, body).await?;
        let response = accept(response).await.map_err(of_file)?;
        let answer = read_bounded(response.into_body(), MAX_ANSWER).await?;
        serde_json::from_slice(&answer).map_err(broken)
    }

    /// Mounts a share in the guest.
    pub(crate) async fn mount(&self, request: &MountRequest) -> Result<()> {
        self.post(paths::MOUNT, request).await?;
        Ok(())
    }

    /// Unmounts one.
    pub(crate) async fn unmount(&self, request: &UnmountRequest) -> Result<()> {
        self.post(paths::UNMOUNT, request).await?;
        Ok(())
    }

    async fn post(
        &self,
        path: &'static str,
        request: &impl serde::Serialize,
    ) -> Result<Response<Incoming>> {
        let body = RequestBody::json(serde_json::to_vec(request).map_err(broken)?);
        let response = patiently(self.send(Method::POST, path, body)).await?;
        match accept(response).await {
            // Agents made elsewhere, and those of older images.
            Err(Error::AgentRefused { status: 404, message, .. })
                if message.is_empty() || message.contains(path) =>
            {
                Err(Error::AgentRefused {
                    status: 404,
                    message: format!("this image's agent does not serve `{path}`"),
                    hint: Some("Bake the image again, or use one of this release".into()),
                })
            }
            result => result,
        }
    }
}

async fn patiently<T>(wait: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or(Err(Error::GuestSilent { timeout: PATIENCE }))
}

fn invalid(error: agent_protocol::Error) -> Error {
    Error::InvalidPath { message: error.to_string(), hint: error.hint() }
}

/// A refusal that is about a file of the guest.
fn of_file(error: Error) -> Error {
    match error {
        Error::AgentRefused { status, message, hint: None } if status != 401 => {
            let is_missing = status == 404 || message.contains("(os error 2)");
            Error::GuestFile { message, is_missing }
        }
        error => error,
    }
}

/// The frames of one file.
pub(crate) fn entry_frame(entry: &FileEntry) -> Bytes {
    // Plain structs of strings and numbers always have a JSON form.
    frame::encode(FrameKind::Entry, &serde_json::to_vec(entry).unwrap_or_default())
}

/// A frame of a file's bytes, at most [`limits::MAX_FRAME_PAYLOAD`].
pub(crate) fn data_frame(bytes: &[u8]) -> Bytes {
    frame::encode(FrameKind::Data, &bytes[..bytes.len().min(limits::MAX_FRAME_PAYLOAD)])
}

/// The last frame.
pub(crate) fn done_frame() -> Bytes {
    frame::encode(FrameKind::Done, &[])
}
