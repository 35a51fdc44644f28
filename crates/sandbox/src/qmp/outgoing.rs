//! What is written to QEMU: whole lines, one after the other, some with open files.
//!
//! Owns the writing end of the connection; knows nothing of what the lines say.

use std::fs::File;
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

#[cfg(unix)]
use tokio::net::unix::OwnedWriteHalf;

/// As many files go with a line, as QEMU takes.
#[cfg(unix)]
const MAX_FILES: usize = 16;
/// What follows a line with files: QEMU reads 8 bytes at a time (`qemu/patches`, `monitor_qmp_can_read`), and the
/// first byte of the next line would bring that one's files in the place of this one's.
#[cfg(unix)]
const SPACE: &[u8; 8] = b"        ";

/// A line, and the files that go with it.
pub(super) struct Outgoing {
    pub line: String,
    pub files: Vec<File>,
}

/// The writing end. Files can go through a socket alone.
pub(super) enum Writer {
    #[cfg(any(test, not(unix)))]
    Stream(Box<dyn tokio::io::AsyncWrite + Send + Unpin>),
    #[cfg(unix)]
    Socket(OwnedWriteHalf),
}

impl Writer {
    /// Writes the lines until nobody sends any more, or QEMU takes none.
    pub(super) async fn write_all(mut self, mut lines: mpsc::Receiver<Outgoing>) {
        while let Some(outgoing) = lines.recv().await {
            if self.write(outgoing).await.is_err() {
                return;
            }
        }
    }

    async fn write(&mut self, Outgoing { line, files }: Outgoing) -> io::Result<()> {
        let line = line.as_bytes();
        match self {
            #[cfg(any(test, not(unix)))]
            Self::Stream(stream) if files.is_empty() => stream.write_all(line).await,
            #[cfg(any(test, not(unix)))]
            Self::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(unix)]
            Self::Socket(socket) if files.is_empty() => socket.write_all(line).await,
            #[cfg(unix)]
            Self::Socket(socket) => {
                let line = [line, SPACE].concat();
                let n_bytes = send_with(socket, &line, &files).await?;
                // The files went with the first byte.
                socket.write_all(&line[n_bytes..]).await
            }
        }
    }
}

/// Sends the start of a line together with files, and says how many bytes it was. See unix(7).
#[cfg(unix)]
async fn send_with(socket: &OwnedWriteHalf, line: &[u8], files: &[File]) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let stream: &tokio::net::UnixStream = socket.as_ref();
    let send = || {
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut message = SendAncillaryBuffer::new(&mut room);
        if !message.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let line = [io::IoSlice::new(line)];
        Ok(sendmsg(stream, &line, &mut message, SendFlags::empty())?)
    };
    stream.async_io(tokio::io::Interest::WRITABLE, send).await
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::{IoSliceMut, Read, Seek, Write};

    #[tokio::test]
    async fn files_arrive_with_their_line_and_lines_keep_their_order() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (_reader, writer) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
        let (lines, queue) = mpsc::channel(4);
        tokio::spawn(Writer::Socket(writer).write_all(queue));
        let file = |content: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            file
        };
        let files = vec![file(b"one"), file(b"two")];
        for (line, files) in [("first\n", vec![]), ("second\n", files), ("third\n", vec![])] {
            lines.send(Outgoing { line: line.into(), files }).await.unwrap();
        }
        drop(lines);
        let received = tokio::task::spawn_blocking(move || {
            let (mut text, mut files) = (Vec::new(), Vec::new());
            loop {
                let mut bytes = [0; 64];
                let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
                let mut message = RecvAncillaryBuffer::new(&mut room);
                let mut parts = [IoSliceMut::new(&mut bytes)];
                let read = recvmsg(&theirs, &mut parts, &mut message, RecvFlags::empty());
                let n_bytes = read.unwrap().bytes;
                for received in message.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = received {
                        files.extend(received);
                    }
                }
                if n_bytes == 0 {
                    return (String::from_utf8(text).unwrap(), files);
                }
                text.extend_from_slice(&bytes[..n_bytes]);
            }
        });
        let (text, mut files) = received.await.unwrap();
        assert_eq!(text, "first\nsecond\n        third\n");
        let contents = files.drain(..).map(|file| {
            let (mut file, mut content) = (File::from(file), String::new());
            file.rewind().unwrap();
            file.read_to_string(&mut content).unwrap();
            content
        });
        assert_eq!(contents.collect::<Vec<_>>(), ["one", "two"]);
    }
}
