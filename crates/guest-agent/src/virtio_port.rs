//! A virtio-serial port as a byte stream of one connection after another.
//!
//! The device has no connections of its own. The first one begins with the first byte. The next one
//! begins where the host asks for it ([`agent_protocol::resync`]): the request is looked for in all
//! that arrives, ends the connection that there is, and is answered; after a connection that ended by
//! itself everything up to the next request is thrown away, because nobody knows where in the stream
//! the host is.
//!
//! The device says POLLHUP while nobody is on the host's side, and reads give zero bytes then. tokio
//! remembers POLLHUP for ever, so that each connection registers the port again, and the wait for a
//! host looks through an epoll instance of its own, which is gone before the connection begins. A
//! host that comes after a hang-up begins with its first byte, too.
//!
//! See `drivers/char/virtio_console.c`.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_protocol::resync::{self, Scan, Scanner};
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;
use crate::token::Tokens;
use crate::watch::watch;

const PORTS: &str = "/sys/class/virtio-ports";
/// The port's name arrives in a message of the host after the driver has started.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const LOOK_FOR: Duration = Duration::from_secs(30);
/// Bytes that are thrown away at a time.
const DISCARDED: usize = 64 << 10;
/// The port, open for the life of the agent.
pub struct Port {
    device: OwnedFd,
    line: Rc<Line>,
}

/// What one connection leaves for the next one.
struct Line {
    tokens: Tokens,
    /// How often the tokens had been replaced when the scanner was made.
    n_changes: Cell<u64>,
    scanner: RefCell<Scanner>,
    /// Bytes of the next connection that were read together with the request for it.
    ahead: RefCell<Vec<u8>>,
    request: Cell<Option<resync::Request>>,
    /// Whether a connection may begin with the next byte, without a request.
    is_fresh: Cell<bool>,
}

impl Line {
    /// Takes note of what was read, and says whether it is data of the connection.
    fn is_data(&self, bytes: &[u8]) -> bool {
        let n_changes = self.tokens.n_changes();
        if self.n_changes.replace(n_changes) != n_changes {
            self.scanner.replace(Scanner::new(self.tokens.resync_secrets()));
        }
        match self.scanner.borrow_mut().scan(bytes) {
            Scan::Data => true,
            Scan::Begun => false,
            Scan::Request(request, ahead) => {
                self.request.set(Some(request));
                *self.ahead.borrow_mut() = ahead;
                false
            }
        }
    }

    /// The host has left: the next one begins with its first byte.
    fn hang_up(&self) {
        self.scanner.borrow_mut().reset();
        self.is_fresh.set(true);
    }
}

