//! Output of a command: chunks as they arrive, from a pipe or a terminal.
//!
//! The agent keeps the writing end of each pipe open. It needs no end of file, because a result is
//! complete when the command itself has ended and what is in the pipe then is read; so a background
//! process that inherited the pipe delays nothing, and the agent is not woken for each descriptor
//! that an ending command closes. What such a process writes afterwards is read and thrown away.
//!
//! Nothing is read before somebody asks for a chunk: when the host does not take what was given,
//! the pipe fills and the command waits in `write`.

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use agent_protocol::frame::HEADER_LENGTH;

use crate::watch::watch;

/// Size of a chunk, and of a pipe, for a command that writes little: the kernel's own.
const SMALL: usize = 64 << 10;
/// The same for a command that has filled a small one.
const LARGE: usize = 256 << 10;
/// Chunks that follow each other sooner than this are a burst, ...
const BURST: Duration = Duration::from_millis(2);
/// ... whose next chunk is given this time to fill, so that a command that writes a line or a
/// block at a time does not cost a message to the host for each. The first chunk never waits.
const GATHER: Duration = Duration::from_millis(1);
/// Buffers that are kept for use again once the connection has sent them.
const KEPT: usize = 4;

/// The reading end of one stream.
pub struct Source {
    descriptor: AsyncFd<OwnedFd>,
    /// The writing end, kept open; a terminal has none.
    _writer: Option<OwnedFd>,
    chunk: usize,
    given: Vec<Bytes>,
    /// What may still be read once the command has ended.
    rest: Option<usize>,
    ended: bool,
    last: Option<Instant>,
    gather: Option<Pin<Box<Sleep>>>,
}

/// One portion of output, with room for a frame's header before it.
pub struct Chunk {
    buffer: BytesMut,
}

impl Chunk {
    fn with_capacity(capacity: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(HEADER_LENGTH + capacity);
        buffer.put_bytes(0, HEADER_LENGTH);
        Self { buffer }
    }

    /// The chunk with these bytes, for text of the agent's own.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut chunk = Self::with_capacity(bytes.len());
        chunk.buffer.put_slice(bytes);
        chunk
    }

    /// The output alone.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[HEADER_LENGTH..]
    }

    /// Header and output as one frame, without a copy.
    pub fn into_frame(mut self, kind: agent_protocol::FrameKind) -> Bytes {
        let header = agent_protocol::frame::header(kind, self.bytes().len());
        self.buffer[..HEADER_LENGTH].copy_from_slice(&header);
        self.buffer.freeze()
    }
}

