//! Files to and from the guest: transfers of frames, and the requests about mounts.

use super::{AgentClient, RequestBody, accept, broken, read_bounded, refused};
use crate::deadline::{PATIENCE, PIECE, Pace};
use crate::error::{Error, Result};
use agent_protocol::frame::{self, FrameDecoder, FrameKind};
use agent_protocol::{
    FileEntry, MountRequest, ReadFilesRequest, UnmountRequest, WriteFilesRequest,
    WriteFilesResponse, hole_length, hole_payload, limits, paths,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Response};
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest short answer.
const MAX_ANSWER: usize = 64 << 10;
/// How long the guest may take to mount or unmount a share.
const MOUNT_PATIENCE: Duration = Duration::from_secs(120);
/// What this side calls the answer of an agent that does not have an endpoint.
const NOT_SERVED: u16 = 501;

/// A part of a transfer from the guest.
#[derive(Debug)]
pub(crate) enum Part {
    /// A file, folder or link begins.
    Entry(FileEntry),
    /// Bytes of the file that began last, at least one.
    Data(Bytes),
    /// So many bytes of it that were never written, at least one.
    Hole(u64),
}

/// A transfer from the guest as it arrives.
pub(crate) struct Parts {
    body: Incoming,
    decoder: FrameDecoder,
    pace: Pace,
}

impl Parts {
    /// The next part; `None` when the transfer is complete.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>> {
        let part = self.next_part().await?;
        self.pace.moved(match &part {
            Some(Part::Data(data)) => data.len() as u64,
            Some(Part::Entry(_) | Part::Hole(_)) => PIECE,
            None => 0,
        });
        Ok(part)
    }

    async fn next_part(&mut self) -> Result<Option<Part>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(broken)? {
                return match frame.kind {
                    FrameKind::Entry => {
                        Ok(Some(Part::Entry(FileEntry::from_json(&frame.payload).map_err(broken)?)))
                    }
                    // Frames without a byte would never exceed a limit.
                    FrameKind::Data if frame.payload.is_empty() => {
                        Err(Error::AgentBroken { reason: "the guest sent an empty frame".into() })
                    }
                    FrameKind::Data => Ok(Some(Part::Data(frame.payload))),
                    FrameKind::Hole => {
                        Ok(Some(Part::Hole(hole_length(&frame.payload).map_err(broken)?)))
                    }
                    FrameKind::Done => Ok(None),
                    FrameKind::Error => {
                        let answer = serde_json::from_slice(&frame.payload).map_err(broken)?;
                        Err(file_error(refused(400, answer)))
                    }
                    kind => Err(Error::AgentBroken {
                        reason: format!("the guest sent a {kind:?} frame"),
                    }),
                };
            }
            match self.pace.wait(self.body.frame()).await? {
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
        let call = patiently(PATIENCE, self.post(paths::FILES_READ, request));
        let response = call.await.map_err(file_error)?;
        Ok(Parts {
            body: response.into_body(),
            decoder: FrameDecoder::new(),
            pace: Pace::default(),
        })
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
        let (frames, pulse) = relay(frames);
        let body = RequestBody::queue(first, frames);
        let call = async {
            let response = self.send(Method::POST, paths::FILES_WRITE, body).await?;
            let response = accept(response).await.map_err(file_error)?;
            let answer = read_bounded(response.into_body(), MAX_ANSWER).await?;
            serde_json::from_slice(&answer).map_err(broken)
        };
        tokio::select! {
            answer = call => answer,
            error = pulse.stopped() => Err(error),
        }
    }

    /// Mounts a share in the guest.
    pub(crate) async fn mount(&self, request: &MountRequest) -> Result<()> {
        match patiently(MOUNT_PATIENCE, self.post(paths::MOUNT, request)).await {
            Err(Error::AgentRefused { status: NOT_SERVED, .. }) if request.kind != "fuse" => {
                self.mount_by_command(request, MOUNT_PATIENCE).await
            }
            answer => answer.map(drop),
        }
    }

    pub(crate) async fn unmount(&self, request: &UnmountRequest) -> Result<()> {
        match patiently(MOUNT_PATIENCE, self.post(paths::UNMOUNT, request)).await {
            Err(Error::AgentRefused { status: NOT_SERVED, .. }) => {
                self.unmount_by_command(request, MOUNT_PATIENCE).await
            }
            answer => answer.map(drop),
        }
    }

    async fn post(
        &self,
        path: &'static str,
        request: &impl serde::Serialize,
    ) -> Result<Response<Incoming>> {
        let body = RequestBody::json(serde_json::to_vec(request).map_err(broken)?);
        let response = self.send(Method::POST, path, body).await?;
        match accept(response).await {
            // Agents made elsewhere, and those of older images.
            Err(Error::AgentRefused { status: 404, message, .. })
                if message.is_empty() || message.contains(path) =>
            {
                Err(Error::AgentRefused {
                    status: NOT_SERVED,
                    message: format!("this image's agent does not serve `{path}`"),
                    hint: Some("Bake the image again, or use one of this release".into()),
                })
            }
            result => result,
        }
    }
}

/// Whether an upload goes on, as seen between its source and the wire. The source ends with it.
struct Pulse(tokio::task::JoinHandle<Result<()>>);

/// A wire that takes nothing would hold the source for ever.
impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pulse {
    /// Waits until the guest has let the transfer rest for too long. The host's own disk may.
    async fn stopped(mut self) -> Error {
        match (&mut self.0).await {
            Ok(Err(error)) => error,
            // All is on its way: the answer is waited for.
            _ => {
                tokio::time::sleep(PATIENCE).await;
                Error::GuestSilent { timeout: PATIENCE }
            }
        }
    }
}

