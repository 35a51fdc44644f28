//! A virtio-serial port as a byte stream of one connection after another.
//!
//! The device has no connections of its own. It says POLLHUP while nobody is on the host's side,
//! and reads give zero bytes then. Two things follow:
//!
//! - tokio remembers POLLHUP for ever, so that each connection registers the port anew, and the wait
//!   for a host looks through an epoll instance of its own, which is gone before the connection begins.
//! - A host that leaves and returns before the guest looked is not noticed as a hang-up. Its first
//!   bytes are HTTP/2's preface, and they begin a buffer of their own, because the device never
//!   joins two messages in one read; such a read ends the old connection and begins the new one.
//!
//! - A host whose guest went back in time says so in a message of its own
//!   ([`agent_protocol::resync`]); it ends the old connection, is answered, and what follows is the
//!   new one.
//!
//! See `drivers/char/virtio_console.c` and <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_protocol::resync;
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
/// Bytes that are read in one go at least: more than a preface with its settings, or a resync.
const WHOLE: usize = 512;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Type byte of a SETTINGS frame, four bytes into the frame that must follow the preface.
const SETTINGS: u8 = 4;

/// The port, open for the life of the agent.
pub struct Port {
    device: OwnedFd,
    /// The start of a connection that was found at the end of the one before.
    ahead: Rc<RefCell<Vec<u8>>>,
    /// A wish to begin anew that was found at the end of the connection before.
    resync: Rc<Cell<Option<resync::Request>>>,
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
        Ok(Port { device, ahead: Rc::default(), resync: Rc::default() })
    }

    /// The port's changes, for as long as no connection looks at it: the driver takes a message from
    /// its ring when it is polled, and then no interrupt wakes a second one that waits for it.
    fn hangups(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let hangups = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = epoll::EventFlags::OUT | epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&hangups, &self.device, epoll::EventData::new_u64(0), events)?;
        watch(hangups, Interest::READABLE)
    }

    /// Waits for a host and gives the connection to it.
    ///
    /// # Errors
    /// When the port cannot be watched.
    pub async fn connection(&self) -> io::Result<Connection> {
        let hangups = self.hangups()?;
        while self.is_hung_up()? {
            let mut guard = hangups.readable().await?;
            let mut events = [const { MaybeUninit::uninit() }; 4];
            epoll::wait(hangups.get_ref(), &mut events[..], Some(&Timespec::default()))?;
            guard.clear_ready();
        }
        drop(hangups);
        let device = watch(self.device.try_clone()?, Interest::READABLE | Interest::WRITABLE)?;
        if let Some(request) = self.resync.take() {
            answer(&device, &request).await?;
            renew(&request);
        }
        Ok(Connection {
            device,
            ahead: Rc::clone(&self.ahead),
            resync: Rc::clone(&self.resync),
            begun: Cell::new(false),
            ended: Cell::new(false),
        })
    }

    fn is_hung_up(&self) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(&self.device, PollFlags::OUT)];
        rustix::event::poll(&mut descriptors, Some(&Timespec::default()))?;
        Ok(descriptors[0].revents().contains(PollFlags::HUP))
    }
}

/// Tells the host where the new connection begins.
async fn answer(device: &AsyncFd<OwnedFd>, request: &resync::Request) -> io::Result<()> {
    let message = resync::answer(&request.nonce);
    let mut rest = &message[..];
    while !rest.is_empty() {
        let mut guard = device.writable().await?;
        match rustix::io::write(device.get_ref(), rest) {
            Ok(n_written) => rest = &rest[n_written..],
            Err(Errno::AGAIN) if guard.ready().is_write_closed() => {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What must not be as it was when the guest's state was kept: its clock and its random numbers.
fn renew(request: &resync::Request) {
    const RNDRESEEDCRNG: u32 = 0x5207;
    let time = Timespec {
        tv_sec: (request.unix_nanos / 1_000_000_000) as i64,
        tv_nsec: (request.unix_nanos % 1_000_000_000) as _,
    };
    // An agent that may do neither (a test on the host) goes on as it is.
    let _ = rustix::time::clock_settime(rustix::time::ClockId::Realtime, time);
    if fs_err::write("/dev/urandom", request.nonce).is_ok()
        && let Ok(file) = fs_err::File::open("/dev/urandom")
    {
        use std::os::fd::AsRawFd as _;
        // SAFETY: the descriptor is open; the command takes no argument.
        unsafe { libc::ioctl(file.as_raw_fd(), RNDRESEEDCRNG as _) };
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
    resync: Rc<Cell<Option<resync::Request>>>,
    begun: Cell<bool>,
    ended: Cell<bool>,
}

impl Read for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &*self;
        if this.ended.get() {
            return Poll::Ready(Ok(()));
        }
        {
            let mut ahead = this.ahead.borrow_mut();
            if !ahead.is_empty() {
                this.begun.set(true);
                let length = ahead.len().min(cursor.remaining());
                cursor.put_slice(&ahead[..length]);
                ahead.drain(..length);
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            let mut guard = ready!(this.device.poll_read_ready(cx))?;
            let result = if cursor.remaining() < WHOLE {
                // HTTP/2 reads its preface in pieces, but a message must be seen whole to be known.
                let mut whole = [MaybeUninit::uninit(); WHOLE];
                rustix::io::read(this.device.get_ref(), &mut whole[..]).map(|(bytes, _)| {
                    if !this.ends_with(bytes) {
                        let taken = bytes.len().min(cursor.remaining());
                        cursor.put_slice(&bytes[..taken]);
                        this.ahead.borrow_mut().extend_from_slice(&bytes[taken..]);
                    }
                })
            } else {
                // SAFETY: nothing is un-initialised; the kernel writes, and `advance` is told how
                // much.
                let spare = unsafe { cursor.as_mut() };
                let read = rustix::io::read(this.device.get_ref(), spare);
                read.map(|(bytes, _)| if this.ends_with(bytes) { 0 } else { bytes.len() }).map(
                    // SAFETY: the kernel has written that many bytes.
                    |length| unsafe { cursor.advance(length) },
                )
            };
            match result {
                Ok(()) => return Poll::Ready(Ok(())),
                // The hang-up is remembered although the next host is there already.
                Err(Errno::AGAIN) if guard.ready().is_read_closed() => {
                    this.ended.set(true);
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
    /// Takes note of what was read in one go, and says whether the connection ends with it.
    fn ends_with(&self, bytes: &[u8]) -> bool {
        if let Some(request) = resync::parse(bytes) {
            self.resync.set(Some(request));
            self.ahead.borrow_mut().extend_from_slice(&bytes[resync::REQUEST_LEN..]);
            self.ended.set(true);
        } else if self.begun.get() && begins_connection(bytes) {
            self.ahead.borrow_mut().extend_from_slice(bytes);
            self.ended.set(true);
        } else {
            self.begun.set(true);
            self.ended.set(bytes.is_empty());
        }
        self.ended.get()
    }

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
