//! The guest's network, in this process: a TCP/IP stack at the other end of the guest's network link.
//!
//! ```text
//!  guest eth0 ── QEMU -netdev stream ── frames ──► stack ──► policy ──► a socket of the host
//!                 (inherited socket)                │
//!                                                   ├──► dns      10.0.2.3
//!                                                   ├──► shares   10.0.2.100:445, in this process
//!                                                   └──► forwards 10.0.2.101, and host ports inwards
//! ```
//! QEMU has no socket of its own then, and who may talk to whom is decided here, where it can be
//! changed while the machine runs. Addresses are those of QEMU's own user network, so that images
//! know them: 10.0.2.15 for the guest, 10.0.2.2 for the gateway, 10.0.2.3 for names.
//!
//! Owns addresses and the handle; knows nothing of SMB, QEMU or the configuration. Every frame is the
//! guest's: flows, queues and tables are bounded by the machine's budget, and what is not carried is
//! refused in the protocol's own words rather than dropped.

mod device;
mod dhcp;
mod dns;
mod flow;
mod frame;
#[cfg(all(test, unix))]
mod fuzz;
mod policy;
mod sockets;
mod stack;
mod stalls;
mod udp;

pub(crate) use policy::{AllowList, Policy};
#[cfg(target_os = "linux")]
pub(crate) use sockets::Key as Connection;

use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::network::Forward;
pub(crate) use crate::network::{GATEWAY, GUEST, NAME_SERVER, SHARES};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A stream of bytes of the host.
pub(crate) trait HostStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> HostStream for T {}

/// The host's side of a connection of the guest.
pub(crate) struct Dialed {
    pub(crate) stream: Box<dyn HostStream>,
    /// Dropped when the connection has ended.
    pub(crate) _keep: Option<Box<dyn Send>>,
}

type Dialing = Pin<Box<dyn Future<Output = io::Result<Dialed>> + Send>>;
/// Connects to a service in this process.
type Dial = Arc<dyn Fn() -> Dialing + Send + Sync>;
/// Bytes on their way to the name server over a connection.
const NAMES_BUFFER: usize = 4096;

/// A running network. Dropping it ends every connection.
pub(crate) struct UserNet {
    shared: Arc<stack::Shared>,
    stack: JoinHandle<()>,
    listeners: Mutex<Vec<Listening>>,
}

/// A port of the host that leads into the guest.
struct Listening {
    host: SocketAddrV4,
    guest: SocketAddrV4,
    listener: Arc<TcpListener>,
    task: JoinHandle<()>,
}

impl UserNet {
    /// Runs the network at this end of the guest's network link.
    #[cfg(unix)]
    pub(crate) fn start(link: tokio::net::UnixStream, policy: Policy, budget: Arc<Budget>) -> Self {
        let shared = stack::Shared::new(policy, budget);
        let stack = tokio::spawn(stack::run(link, Arc::clone(&shared)));
        let net = Self { shared, stack, listeners: Mutex::default() };
        let names = Arc::downgrade(&net.shared);
        net.offer(SocketAddrV4::new(NAME_SERVER, 53), move || {
            let names = names.upgrade();
            async move {
                let shared = names.ok_or(io::ErrorKind::ConnectionRefused)?;
                let (ours, theirs) = tokio::io::duplex(NAMES_BUFFER);
                tokio::spawn(dns::serve(shared, theirs));
                Ok(Dialed { stream: Box::new(ours), _keep: None })
            }
        });
        net
    }

    /// What the guest may make this process hold.
    pub(crate) fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.shared.budget)
    }

    /// Serves an address of the guest's network by this process itself.
    pub(crate) fn offer<F>(&self, guest: SocketAddrV4, dial: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = io::Result<Dialed>> + Send + 'static,
    {
        self.shared.dials().insert(guest, Arc::new(move || Box::pin(dial())));
        self.change(|policy| policy.serve_inside(guest));
    }

    /// Changes who may talk to whom. Connections that exist go on.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Policy) -> T) -> T {
        change(&mut self.shared.policy())
    }

    /// Ends every connection, for a guest that went back in time. Ports stay open.
    pub(crate) fn forget(&self) {
        self.shared.forget();
    }

    /// The connections of the guest.
    #[cfg(target_os = "linux")]
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.shared.net().connections().into_keys().collect()
    }

    /// Has the guest, which has this hardware address, find out that connections of another guest that it
    /// goes on from are not its own. A program that only waits for bytes would wait for ever.
    #[cfg(target_os = "linux")]
    pub(crate) fn break_off(&self, connections: &[Connection], mac: [u8; 6]) {
        self.shared.break_off(connections, mac);
    }

    /// Leads a listening port of the host into the guest.
    pub(crate) fn listen(&self, listener: TcpListener, forward: &Forward) {
        let guest = SocketAddrV4::new(forward.guest_address.unwrap_or(GUEST), forward.guest_port);
        let host = SocketAddrV4::new(forward.host_address, forward.host_port);
        self.lead(Arc::new(listener), host, guest);
    }

    fn lead(&self, listener: Arc<TcpListener>, host: SocketAddrV4, guest: SocketAddrV4) {
        let serving = flow::serve(Arc::clone(&listener), guest, Arc::clone(&self.shared));
        let task = tokio::spawn(serving);
        self.lock().push(Listening { host, guest, listener, task });
    }

    /// Takes over the rules and the open ports of another network, whose machine this one's follows. The
    /// ports are never closed.
    #[cfg(target_os = "linux")]
    pub(crate) fn take_over(&self, past: &Self) {
        let rules = past.change(|policy| policy.clone());
        self.change(|policy| policy.take_over(rules));
        for Listening { host, guest, listener, task } in past.lock().drain(..) {
            task.abort();
            self.lead(listener, host, guest);
        }
    }

    /// Closes a port of the host again; says whether it was open.
    pub(crate) fn unlisten(&self, forward: &Forward) -> bool {
        let host = SocketAddrV4::new(forward.host_address, forward.host_port);
        let mut listeners = self.lock();
        let Some(index) = listeners.iter().position(|open| open.host == host) else {
            return false;
        };
        listeners.swap_remove(index).task.abort();
        true
    }

    /// Closes every port and ends every connection.
    pub(crate) fn close(&self) {
        self.stack.abort();
        for open in self.lock().drain(..) {
            open.task.abort();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Listening>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UserNet {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens a port of the host for a forward, which has its number from here on.
pub(crate) fn bind(forward: &mut Forward) -> Result<std::net::TcpListener> {
    let address = SocketAddr::from((forward.host_address, forward.host_port));
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        forward.host_port = listener.local_addr()?.port();
        Ok(listener)
    });
    listener.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            Error::PortInUse { port: forward.host_port, address: forward.host_address.to_string() }
        }
        _ => Error::System { action: "listen on a forwarded port", source },
    })
}

#[cfg(all(test, unix))]
mod tests;
