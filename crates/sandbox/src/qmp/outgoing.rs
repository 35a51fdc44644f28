//! What is written to QEMU: whole lines, one after the other, some with an open file.
//!
//! Owns the writing end of the connection; knows nothing of what the lines say.

use std::fs::File;
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

#[cfg(unix)]
use tokio::net::unix::OwnedWriteHalf;

/// A line, and the file that goes with it.
pub(super) struct Outgoing {
    pub line: String,
    pub file: Option<File>,
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

    async fn write(&mut self, Outgoing { line, file }: Outgoing) -> io::Result<()> {
        let line = line.as_bytes();
        match (self, file) {
            #[cfg(any(test, not(unix)))]
            (Self::Stream(stream), None) => stream.write_all(line).await,
            #[cfg(any(test, not(unix)))]
            (Self::Stream(_), Some(_)) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(unix)]
            (Self::Socket(socket), None) => socket.write_all(line).await,
            #[cfg(unix)]
            (Self::Socket(socket), Some(file)) => {
                let n_bytes = send_with(socket, line, &file).await?;
                // The file went with the first byte.
                socket.write_all(&line[n_bytes..]).await
            }
        }
    }
}

/// Sends the start of a line together with a file, and says how many bytes it was. See unix(7).
#[cfg(unix)]
async fn send_with(socket: &OwnedWriteHalf, line: &[u8], file: &File) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let stream: &tokio::net::UnixStream = socket.as_ref();
    let send = || {
        let files = [file.as_fd()];
        let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut room);
        message.push(SendAncillaryMessage::ScmRights(&files));
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
    async fn a_file_arrives_with_its_line_and_lines_keep_their_order() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (_reader, writer) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
        let (lines, queue) = mpsc::channel(4);
        tokio::spawn(Writer::Socket(writer).write_all(queue));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        for (line, file) in [("first\n", None), ("second\n", Some(file)), ("third\n", None)] {
            lines.send(Outgoing { line: line.into(), file }).await.unwrap();
        }
        drop(lines);
        let received = tokio::task::spawn_blocking(move || {
            let (mut text, mut files) = (Vec::new(), Vec::new());
            loop {
                let mut bytes = [0; 64];
                let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut message = RecvAncillaryBuffer::new(&mut room);
                let mut parts = [IoSliceMut::new(&mut bytes)];
                let read = recvmsg(&theirs, &mut parts, &mut message, RecvFlags::CMSG_CLOEXEC);
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
        assert_eq!(text, "first\nsecond\nthird\n");
        let mut file = File::from(files.pop().expect("one file"));
        assert!(files.is_empty());
        let mut content = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    }
}
