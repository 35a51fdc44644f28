//! The TCP/IP stack: frames in and out, and the sockets that stand for the guest's connections.
//!
//! One task owns the network link and polls smoltcp; the connections' own tasks (`flow`) reach their sockets
//! through the lock and ring the bell when there is something to send. The start of a connection
//! waits until the host's side is there, so that a refusal out there is a refusal in here. What a
//! connection costs is asked of the machine's budget, and a guest that is over it is refused.

use super::device::read_frames;
use super::flow::{self, GuestStream};
use super::frame::{self, Meaning};
use super::policy::{Policy, Verdict};
use super::sockets::{Key, Net};
use super::stalls::{SILENCE, Stalls};
use super::udp::{Datagrams, Reply};
use super::{Dial, Dialed, GATEWAY, NAME_SERVER, dhcp};
use crate::budget::{Budget, Permit};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, Ipv4Address};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::{Notify, mpsc};

/// Bytes of an IP packet, as on every Ethernet.
pub(super) const MTU: usize = 1500;
/// The most and the fewest bytes that a connection holds for each direction in the stack.
const LARGEST: usize = 256 << 10;
const SMALLEST: usize = 8 << 10;
/// A connection gets this part of what the machine may still have, so that many get less each.
const SHARE_OF_REST: usize = 128;
/// How long the stack knows the guest's hardware address for, in less than which it forgets it.
const INTRODUCTION: Duration = Duration::from_secs(20);
/// How long the host's side of a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// What the stack's task shares with those of the connections.
pub(super) struct Shared {
    policy: Mutex<Policy>,
    /// How services in this process are reached.
    dials: Mutex<HashMap<SocketAddrV4, Dial>>,
    pub(super) budget: Arc<Budget>,
    net: Mutex<Net>,
    /// Rung when there is something for the stack to do.
    pub(super) bell: Notify,
}

impl Shared {
    pub(super) fn new(policy: Policy, budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            policy: Mutex::new(policy),
            dials: Mutex::default(),
            budget,
            net: Mutex::new(Net::new()),
            bell: Notify::new(),
        })
    }

    pub(super) fn net(&self) -> MutexGuard<'_, Net> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dials(&self) -> MutexGuard<'_, HashMap<SocketAddrV4, Dial>> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection into the guest.
    pub(super) fn connect(self: &Arc<Self>, to: SocketAddrV4) -> Option<GuestStream> {
        let (mut socket, copy, cost) = self.socket()?;
        let mut net = self.net();
        let net = &mut *net;
        let port = net.free_port(to)?;
        socket.connect(net.interface.context(), (*to.ip(), to.port()), (GATEWAY, port)).ok()?;
        Some(self.stream(net, socket, copy, cost))
    }

    fn stream(
        self: &Arc<Self>,
        net: &mut Net,
        socket: tcp::Socket<'static>,
        copy: usize,
        cost: Permit,
    ) -> GuestStream {
        let handle = net.sockets.add(socket);
        self.bell.notify_one();
        GuestStream::new(Arc::clone(self), handle, copy, cost)
    }

    /// A socket with the buffers that the machine can have, and the size of those that copy its
    /// bytes.
    fn socket(&self) -> Option<(tcp::Socket<'static>, usize, Permit)> {
        let size = (self.budget.memory_left() / SHARE_OF_REST).clamp(SMALLEST, LARGEST);
        let copy = size / 4;
        let cost = self.budget.memory(2 * (size + copy))?;
        let buffer = || tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        // Answers are whole messages; waiting to fill a segment only costs time.
        socket.set_nagle_enabled(false);
        // A guest that vanishes in the middle of a connection must not hold it for ever.
        socket.set_keep_alive(Some(smoltcp::time::Duration::from_secs(60)));
        socket.set_timeout(Some(smoltcp::time::Duration::from_secs(300)));
        Some((socket, copy, cost))
    }

    /// Ends every connection with a reset, and drops the frames on their way: the guest of now knows
    /// none of them. What it still believes to be open is answered with a reset as well, so that it
    /// learns at once and not after its timeouts.
    pub(super) fn forget(&self) {
        self.net().forget();
        self.bell.notify_one();
    }

    /// Asks the guest for each of these connections, which the stack does not know: it answers the guest's
    /// answer, which says where the guest stands, with a reset that the guest believes.
    #[cfg(target_os = "linux")]
    pub(super) fn break_off(&self, connections: &[Key], mac: [u8; 6]) {
        let guest = EthernetAddress(mac);
        let asked = connections.iter().flat_map(|key| {
            // The guest has forgotten who is its neighbour with its own address.
            [frame::who_has_guest(guest, *key.1.ip()), frame::opening(guest, *key)]
        });
        self.net().device.outgoing.extend(asked);
        self.bell.notify_one();
    }

    /// Lets a socket say farewell by itself.
    pub(super) fn leave(&self, handle: SocketHandle, cost: Permit) {
        self.net().leave(handle, cost);
        self.bell.notify_one();
    }

    /// Takes the one connection whose first segment this is. A socket that the segment did not
    /// reach is gone again: it would wait for ever, and then serve somebody else.
    fn accept(self: &Arc<Self>, to: SocketAddrV4, first: Vec<u8>) -> Option<GuestStream> {
        self.net().stop_listening();
        let listening = self.socket().and_then(|(mut socket, copy, cost)| {
            socket.listen((*to.ip(), to.port())).ok()?;
            Some(self.stream(&mut self.net(), socket, copy, cost))
        });
        let mut net = self.net();
        // Without a socket that listens, the stack refuses the connection.
        net.device.incoming.push_back(first);
        net.poll_all();
        drop(net);
        listening.filter(|stream| !stream.is_listening())
    }
}

