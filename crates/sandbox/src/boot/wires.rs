//! Our ends of a machine's connections: QMP, the agent, the guest's network link, and the ports that lead to them.

use super::assembly::GUEST_PORT;
use crate::error::{Error, Result};
use crate::network::Forward;
use crate::qmp::Qmp;
use serde_json::json;
use std::net::TcpListener;

#[cfg(unix)]
use crate::budget::Budget;
#[cfg(unix)]
use crate::config::SandboxConfig;
#[cfg(unix)]
use crate::network::Direction;
#[cfg(unix)]
use crate::usernet::{self, AllowList, Policy, UserNet};
#[cfg(unix)]
use std::sync::Arc;
#[cfg(unix)]
use tokio::net::UnixStream;

/// Our end of the guest's network link, with the rules and the open ports of its network.
#[cfg(unix)]
pub(super) struct Link {
    stream: std::os::unix::net::UnixStream,
    policy: Policy,
    budget: Arc<Budget>,
    listeners: Vec<(TcpListener, Forward)>,
    /// All of the configuration's, in its order.
    pub(super) forwards: Vec<Forward>,
}

/// Our ends of the connections, before they belong to a runtime.
pub(super) enum WireEnds {
    #[cfg(unix)]
    Socket {
        qmp: std::os::unix::net::UnixStream,
        agent: std::os::unix::net::UnixStream,
        token: String,
    },
    Tcp {
        qmp: QmpEnd,
        forwards: Vec<Forward>,
        /// The agent's port, where it is not QEMU that chose it.
        port: Option<u16>,
        token: String,
    },
}

/// Our end of QMP's connection.
pub(super) enum QmpEnd {
    #[cfg(unix)]
    Socket(std::os::unix::net::UnixStream),
    #[cfg(not(unix))]
    Port(u16),
}

/// Our ends of the connections.
pub(crate) enum Wires {
    /// Two sockets that QEMU has inherited the other ends of.
    #[cfg(unix)]
    Socket { qmp: UnixStream, agent: UnixStream, token: String },
    /// A forwarded port, to be asked for.
    Tcp { qmp: QmpWire, forwards: Vec<Forward>, port: Option<u16>, token: String, guest_port: u16 },
}

/// A QMP connection to be made.
pub(crate) enum QmpWire {
    #[cfg(unix)]
    Socket(UnixStream),
    #[cfg(not(unix))]
    Port(u16),
}

impl QmpWire {
    pub(crate) async fn connect(self) -> Result<Qmp> {
        match self {
            #[cfg(unix)]
            Self::Socket(stream) => Qmp::connect_socket(stream).await,
            #[cfg(not(unix))]
            Self::Port(port) => loop {
                // QEMU listens a moment after its start; its end ends this loop from outside.
                match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                    Ok(stream) => return Qmp::connect(stream).await,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            },
        }
    }
}

/// The guest's network as the configuration wants it, or by the rules that another one has. Its ports are
/// open from here on, so that no other can take them.
#[cfg(unix)]
pub(super) fn open_link(
    config: &SandboxConfig,
    stream: std::os::unix::net::UnixStream,
    budget: &Arc<Budget>,
    rules: Option<&Policy>,
) -> Result<Link> {
    let allow = config.allow().map(AllowList::parse).transpose()?;
    let mut policy = Policy::new(config.network_mode(), allow);
    if let Some(rules) = rules {
        policy.take_over(rules.clone());
    }
    let mut listeners = Vec::new();
    let mut forwards = config.port_forwards().to_vec();
    for forward in &mut forwards {
        match forward.direction {
            Direction::GuestToHost => policy.serve(forward.guest_end(), forward.destination()?),
            Direction::HostToGuest => {
                listeners.push((usernet::bind(forward)?, forward.clone()));
            }
        }
    }
    Ok(Link { stream, policy, budget: Arc::clone(budget), listeners, forwards })
}

#[cfg(unix)]
impl Link {
    /// Opens a loopback port that leads to the agent.
    pub(super) fn agent_port(&mut self) -> Result<u16> {
        let mut forward = Forward::new(0, GUEST_PORT);
        let listener = usernet::bind(&mut forward)?;
        let port = forward.host_port;
        self.listeners.push((listener, forward));
        Ok(port)
    }

