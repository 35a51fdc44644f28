//! Files over HTTP/2: what a transfer leaves, and that none of them silences the agent.

use agent_protocol::{
    EntryKind, FileEntry, Frame, FrameDecoder, FrameKind, ReadFilesRequest, WriteFilesRequest,
    frame, paths,
};
use http_body_util::BodyExt as _;
use std::path::Path;

use crate::harness::{Agent, Client};

/// The frames of one file; without its last frame when it breaks off.
fn one_file(path: &Path, content: &[u8], is_whole: bool) -> Vec<u8> {
    let request = WriteFilesRequest { path: path.to_str().unwrap().into(), name: None };
    let mut frames =
        frame::encode(FrameKind::Start, &serde_json::to_vec(&request).unwrap()).to_vec();
    let entry = FileEntry::new("", EntryKind::File);
    frames.extend(frame::encode(FrameKind::Entry, &serde_json::to_vec(&entry).unwrap()));
    frames.extend(frame::encode(FrameKind::Data, content));
    if is_whole {
        frames.extend(frame::encode(FrameKind::Done, &[]));
    }
    frames
}

async fn write(client: &Client, frames: &[u8]) -> (u16, String) {
    let response = client.send("POST", paths::FILES_WRITE, frames).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn read(client: &Client, path: &Path) -> (u16, Vec<Frame>) {
    let request = ReadFilesRequest { path: path.to_str().unwrap().into(), tree: true };
    let request = serde_json::to_vec(&request).unwrap();
    let response = client.send("POST", paths::FILES_READ, &request).await;
    let status = response.status().as_u16();
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    if status == 200 {
        decoder.feed(response.into_body().collect().await.unwrap().to_bytes());
        while let Some(frame) = decoder.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    (status, frames)
}

#[tokio::test]
async fn a_file_is_whole_or_as_it_was() {
    let agent = Agent::start();
    let client = agent.client().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let (status, answer) = write(&client, &one_file(&path, b"first", true)).await;
    assert_eq!((status, &*answer), (200, r#"{"n_files":1,"n_bytes":5}"#));
    let (status, answer) = write(&client, &one_file(&path, b"half", false)).await;
    assert!(status >= 400, "{answer}");
    assert_eq!(fs_err::read(&path).unwrap(), b"first");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    let (status, frames) = read(&client, &path).await;
    let kinds: Vec<FrameKind> = frames.iter().map(|frame| frame.kind).collect();
    assert_eq!((status, kinds), (200, vec![FrameKind::Entry, FrameKind::Data, FrameKind::Done]));
}

#[tokio::test]
async fn a_pipe_among_the_files_holds_up_no_other() {
    let agent = Agent::start();
    let client = agent.client().await;
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = client.sh(&format!("mkfifo {}", pipe.display())).await;
    assert_eq!(made["exit_code"], 0);
    let (status, answer) = write(&client, &one_file(&pipe, b"x", true)).await;
    assert!(status >= 400 && answer.contains("pipe"), "{status} {answer}");
    assert!(read(&client, &pipe).await.0 >= 400);
    assert_eq!(client.sh("echo alive").await["stdout"], "alive\n");
}