/// Passes frames on one by one, and watches how each is taken.
fn relay(mut source: mpsc::Receiver<Bytes>) -> (mpsc::Receiver<Bytes>, Pulse) {
    let (sender, frames) = mpsc::channel(1);
    let relay = tokio::spawn(async move {
        let mut pace = Pace::default();
        while let Some(frame) = source.recv().await {
            let length = frame.len() as u64;
            if pace.wait(sender.send(frame)).await?.is_err() {
                break;
            }
            pace.moved(length.max(PIECE));
        }
        Ok(())
    });
    (frames, Pulse(relay))
}

async fn patiently<T>(limit: Duration, wait: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, wait).await.unwrap_or(Err(Error::GuestSilent { timeout: limit }))
}

fn invalid(error: agent_protocol::Error) -> Error {
    Error::InvalidPath { message: error.to_string(), hint: error.hint() }
}

/// A refusal that is about a file of the guest.
fn file_error(error: Error) -> Error {
    match error {
        Error::AgentRefused { status, message, hint } if !matches!(status, 401 | NOT_SERVED) => {
            let is_missing = status == 404 || message.contains("(os error 2)");
            Error::GuestFile { message, is_missing, hint }
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

/// A frame that stands for so many bytes that were never written.
pub(crate) fn hole_frame(length: u64) -> Bytes {
    frame::encode(FrameKind::Hole, &hole_payload(length))
}

/// The last frame.
pub(crate) fn done_frame() -> Bytes {
    frame::encode(FrameKind::Done, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_protocol::EntryKind;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// An agent that takes a request, says so much, and then nothing more.
    fn silent_after(words: &'static [u8]) -> AgentClient {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut some = [0; 1 << 16];
            let _ = stream.read(&mut some);
            let _ = stream.write_all(words);
            std::thread::sleep(Duration::from_secs(20));
        });
        AgentClient::on_port(port, "token")
    }

    #[tokio::test]
    async fn no_transfer_waits_for_ever() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
        let refusal = b"HTTP/1.1 500 Failed\r\ncontent-length: 100000\r\n\r\n{";
        for words in [&b""[..], head, refusal] {
            // A refusal without its whole text is a refusal all the same.
            let ends_well = |error: &Error| match error {
                Error::GuestSilent { .. } => words != refusal,
                Error::AgentRefused { .. } | Error::GuestFile { .. } => words == refusal,
                _ => false,
            };
            let read = async {
                let request = ReadFilesRequest { path: "/f".into(), tree: false };
                silent_after(words).read_files(&request).await?.next().await
            };
            let error = tokio::time::timeout(Duration::from_secs(15), read).await.unwrap();
            assert!(ends_well(&error.unwrap_err()), "{words:?}");

            // More than any buffer holds, so that it is the guest that does not take it.
            let (sender, frames) = mpsc::channel(1);
            let feeding = tokio::spawn(async move {
                let entry = FileEntry::new("", EntryKind::File);
                let _ = sender.send(entry_frame(&entry)).await;
                for _ in 0..100 {
                    if sender.send(data_frame(&[0; 1 << 20])).await.is_err() {
                        return;
                    }
                }
            });
            let request = WriteFilesRequest { path: "/f".into(), name: None };
            let client = silent_after(words);
            let write = client.write_files(&request, frames);
            let error = tokio::time::timeout(Duration::from_secs(15), write).await.unwrap();
            assert!(ends_well(&error.unwrap_err()), "{words:?}");
            // Whoever feeds it is not held either.
            tokio::time::timeout(Duration::from_secs(10), feeding).await.unwrap().unwrap();
        }
    }

    /// A source that takes its time is no silence of the guest's.
    #[tokio::test]
    async fn a_slow_source_is_waited_for() {
        let (sender, source) = mpsc::channel(1);
        let (mut frames, pulse) = relay(source);
        let feeding = tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(PATIENCE * 2).await;
                sender.send(done_frame()).await.unwrap();
            }
            sender
        });
        let taking = async {
            for _ in 0..3 {
                frames.recv().await.unwrap();
            }
        };
        tokio::select! {
            () = taking => {}
            error = pulse.stopped() => panic!("given up: {error}"),
        }
        drop(feeding);
    }

    /// A guest that takes or gives a little again and again ends a transfer all the same.
    #[tokio::test]
    async fn a_guest_that_drips_is_not_waited_for() {
        let begin = std::time::Instant::now();
        let (sender, source) = mpsc::channel(1);
        let (mut frames, pulse) = relay(source);
        tokio::spawn(async move { while sender.send(done_frame()).await.is_ok() {} });
        let taking = async {
            loop {
                frames.recv().await.unwrap();
                tokio::time::sleep(PATIENCE / 4).await;
            }
        };
        tokio::select! {
            () = taking => {}
            error = pulse.stopped() => assert!(matches!(error, Error::AgentBroken { .. }), "{error}"),
        }

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut some = [0; 1 << 16];
            let _ = stream.read(&mut some);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
            let _ = stream.write_all(&entry_frame(&FileEntry::new("", EntryKind::File)));
            while stream.write_all(&data_frame(b"x")).is_ok() {
                std::thread::sleep(PATIENCE / 4);
            }
        });
        let client = AgentClient::on_port(port, "token");
        let request = ReadFilesRequest { path: "/f".into(), tree: false };
        let mut parts = client.read_files(&request).await.unwrap();
        let error = loop {
            match parts.next().await {
                Ok(part) => assert!(part.is_some()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::AgentBroken { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    }
}
