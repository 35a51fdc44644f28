//! smoltcp's half of the network: its interface, the sockets of all connections, and their end.

use super::device::Queues;
use super::frame::MAC;
use super::stalls::SILENCE;
use super::{GATEWAY, GUEST, NAME_SERVER};
use crate::budget::Permit;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint, Ipv4Cidr};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// The first port of connections into the guest.
const FIRST_PORT: u16 = 49_152;
/// How long a closed connection may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(30);

/// A connection as the guest names it: its own port, and the other end.
pub(crate) type Key = (u16, SocketAddrV4);
/// Whether bytes wait for the guest, of each connection.
pub(super) type Connections = HashMap<Key, bool>;

/// smoltcp's half.
pub(super) struct Net {
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) device: Queues,
    /// Sockets whose connection is over for the host, with the time they may take to end, and what
    /// they cost until then.
    leaving: Vec<(SocketHandle, Instant, Permit)>,
    next_port: u16,
}

impl Net {
    pub(super) fn new() -> Self {
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
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            device,
            leaving: Vec::new(),
            next_port: FIRST_PORT,
        }
    }

    /// Takes in and gives out all that there is.
    pub(super) fn poll(&mut self) -> VecDeque<Vec<u8>> {
        self.poll_all();
        // After it alone: the guest has been told then that a connection was broken off.
        self.tidy();
        std::mem::take(&mut self.device.outgoing)
    }

    pub(super) fn poll_all(&mut self) {
        self.interface.poll(now(), &mut self.device, &mut self.sockets);
    }

    /// Ends every connection with a reset, and drops the frames on their way.
    pub(super) fn forget(&mut self) {
        self.device = Queues::default();
        for (_, socket) in self.sockets.iter_mut() {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            socket.abort();
        }
    }

    /// Lets a socket say farewell by itself.
    pub(super) fn leave(&mut self, handle: SocketHandle, cost: Permit) {
        self.leaving.push((handle, Instant::now() + FAREWELL, cost));
    }

    /// Ends sockets whose connection the guest has given up before it came about: they listen again.
    pub(super) fn stop_listening(&mut self) {
        for (_, socket) in self.sockets.iter_mut() {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            if socket.is_listening() {
                socket.abort();
            }
        }
    }

    fn tcp_sockets(&self) -> impl Iterator<Item = &tcp::Socket<'static>> {
        self.sockets.iter().map(|(_, socket)| {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            socket
        })
    }

    /// Whether the guest has this connection already, and only says so again.
    pub(super) fn has_connection(&self, (from, to): Key) -> bool {
        let remote = IpEndpoint::new(GUEST.into(), from);
        let local = IpEndpoint::new((*to.ip()).into(), to.port());
        self.tcp_sockets().any(|socket| {
            let has_ended = matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait);
            let is_same = socket.remote_endpoint() == Some(remote);
            !has_ended && is_same && socket.local_endpoint() == Some(local)
        })
    }

    /// The connections of now.
    pub(super) fn connections(&self) -> Connections {
        let of_sockets = self.tcp_sockets().filter_map(|socket| {
            let (local, remote) = (socket.local_endpoint()?, socket.remote_endpoint()?);
            let IpAddress::Ipv4(address) = local.addr;
            let key = (remote.port, SocketAddrV4::new(address, local.port));
            Some((key, socket.send_queue() > 0))
        });
        of_sockets.collect()
    }

    /// A port of the gateway that has no connection to this place of the guest.
    pub(super) fn free_port(&mut self, to: SocketAddrV4) -> Option<u16> {
        let remote = Some(IpEndpoint::new((*to.ip()).into(), to.port()));
        let taken: HashSet<u16> = self
            .tcp_sockets()
            .filter(|socket| socket.remote_endpoint() == remote)
            .filter_map(|socket| socket.local_endpoint().map(|local| local.port))
            .collect();
        for _ in FIRST_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !taken.contains(&port) {
                return Some(port);
            }
        }
        None
    }

    /// How long there is nothing to do.
    pub(super) fn delay(&mut self) -> Duration {
        const LONG: Duration = Duration::from_secs(5);
        let has_bytes_waiting = self.tcp_sockets().any(|socket| socket.send_queue() > 0);
        let longest = if has_bytes_waiting { SILENCE } else { LONG };
        let delay = self.interface.poll_delay(now(), &self.sockets);
        delay.map_or(longest, |delay| Duration::from(delay).min(longest))
    }

    /// Removes sockets that have ended, and breaks off those that take too long to.
    fn tidy(&mut self) {
        let Self { sockets, leaving, .. } = self;
        leaving.retain(|(handle, until, _)| {
            let socket = sockets.get_mut::<tcp::Socket>(*handle);
            if matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait) {
                sockets.remove(*handle);
                return false;
            }
            if *until <= Instant::now() {
                socket.abort();
            }
            true
        });
    }
}

fn now() -> StackInstant {
    StackInstant::now()
}
