//! The TCP/IP stack: frames in and out, and the sockets that stand for the guest's connections.
//!
//! One task owns the cable and polls smoltcp; the connections' own tasks (`flow`) reach their sockets
//! through the lock and ring the bell when there is something to send. The start of a connection
//! waits until the host's side is there, so that a refusal out there is a refusal in here.

use super::flow::{self, GuestStream};
use super::frame::{self, MAC, Meaning};
use super::policy::{Policy, Verdict};
use super::udp::Datagrams;
use super::{GATEWAY, NAME_SERVER, dhcp};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

/// Bytes of an IP packet, as on every Ethernet.
pub(super) const MTU: usize = 1500;
/// The longest frame that QEMU may hand over.
const MAX_FRAME: usize = 65_536;
/// Frames that wait for the guest.
const MAX_WAITING: usize = 512;
/// Bytes that a connection holds for each direction.
const BUFFER: usize = 256 << 10;
/// The most connections of one guest.
const MAX_FLOWS: usize = 1024;
/// How long a closed connection may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long the host's side of a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// A connection as the guest names it: its own port, and where it wants to go.
type Key = (u16, SocketAddrV4);

/// What the stack's task shares with those of the connections.
pub(super) struct Shared {
    pub(super) policy: Mutex<Policy>,
    net: Mutex<Net>,
    /// Rung when there is something for the stack to do.
    pub(super) bell: Notify,
}

/// smoltcp's half.
pub(super) struct Net {
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    device: Queues,
    /// Sockets whose connection is over for the host, with the time they may take to end.
    leaving: Vec<(SocketHandle, Instant)>,
    n_flows: usize,
    next_port: u16,
}

impl Shared {
    pub(super) fn new(policy: Policy) -> Arc<Self> {
        let mut device = Queues::default();
        let config = Config::new(MAC.into());
        let mut interface = Interface::new(config, &mut device, now());
        interface.update_ip_addrs(|addresses| {
            for address in [GATEWAY, NAME_SERVER] {
                // The list has room for two.
                let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(address, 24)));
            }
        });
        // Every address that the guest may want is served here, by way of the gateway.
        interface.set_any_ip(true);
        let _ = interface.routes_mut().add_default_ipv4_route(GATEWAY);
        let net = Net {
            interface,
            sockets: SocketSet::new(Vec::new()),
            device,
            leaving: Vec::new(),
            n_flows: 0,
            next_port: 49_152,
        };
        Arc::new(Self { policy: Mutex::new(policy), net: Mutex::new(net), bell: Notify::new() })
    }

    pub(super) fn net(&self) -> MutexGuard<'_, Net> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection into the guest.
    pub(super) fn connect(self: &Arc<Self>, to: SocketAddrV4) -> Option<GuestStream> {
        let mut net = self.net();
        if net.n_flows >= MAX_FLOWS {
            return None;
        }
        let port = net.next_port;
        net.next_port = port.checked_add(1).unwrap_or(49_152);
        let mut socket = socket();
        let net = &mut *net;
        let local = (GATEWAY, port);
        socket.connect(net.interface.context(), (*to.ip(), to.port()), local).ok()?;
        Some(self.stream(net, socket))
    }

    fn stream(self: &Arc<Self>, net: &mut Net, socket: tcp::Socket<'static>) -> GuestStream {
        let handle = net.sockets.add(socket);
        net.n_flows += 1;
        self.bell.notify_one();
        GuestStream::new(Arc::clone(self), handle)
    }

    /// Ends every connection with a reset, and drops the frames on their way: the guest of now knows
    /// none of them. What it still believes to be open is answered with a reset as well, so that it
    /// learns at once and not after its timeouts.
    pub(super) fn forget(&self) {
        let mut net = self.net();
        net.device = Queues::default();
        for (_, socket) in net.sockets.iter_mut() {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            socket.abort();
        }
        self.bell.notify_one();
    }

    /// Lets a socket say farewell by itself.
    pub(super) fn leave(&self, handle: SocketHandle) {
        self.net().leaving.push((handle, Instant::now() + FAREWELL));
        self.bell.notify_one();
    }
}

fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    // Answers are whole messages; waiting to fill a segment only costs time.
    socket.set_nagle_enabled(false);
    // A guest that vanishes in the middle of a connection must not hold it for ever.
    socket.set_keep_alive(Some(smoltcp::time::Duration::from_secs(60)));
    socket.set_timeout(Some(smoltcp::time::Duration::from_secs(300)));
    socket
}

fn now() -> StackInstant {
    StackInstant::now()
}

/// The host's side of a connection that the guest has begun.
struct Opened {
    key: Key,
    /// The guest's first segment, which the stack sees only now.
    first: Vec<u8>,
    stream: Option<TcpStream>,
}

