//! A virtio-serial port as a byte stream of one connection after another.
//!
//! The device has no connections of its own. It says POLLHUP while nobody is on the host's side,
//! and reads give zero bytes then. Two things follow:
//!
//! - tokio remembers POLLHUP for ever, so that each connection registers the port anew, and the wait
//!   for a host looks through an epoll instance of its own.
//! - A host that leaves and returns before the guest looked is not noticed as a hang-up. Its first
//!   bytes are HTTP/2's preface, and they begin a buffer of their own, because the device never
//!   joins two messages in one read; such a read ends the old connection and begins the new one.
//!
//! See `drivers/char/virtio_console.c` and <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::watch::watch;

const PORTS: &str = "/sys/class/virtio-ports";
/// The port's name arrives in a message of the host after the driver has started.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const LOOK_FOR: Duration = Duration::from_secs(30);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Type byte of a SETTINGS frame, four bytes into the frame that must follow the preface.
const SETTINGS: u8 = 4;

/// The port, open for the life of the agent.
pub struct Port {
    device: OwnedFd,
    hangups: AsyncFd<OwnedFd>,
    /// The start of a connection that was found at the end of the one before.
    ahead: Rc<RefCell<Vec<u8>>>,
}

impl Port {
    /// Waits for the port of this name to appear; `None` when it does not.
    pub async fn find(name: &str) -> Option<Port> {
        let deadline = tokio::time::Instant::now() + LOOK_FOR;
        loop {
            if let Some(port) = look(Path::new(PORTS), name).and_then(|node| Port::open(&node).ok())
            {
                return Some(port);
            }
            if tokio::time::Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn open(node: &str) -> io::Result<Port> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open(format!("/dev/{node}"), flags, Mode::empty())?;
        let hangups = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = epoll::EventFlags::OUT | epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&hangups, &device, epoll::EventData::new_u64(0), events)?;
        let hangups = watch(hangups, Interest::READABLE)?;
        Ok(Port { device, hangups, ahead: Rc::default() })
    }

    /// Waits for a host and gives the connection to it.
    ///
    /// # Errors
    /// When the port cannot be watched.
    pub async fn connection(&self) -> io::Result<Connection> {
        while self.is_hung_up()? {
            let mut guard = self.hangups.readable().await?;
            let mut events = [const { MaybeUninit::uninit() }; 4];
            epoll::wait(self.hangups.get_ref(), &mut events[..], Some(&Timespec::default()))?;
            guard.clear_ready();
        }
        Ok(Connection {
            device: watch(self.device.try_clone()?, Interest::READABLE | Interest::WRITABLE)?,
            ahead: Rc::clone(&self.ahead),
            begun: false,
            ended: false,
        })
    }

    fn is_hung_up(&self) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(&self.device, PollFlags::OUT)];
        rustix::event::poll(&mut descriptors, Some(&Timespec::default()))?;
        Ok(descriptors[0].revents().contains(PollFlags::HUP))
    }
}

fn look(ports: &Path, name: &str) -> Option<String> {
    fs_err::read_dir(ports).ok()?.flatten().find_map(|entry| {
        let found = fs_err::read_to_string(entry.path().join("name")).ok()?;
        (found.trim_end() == name).then(|| entry.file_name().to_str().map(str::to_owned))?
    })
}

/// Whether bytes that were read in one go are the start of a new connection.
fn begins_connection(bytes: &[u8]) -> bool {
    bytes
        .strip_prefix(PREFACE)
        .is_some_and(|rest| rest.is_empty() || rest.get(3).is_some_and(|kind| *kind == SETTINGS))
}

/// The stream of one host.
pub struct Connection {
    device: AsyncFd<OwnedFd>,
    ahead: Rc<RefCell<Vec<u8>>>,
    begun: bool,
    ended: bool,
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(Ok(()));
        }
        {
            let mut ahead = this.ahead.borrow_mut();
            if !ahead.is_empty() {
                this.begun = true;
                let length = ahead.len().min(cursor.remaining());
                cursor.put_slice(&ahead[..length]);
                ahead.drain(..length);
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            let mut guard = ready!(this.device.poll_read_ready(cx))?;
            // SAFETY: nothing is un-initialised; the kernel writes, and `advance` is told how much.
            let spare = unsafe { cursor.as_mut() };
            match rustix::io::read(this.device.get_ref(), spare) {
                Ok((bytes, _)) => {
                    if this.begun && begins_connection(bytes) {
                        this.ahead.borrow_mut().extend_from_slice(bytes);
                        this.ended = true;
                        return Poll::Ready(Ok(()));
                    }
                    let length = bytes.len();
                    this.begun |= length > 0;
                    this.ended = length == 0;
                    // SAFETY: the kernel has written that many bytes.
                    unsafe { cursor.advance(length) };
                    return Poll::Ready(Ok(()));
                }
                // The hang-up is remembered although the next host is there already.
                Err(Errno::AGAIN) if guard.ready().is_read_closed() => {
                    this.ended = true;
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl Connection {
    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&OwnedFd) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.device.poll_write_ready(cx))?;
            match write(self.device.get_ref()) {
                Ok(n_written) => return Poll::Ready(Ok(n_written)),
                Err(Errno::AGAIN) if guard.ready().is_write_closed() => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl Write for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |device| rustix::io::write(device, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |device| rustix::io::writev(device, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_preface_with_settings_begins_a_connection() {
        let with = |rest: &[u8]| [PREFACE, rest].concat();
        assert!(begins_connection(&with(b"")));
        assert!(begins_connection(&with(&[0, 0, 18, 4, 0, 0, 0, 0, 0])));
        assert!(!begins_connection(&with(&[0, 0, 18, 0, 0, 0, 0, 0, 0])));
        assert!(!begins_connection(&with(b"a")));
        assert!(!begins_connection(&PREFACE[1..]));
        assert!(!begins_connection(b""));
    }

    #[test]
    fn a_port_is_found_by_its_name() {
        let ports = tempfile::tempdir().unwrap();
        for (node, name) in [("vport1p1", "org.other"), ("vport1p2", "quicksand.agent")] {
            fs_err::create_dir(ports.path().join(node)).unwrap();
            fs_err::write(ports.path().join(node).join("name"), format!("{name}\n")).unwrap();
        }
        assert_eq!(look(ports.path(), "quicksand.agent").as_deref(), Some("vport1p2"));
        assert_eq!(look(ports.path(), "absent"), None);
        assert_eq!(look(Path::new("/nonexistent"), "absent"), None);
    }
}