impl Port {
    /// Waits for the port of this name to appear; `None` when it does not.
    pub async fn find(name: &str, tokens: &Tokens) -> Option<Self> {
        let deadline = tokio::time::Instant::now() + LOOK_FOR;
        loop {
            if let Some(device) = look(Path::new(PORTS), name).and_then(|node| open(&node).ok()) {
                return Some(Self::new(device, tokens.clone()));
            }
            if tokio::time::Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn new(device: OwnedFd, tokens: Tokens) -> Self {
        let line = Line {
            scanner: RefCell::new(Scanner::new(tokens.resync_secrets())),
            n_changes: Cell::new(tokens.n_changes()),
            tokens,
            ahead: RefCell::default(),
            request: Cell::default(),
            is_fresh: Cell::new(true),
        };
        Self { device, line: Rc::new(line) }
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
        loop {
            self.host().await?;
            let device = watch(self.device.try_clone()?, Interest::READABLE | Interest::WRITABLE)?;
            if !self.line.is_fresh.get() && !self.request(&device).await? {
                continue;
            }
            if let Some(request) = self.line.request.take() {
                answer(&device, &request).await?;
                renew(&request);
            }
            // However this connection ends, the next one needs a request, unless the host leaves.
            self.line.is_fresh.set(false);
            return Ok(Connection { device, line: Rc::clone(&self.line), ended: Cell::new(false) });
        }
    }

    /// Waits until a host is there.
    async fn host(&self) -> io::Result<()> {
        let hangups = self.hangups()?;
        while self.is_hung_up()? {
            let mut guard = hangups.readable().await?;
            let mut events = [const { MaybeUninit::uninit() }; 4];
            epoll::wait(hangups.get_ref(), &mut events[..], Some(&Timespec::default()))?;
            guard.clear_ready();
        }
        Ok(())
    }

    /// Throws away what arrives up to a request. Says no when the host has left instead.
    async fn request(&self, device: &AsyncFd<OwnedFd>) -> io::Result<bool> {
        let mut buffer = vec![0; DISCARDED];
        while self.line.request.get().is_none() {
            let mut guard = device.readable().await?;
            match rustix::io::read(device.get_ref(), &mut buffer) {
                Ok(0) => {
                    self.line.hang_up();
                    return Ok(false);
                }
                Ok(length) => {
                    self.line.is_data(&buffer[..length]);
                }
                Err(Errno::AGAIN) if guard.ready().is_read_closed() => {
                    self.line.hang_up();
                    return Ok(false);
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn is_hung_up(&self) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(&self.device, PollFlags::OUT)];
        rustix::event::poll(&mut descriptors, Some(&Timespec::default()))?;
        Ok(descriptors[0].revents().contains(PollFlags::HUP))
    }
}

/// Opens the port of this name for threads that wait for it; `None` when there is none.
pub fn open_blocking(name: &str) -> Option<std::fs::File> {
    let node = look(Path::new(PORTS), name)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Some(rustix::fs::open(format!("/dev/{node}"), flags, Mode::empty()).ok()?.into())
}

fn open(node: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(format!("/dev/{node}"), flags, Mode::empty())?)
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
    // An agent that may do neither (a test on the host) goes on as it is.
    let _ = clock::set(request.unix_nanos);
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

/// The stream of one host.
pub struct Connection {
    device: AsyncFd<OwnedFd>,
    line: Rc<Line>,
    ended: Cell<bool>,
}

impl Read for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &*self;
        if this.ended.get() || cursor.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut ahead = this.line.ahead.take();
        if !ahead.is_empty() {
            let rest = ahead.split_off(ahead.len().min(cursor.remaining()));
            if this.line.is_data(&ahead) {
                cursor.put_slice(&ahead);
                this.line.ahead.replace(rest);
            } else {
                this.ended.set(true);
                if this.line.request.get().is_some() {
                    this.line.ahead.borrow_mut().extend(rest);
                } else {
                    this.line.is_data(&rest);
                }
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut guard = ready!(this.device.poll_read_ready(cx))?;
            // SAFETY: nothing is un-initialised; the kernel writes, and `advance` is told how much.
            let spare = unsafe { cursor.as_mut() };
            let read = rustix::io::read(this.device.get_ref(), spare);
            match read.map(|(bytes, _)| (bytes.len(), this.line.is_data(bytes))) {
                Ok((0, _)) => {
                    this.line.hang_up();
                    this.ended.set(true);
                    return Poll::Ready(Ok(()));
                }
                Ok((length, true)) => {
                    // SAFETY: the kernel has written that many bytes.
                    unsafe { cursor.advance(length) };
                    return Poll::Ready(Ok(()));
                }
                Ok((_, false)) => {
                    this.ended.set(true);
                    return Poll::Ready(Ok(()));
                }
                // The hang-up is remembered although the next host is there already.
                Err(Errno::AGAIN) if guard.ready().is_read_closed() => {
                    this.line.hang_up();
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

    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    const REQUEST: resync::Request = resync::Request { nonce: [7; 16], unix_nanos: 0 };

    /// A port whose device is a socket, and the host's end of it.
    fn port() -> (Port, UnixStream) {
        let (device, host) = UnixStream::pair().unwrap();
        device.set_nonblocking(true).unwrap();
        (Port::new(device.into(), Tokens::new([b"token".to_vec()])), host)
    }

    fn local(test: impl std::future::Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await })
            .unwrap();
    }

    /// Reads up to `length` bytes, or to the connection's end.
    async fn take(connection: &mut Connection, length: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < length {
            let mut memory = [0; 100];
            let mut buffer = hyper::rt::ReadBuf::new(&mut memory);
            let read =
                |cx: &mut Context<'_>| Pin::new(&mut *connection).poll_read(cx, buffer.unfilled());
            std::future::poll_fn(read).await.unwrap();
            if buffer.filled().is_empty() {
                break;
            }
            taken.extend_from_slice(buffer.filled());
        }
        taken
    }

    #[test]
    fn data_with_the_words_of_the_wire_passes_unharmed() {
        local(async {
            let (port, mut host) = port();
            let mut connection = port.connection().await.unwrap();
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0";
            for word in [&resync::unkeyed_request(&REQUEST)[..], preface] {
                for shift in 0..word.len() {
                    let data = [&vec![0; shift][..], &word.repeat(5)].concat();
                    host.write_all(&data).unwrap();
                    assert_eq!(take(&mut connection, data.len()).await, data);
                }
            }
        });
    }

    #[test]
    fn a_request_ends_a_connection_anywhere_and_what_follows_is_the_next_one() {
        local(async {
            let (port, mut host) = port();
            let request = resync::Secret::new(b"token").request(&REQUEST);
            let mut next = b"first".to_vec();
            for n_before in [0, 1, 50, 99, 100, 101, 4000] {
                let mut connection = port.connection().await.unwrap();
                host.write_all(&[&next[..], &vec![1; n_before], &request, b"next"].concat())
                    .unwrap();
                let taken = take(&mut connection, usize::MAX).await;
                // What lies in one read with the request is lost with the connection.
                let sent = [&next[..], &vec![1; n_before], &request].concat();
                assert!(sent.starts_with(&taken) && taken.len() < next.len() + n_before + 16);
                drop(connection);
                let mut connection = port.connection().await.unwrap();
                let mut answer = [0; resync::ANSWER_LEN];
                host.read_exact(&mut answer).unwrap();
                assert_eq!(answer, resync::answer(&REQUEST.nonce));
                assert_eq!(take(&mut connection, 4).await, b"next");
                // This one ends by itself: what still comes for it is thrown away.
                drop(connection);
                host.write_all(b"of the past").unwrap();
                host.write_all(&request).unwrap();
                drop(port.connection().await.unwrap());
                host.read_exact(&mut answer).unwrap();
                host.write_all(&request).unwrap();
                next.clear();
                let waiting = port.connection().await.unwrap();
                host.read_exact(&mut answer).unwrap();
                drop(waiting);
                host.write_all(&request).unwrap();
            }
        });
    }

    #[test]
    fn a_new_token_counts_from_the_next_byte_on() {
        local(async {
            let (port, mut host) = port();
            let mut connection = port.connection().await.unwrap();
            host.write_all(b"data").unwrap();
            assert_eq!(take(&mut connection, 4).await, b"data");
            port.line.tokens.renew(b"new".to_vec());
            let [old, new] = [b"token".as_slice(), b"new"].map(resync::Secret::new);
            host.write_all(&old.request(&REQUEST)).unwrap();
            assert_eq!(take(&mut connection, resync::REQUEST_LEN).await, old.request(&REQUEST));
            host.write_all(&new.request(&REQUEST)).unwrap();
            assert!(take(&mut connection, 1).await.is_empty());
            drop(connection);
            drop(port.connection().await.unwrap());
            let mut answer = [0; resync::ANSWER_LEN];
            host.read_exact(&mut answer).unwrap();
            assert_eq!(answer, resync::answer(&REQUEST.nonce));
        });
    }

    #[test]
    fn a_host_that_comes_after_a_hang_up_needs_no_request() {
        let (port, host) = port();
        drop(host);
        let line = Rc::clone(&port.line);
        line.is_fresh.set(false);
        local(async {
            let device = watch(port.device.try_clone().unwrap(), Interest::READABLE).unwrap();
            assert!(!port.request(&device).await.unwrap());
        });
        assert!(line.is_fresh.get());
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