    /// Runs the network. Must be called in a runtime.
    pub(super) fn connect(self) -> Result<UserNet> {
        let net = UserNet::start(adopt(self.stream)?, self.policy, self.budget);
        for (listener, forward) in self.listeners {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|source| Error::System { action: "use a forwarded port", source })?;
            net.listen(listener, &forward);
        }
        Ok(net)
    }
}

impl WireEnds {
    /// Has them belong to a runtime. Must be called in one.
    pub(super) fn into_runtime(self) -> Result<Wires> {
        match self {
            #[cfg(unix)]
            Self::Socket { qmp, agent, token } => {
                Ok(Wires::Socket { qmp: adopt(qmp)?, agent: adopt(agent)?, token })
            }
            Self::Tcp { qmp, forwards, port, token } => {
                let qmp = match qmp {
                    #[cfg(unix)]
                    QmpEnd::Socket(stream) => QmpWire::Socket(adopt(stream)?),
                    #[cfg(not(unix))]
                    QmpEnd::Port(port) => QmpWire::Port(port),
                };
                Ok(Wires::Tcp { qmp, forwards, port, token, guest_port: GUEST_PORT })
            }
        }
    }
}

#[cfg(unix)]
fn adopt(stream: std::os::unix::net::UnixStream) -> Result<UnixStream> {
    stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream))
        .map_err(|source| Error::System { action: "use a socket", source })
}

/// Asks QEMU which host port it chose for the agent.
pub(crate) async fn agent_port(qmp: &Qmp, forwards: &[Forward], guest_port: u16) -> Result<u16> {
    let command = "human-monitor-command";
    let table = qmp.execute(command, json!({"command-line": "info usernet"})).await?;
    let table = table.as_str().unwrap_or_default();
    find_agent_port(table, forwards, guest_port).ok_or_else(|| Error::Qmp {
        command: command.into(),
        reason: "the agent's forwarded port is not in its answer".into(),
    })
}

/// Finds the forward to the agent that is none of the user's own. Lines look like
/// `TCP[HOST_FORWARD]  21       127.0.0.1 40875       10.0.2.15  8080     0     0`.
fn find_agent_port(table: &str, forwards: &[Forward], guest_port: u16) -> Option<u16> {
    table
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [kind, _fd, _address, host, _guest, guest, ..] = words[..] else { return None };
            let is_agent = kind == "TCP[HOST_FORWARD]" && guest.parse() == Ok(guest_port);
            if is_agent { host.parse().ok() } else { None }
        })
        .find(|port| forwards.iter().all(|forward| forward.host_port != *port))
}

/// Refuses ports that are taken now, so that the error names them. QEMU's own answer is
/// understood too, for those that are taken a moment later.
pub(super) fn check_ports(forwards: &[Forward]) -> Result<()> {
    for forward in forwards {
        let (address, port) = (forward.host_address, forward.host_port);
        if let Err(source) = TcpListener::bind((address, port)) {
            return Err(match source.kind() {
                std::io::ErrorKind::AddrInUse => {
                    Error::PortInUse { port, address: address.to_string() }
                }
                std::io::ErrorKind::PermissionDenied => Error::InvalidValue {
                    option: "port_forwards",
                    value: port.to_string(),
                    allowed: "host ports that this user may listen on".into(),
                    hint: Some("Use a host port of 1024 or more".into()),
                },
                _ => Error::InvalidValue {
                    option: "port_forwards",
                    value: format!("{address}:{port}"),
                    allowed: "addresses of this host".into(),
                    hint: Some("Leave the address out for 127.0.0.1".into()),
                },
            });
        }
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn free_port() -> Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| Error::System { action: "find a free port", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_port_is_distinguished_from_the_users() {
        let table = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
             TCP[HOST_FORWARD]  22       127.0.0.1  9000       10.0.2.15  8080     0     0\r\n  \
             TCP[ESTABLISHED]   23       127.0.0.1  9999       10.0.2.15  8080     0     0\r\n  \
             TCP[HOST_FORWARD]  21       127.0.0.1 40875       10.0.2.15  8080     0     0\r\n";
        let own = [Forward::new(9000, 8080)];
        assert_eq!(find_agent_port(table, &own, 8080), Some(40875));
        assert_eq!(find_agent_port(table, &[], 8081), None);
        assert_eq!(find_agent_port("", &[], 8080), None);
    }
}