/// Runs the network until the cable ends.
pub(super) async fn run<S>(cable: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(cable);
    let (sender, mut frames) = mpsc::channel(64);
    let reading = tokio::spawn(read_frames(reader, sender));
    let mut writer = BufWriter::with_capacity(256 << 10, writer);
    let (opened_sender, mut opened) = mpsc::channel::<Opened>(64);
    let (reply_sender, mut replies) = mpsc::channel(256);
    let mut datagrams = Datagrams::new(reply_sender, Arc::clone(&shared));
    let mut opening: HashSet<Key> = HashSet::new();
    let mut guest = EthernetAddress::BROADCAST;
    let mut batch = Vec::new();
    loop {
        let wait = {
            let mut net = shared.net();
            net.tidy();
            net.delay()
        };
        tokio::select! {
            n_frames = frames.recv_many(&mut batch, 64) => if n_frames == 0 { break },
            Some(Opened { key, first, stream }) = opened.recv() => {
                opening.remove(&key);
                if let Some(stream) = stream
                    && let Some(guest) = shared.accept(key.1)
                {
                    tokio::spawn(flow::carry(guest, stream));
                }
                // Without a socket that listens, the stack refuses the connection.
                shared.net().device.incoming.push_back(first);
            }
            Some((from, to, payload)) = replies.recv() => {
                let made = frame::datagram(guest, from, to, &payload);
                shared.net().device.outgoing.extend(made);
            }
            () = shared.bell.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        for bytes in batch.drain(..) {
            guest = frame::sender(&bytes).unwrap_or(guest);
            match frame::read(&bytes) {
                Meaning::Stack => shared.net().device.incoming.push_back(bytes),
                Meaning::WhoHas { reply, address } => {
                    let is_ours = [GATEWAY, NAME_SERVER].contains(&address)
                        || shared.policy().is_service_host(address);
                    shared.net().device.outgoing.extend(is_ours.then_some(reply));
                }
                Meaning::Open { from, to } => {
                    let key = (from, to);
                    // The guest says it again and again until it is answered.
                    if opening.contains(&key) {
                        continue;
                    }
                    let verdict = shared.policy().decide(to, Instant::now());
                    let is_full = opening.len() + shared.net().n_flows >= MAX_FLOWS;
                    if verdict == Verdict::Deny || is_full {
                        tracing::debug!(%to, "a connection of the guest is refused");
                        shared.net().device.incoming.push_back(bytes);
                        continue;
                    }
                    opening.insert(key);
                    let sender = opened_sender.clone();
                    tokio::spawn(async move {
                        let connecting = flow::connect(verdict);
                        let stream = tokio::time::timeout(CONNECT_TIME, connecting).await;
                        let stream = stream.ok().flatten();
                        let _ = sender.send(Opened { key, first: bytes, stream }).await;
                    });
                }
                Meaning::Datagram { to, payload, .. } if to.port() == dhcp::PORT => {
                    let lease = dhcp::answer(&payload).and_then(|lease| {
                        let server = SocketAddrV4::new(GATEWAY, dhcp::PORT);
                        let everyone = SocketAddrV4::new(Ipv4Address::BROADCAST, dhcp::PORT + 1);
                        frame::datagram(guest, server, everyone, &lease)
                    });
                    shared.net().device.outgoing.extend(lease);
                }
                Meaning::Datagram { from, to, payload } => datagrams.take(from, to, payload),
                Meaning::Nothing => {}
            }
        }
        let outgoing = shared.net().poll();
        for bytes in outgoing {
            let length = (bytes.len() as u32).to_be_bytes();
            if writer.write_all(&length).await.is_err() || writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        if writer.flush().await.is_err() {
            break;
        }
    }
    reading.abort();
}

impl Shared {
    /// A socket that takes the one connection whose first segment follows.
    fn accept(self: &Arc<Self>, to: SocketAddrV4) -> Option<GuestStream> {
        let mut net = self.net();
        let mut socket = socket();
        socket.listen((*to.ip(), to.port())).ok()?;
        Some(self.stream(&mut net, socket))
    }
}

impl Net {
    /// Takes in and gives out all that there is.
    fn poll(&mut self) -> VecDeque<Vec<u8>> {
        self.interface.poll(now(), &mut self.device, &mut self.sockets);
        std::mem::take(&mut self.device.outgoing)
    }

    /// How long there is nothing to do.
    fn delay(&mut self) -> Duration {
        const LONG: Duration = Duration::from_secs(5);
        match self.interface.poll_delay(now(), &self.sockets) {
            Some(delay) => Duration::from(delay).min(LONG),
            None => LONG,
        }
    }

    /// Removes sockets that have ended.
    fn tidy(&mut self) {
        let Self { sockets, leaving, n_flows, .. } = self;
        leaving.retain(|(handle, until)| {
            let socket = sockets.get_mut::<tcp::Socket>(*handle);
            let has_ended = matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait);
            if !has_ended && *until > Instant::now() {
                return true;
            }
            sockets.remove(*handle);
            *n_flows -= 1;
            false
        });
    }
}

/// Reads QEMU's frames: a length of four bytes, then the frame.
async fn read_frames<R: AsyncRead + Unpin>(reader: R, frames: mpsc::Sender<Vec<u8>>) {
    let mut reader = BufReader::with_capacity(256 << 10, reader);
    loop {
        let Ok(length) = reader.read_u32().await else { return };
        // QEMU itself never makes such a frame: whoever does is not to be followed.
        if length as usize > MAX_FRAME {
            return;
        }
        let mut bytes = vec![0; length as usize];
        if reader.read_exact(&mut bytes).await.is_err() || frames.send(bytes).await.is_err() {
            return;
        }
    }
}

/// The frames on their way, as smoltcp's device.
#[derive(Default)]
struct Queues {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Device for Queues {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Incoming, Outgoing<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Incoming(frame), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Outgoing<'_>> {
        (self.outgoing.len() < MAX_WAITING).then_some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU + 14;
        capabilities
    }
}

struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push_back(frame);
        result
    }
}