/// The host's side of a connection that the guest has begun.
struct Opened {
    key: Key,
    /// The guest's first segment, which the stack sees only now.
    first: Vec<u8>,
    host: Option<(Dialed, Permit)>,
}

/// Runs the network until its link ends.
pub(super) async fn run<S>(link: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(link);
    let (sender, mut frames) = mpsc::channel(64);
    let reading = tokio::spawn(read_frames(reader, sender));
    let mut writer = BufWriter::with_capacity(256 << 10, writer);
    let (opened_sender, mut opened) = mpsc::channel::<Opened>(64);
    let (reply_sender, mut replies) = mpsc::channel(256);
    let mut datagrams = Datagrams::new(reply_sender, Arc::clone(&shared));
    let mut opening: HashSet<Key> = HashSet::new();
    let mut guest = EthernetAddress::BROADCAST;
    let mut introduced = None;
    let mut stalls = Stalls::default();
    let mut looked = Instant::now();
    let mut batch = Vec::new();
    loop {
        let wait = shared.net().delay();
        tokio::select! {
            n_frames = frames.recv_many(&mut batch, 64) => if n_frames == 0 { break },
            Some(Opened { key, first, host }) = opened.recv() => {
                opening.remove(&key);
                match host {
                    Some((host, place)) => {
                        if let Some(guest) = shared.accept(key.1, first) {
                            tokio::spawn(flow::carry(guest, host, place));
                        }
                    }
                    None => shared.net().device.incoming.push_back(first),
                }
            }
            Some(reply) = replies.recv() => {
                let made = match reply {
                    Reply::Datagram { from, to, payload } => {
                        frame::datagram(guest, from, to, &payload)
                    }
                    Reply::Unreachable { why, from, to } => {
                        let start = frame::start_of_datagram(from, to);
                        vec![frame::unreachable(guest, why, &start)]
                    }
                };
                shared.net().device.outgoing.extend(made);
            }
            () = shared.bell.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        for bytes in batch.drain(..) {
            guest = frame::sender(&bytes).unwrap_or(guest);
            // The stack would ask for the guest's address, and lose its first answer meanwhile.
            let now = Instant::now();
            if introduced.is_none_or(|(known, until)| known != guest || until < now) {
                introduced = Some((guest, now + INTRODUCTION));
                shared.net().device.incoming.push_back(frame::introduction(guest));
            }
            match frame::read(&bytes) {
                Meaning::Stack => {
                    let repeats = stalls.note(&bytes);
                    let repeated = std::iter::repeat_n(bytes, 1 + repeats);
                    shared.net().device.incoming.extend(repeated);
                }
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
                    let is_there = shared.net().has_connection(key);
                    let place = shared.budget.descriptors(1);
                    let (false, Some(place)) = (is_there || verdict == Verdict::Deny, place) else {
                        tracing::debug!(%to, is_there, "no new connection of the guest");
                        shared.net().device.incoming.push_back(bytes);
                        continue;
                    };
                    opening.insert(key);
                    let (sender, dial) = (opened_sender.clone(), shared.dials().get(&to).cloned());
                    tokio::spawn(async move {
                        let connecting = flow::connect(verdict, dial);
                        let host = tokio::time::timeout(CONNECT_TIME, connecting).await;
                        let host = host.ok().flatten().map(|host| (host, place));
                        let _ = sender.send(Opened { key, first: bytes, host }).await;
                    });
                }
                Meaning::Datagram { to, payload, .. } if to.port() == dhcp::PORT => {
                    let lease = dhcp::answer(&payload).and_then(|lease| {
                        let server = SocketAddrV4::new(GATEWAY, dhcp::PORT);
                        let everyone = SocketAddrV4::new(Ipv4Address::BROADCAST, dhcp::PORT + 1);
                        frame::datagram(guest, server, everyone, &lease).pop()
                    });
                    shared.net().device.outgoing.extend(lease);
                }
                Meaning::Datagram { from, to, payload } => datagrams.take(from, to, payload),
                Meaning::Refuse { why, packet } => {
                    let message = frame::unreachable(guest, why, &packet);
                    shared.net().device.outgoing.push_back(message);
                }
                Meaning::Nothing => {}
            }
        }
        if looked.elapsed() >= SILENCE / 4 {
            looked = Instant::now();
            let mut net = shared.net();
            let again = stalls.overdue(&net.connections(), looked);
            net.device.incoming.extend(again);
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