impl Source {
    /// A new pipe: the source, and the end for the command.
    ///
    /// # Errors
    /// When descriptors or memory for pipes are used up.
    pub fn pipe() -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Self::new(reader, Some(writer))
    }

    /// The master of a terminal, which must not block.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    pub fn terminal(master: OwnedFd) -> io::Result<Self> {
        Self::new(master, None)
    }

    fn new(descriptor: OwnedFd, writer: Option<OwnedFd>) -> io::Result<Self> {
        Ok(Self {
            descriptor: watch(descriptor, Interest::READABLE)?,
            _writer: writer,
            chunk: SMALL,
            given: Vec::new(),
            rest: None,
            ended: false,
            last: None,
            gather: None,
        })
    }

    /// The end for the command; a terminal has none.
    pub fn writer(&self) -> Option<BorrowedFd<'_>> {
        self._writer.as_ref().map(|writer| writer.as_fd())
    }

    /// Says that the command has ended: only what is in the pipe now belongs to its output.
    pub fn finish(&mut self) {
        if self._writer.is_some() {
            let available = rustix::io::ioctl_fionread(self.descriptor.get_ref()).unwrap_or(0);
            self.rest = Some(available as usize);
        }
    }

    /// Whether there is nothing more to give.
    pub fn is_ended(&self) -> bool {
        self.ended || self.rest == Some(0)
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// What the kernel says about the descriptor, but for the end of a terminal.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        loop {
            if self.is_ended() {
                return Poll::Ready(Ok(None));
            }
            if self.rest.is_none() {
                let mut guard = ready!(self.descriptor.poll_read_ready(cx))?;
                ready!(gather(&mut self.gather, self.last, cx));
                match read(self.descriptor.get_ref(), &mut self.given, self.chunk) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        guard.clear_ready();
                        continue;
                    }
                    result => {
                        self.gather = None;
                        return Poll::Ready(self.take(result));
                    }
                }
            }
            let limit = self.rest.unwrap_or(0).min(self.chunk);
            let result = read(self.descriptor.get_ref(), &mut self.given, limit);
            return Poll::Ready(self.take(result));
        }
    }

    fn take(&mut self, result: io::Result<Chunk>) -> io::Result<Option<Chunk>> {
        let chunk = match result {
            Ok(chunk) => chunk,
            // EIO is how a terminal says that its last user is gone; after the command's end a
            // pipe that others have emptied says EAGAIN.
            Err(error)
                if error.raw_os_error() == Some(libc::EIO)
                    || error.kind() == io::ErrorKind::WouldBlock =>
            {
                self.ended = true;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let length = chunk.bytes().len();
        if length == 0 {
            self.ended = true;
            return Ok(None);
        }
        if let Some(rest) = &mut self.rest {
            *rest = rest.saturating_sub(length);
        }
        let now = Instant::now();
        let burst = self.last.replace(now).is_some_and(|last| now - last < BURST);
        if (length == self.chunk || burst) && self.chunk < LARGE {
            self.chunk = LARGE;
            // A request alone: an unprivileged limit on pipe memory may refuse it.
            let _ = rustix::pipe::fcntl_setpipe_size(self.descriptor.get_ref(), LARGE);
        }
        if length >= SMALL {
            // Whoever writes this much at a time fills the pipe without being waited for.
            self.last = None;
        }
        Ok(Some(chunk))
    }

    /// Gives up the agent's own writing end, and says whether other processes can still write.
    pub fn outlives(&mut self) -> bool {
        // From here on the pipe says its end when nobody can write to it.
        self._writer = None;
        self.given = Vec::new();
        let mut state = [PollFd::new(self.descriptor.get_ref(), PollFlags::IN)];
        rustix::event::poll(&mut state, Some(&Timespec::default())).is_ok()
            && !state[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Throws away what processes that outlive the command still write, until the last of them has
    /// closed its end: a server in the background must neither be ended by its next line of log nor
    /// wait for somebody to read it.
    pub async fn drain(self) {
        let mut memory = [MaybeUninit::uninit(); 16 << 10];
        let mut n_read = 0;
        loop {
            match rustix::io::read(self.descriptor.get_ref(), &mut memory[..]) {
                Ok(([], _)) => return,
                Ok((bytes, _)) => n_read += bytes.len(),
                Err(rustix::io::Errno::AGAIN) => {
                    n_read = 0;
                    let Ok(mut guard) = self.descriptor.readable().await else { return };
                    guard.clear_ready();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if n_read >= SMALL {
                // One that writes without end must not take the agent's time from the others.
                n_read = 0;
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Remembers a frame that was made of a chunk, so that its memory is used again when the
    /// connection has sent it. Large buffers fresh from the kernel cost a fault for each page.
    pub fn lend(&mut self, frame: &Bytes) {
        if self.chunk == LARGE && self.given.len() < KEPT {
            self.given.push(frame.clone());
        }
    }
}

/// Waits, in a burst, until the next chunk has had time to fill.
fn gather(
    timer: &mut Option<Pin<Box<Sleep>>>,
    last: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if timer.is_none() && last.is_some_and(|last| last.elapsed() < BURST) {
        *timer = Some(Box::pin(tokio::time::sleep(GATHER)));
    }
    match timer {
        Some(timer) => timer.as_mut().poll(cx),
        None => Poll::Ready(()),
    }
}

fn read(descriptor: &OwnedFd, given: &mut Vec<Bytes>, limit: usize) -> io::Result<Chunk> {
    let used = given.iter().position(Bytes::is_unique).map(|index| given.swap_remove(index));
    let mut chunk = match used.map(Bytes::try_into_mut) {
        Some(Ok(mut buffer)) if buffer.capacity() >= HEADER_LENGTH + limit => {
            buffer.truncate(HEADER_LENGTH);
            Chunk { buffer }
        }
        _ => Chunk::with_capacity(limit),
    };
    let spare = chunk.buffer.spare_capacity_mut();
    let limit = limit.min(spare.len());
    let (filled, _) = rustix::io::read(descriptor, &mut spare[..limit])?;
    let length = HEADER_LENGTH + filled.len();
    // SAFETY: the kernel has filled that many bytes after the header.
    unsafe { chunk.buffer.set_len(length) };
    Ok(chunk)
}
