//! What a guest can reach, and which ports lead into it.
//!
//! Owns the meaning and the checks of network options; how they become QEMU's `-netdev` is
//! `qemu_args`' business.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// The guest's own address.
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The gateway; by default it leads nowhere but out.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server.
pub(crate) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// Where the guest finds the host's shares.
pub(crate) const SHARES: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// Where the guest finds forwarded ports of the host unless it is told otherwise.
pub(crate) const FORWARDS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 101);

/// What the guest can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// No network; only the agent's own channel.
    None,
    /// Nothing but the host's shares and forwarded ports.
    #[default]
    MountsOnly,
    /// The Internet through the host.
    Full,
}

impl NetworkMode {
    /// The name in configurations: `none`, `mounts_only` or `full`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MountsOnly => "mounts_only",
            Self::Full => "full",
        }
    }
}

/// Which side of a forward listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Direction {
    /// The host listens, and connections lead into the guest.
    #[default]
    HostToGuest,
    /// The guest finds the host's port at an address of its own network.
    GuestToHost,
}

/// A TCP port of the host that leads to a TCP port of the guest, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// Which side listens.
    pub direction: Direction,
    /// The host's address to listen on, or to lead to (loopback).
    pub host_address: Ipv4Addr,
    /// The name of what it leads to instead of an address, looked up when the forward begins.
    pub host_name: Option<String>,
    /// The host's port. Where the host listens, 0 is any that is free: the running sandbox's
    /// forwards name it.
    pub host_port: u16,
    /// The guest's address, its only one when it is `None`; from the guest to the host the address at
    /// which it finds the port, 10.0.2.101 when it is `None`.
    pub guest_address: Option<Ipv4Addr>,
    /// The guest's port.
    pub guest_port: u16,
}

impl Forward {
    /// A forward from the host's loopback to the guest.
    pub fn new(host_port: u16, guest_port: u16) -> Self {
        Self {
            direction: Direction::HostToGuest,
            host_address: Ipv4Addr::LOCALHOST,
            host_name: None,
            host_port,
            guest_address: None,
            guest_port,
        }
    }

    /// A forward from the guest, where the port is at 10.0.2.101, to the host's loopback.
    pub fn to_host(guest_port: u16, host_port: u16) -> Self {
        Self { direction: Direction::GuestToHost, ..Self::new(host_port, guest_port) }
    }

    /// Where the guest finds a port of the host.
    pub(crate) fn guest_end(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.guest_address.unwrap_or(FORWARDS), self.guest_port)
    }

    /// Where it leads to; a name is looked up. Blocking.
    pub(crate) fn destination(&self) -> Result<SocketAddrV4> {
        let Some(name) = &self.host_name else { return Ok(self.host_end()) };
        let found = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), self.host_port));
        let address = found.ok().into_iter().flatten().find_map(|address| match address {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        });
        address.ok_or_else(|| Error::InvalidValue {
            option: "port_forwards",
            value: name.clone(),
            allowed: "a name that this host finds an IPv4 address for".into(),
            hint: Some("Name an address, or look whether the name resolves".into()),
        })
    }

    /// The host's end.
    pub(crate) fn host_end(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.host_address, self.host_port)
    }

    /// The JSON form: `{"host": 8080, "guest": 80}`, where each side may also be
    /// `{"address": "127.0.0.1", "port": 8080}`.
    pub fn to_value(&self) -> Value {
        let host = match &self.host_name {
            Some(name) => json!({"address": name, "port": self.host_port}),
            None if self.host_address == Ipv4Addr::LOCALHOST => json!(self.host_port),
            None => json!({"address": self.host_address, "port": self.host_port}),
        };
        let guest = match self.guest_address {
            None => json!(self.guest_port),
            Some(address) => json!({"address": address, "port": self.guest_port}),
        };
        match self.direction {
            Direction::HostToGuest => json!({"host": host, "guest": guest}),
            Direction::GuestToHost => {
                json!({"host": host, "guest": guest, "direction": "guest_to_host"})
            }
        }
    }

    /// Reads a list of forwards in their JSON form.
    pub(crate) fn list_from_value(value: Value) -> Result<Vec<Self>> {
        match value {
            Value::Array(list) => list.into_iter().map(Self::from_value).collect(),
            other => Err(refuse(&other.to_string())),
        }
    }

    /// Reads a forward in its JSON form.
    ///
    /// # Errors
    /// [`Error::InvalidValue`].
    pub fn from_value(value: Value) -> Result<Self> {
        let given = value.to_string();
        let raw: RawForward = serde_json::from_value(value).map_err(|_| refuse(&given))?;
        let direction = match raw.direction.as_deref() {
            None | Some("host_to_guest") => Direction::HostToGuest,
            Some("guest_to_host") => Direction::GuestToHost,
            Some(_) => return Err(refuse(&given)),
        };
        let (host, host_port) = raw.host.parts();
        let (guest, guest_port) = raw.guest.parts();
        let (host_address, host_name) = match host {
            None => (None, None),
            Some(text) => match text.parse() {
                Ok(address) => (Some(address), None),
                Err(_) if direction == Direction::GuestToHost && is_name(&text) => {
                    (None, Some(text))
                }
                Err(_) => return Err(refuse(&given)),
            },
        };
        let guest_address = guest.map(|text| text.parse()).transpose();
        let guest_address = guest_address.map_err(|_| refuse(&given))?;
        // Any free port is something that only the side can choose that listens.
        let least = u16::from(direction == Direction::GuestToHost);
        let port = |port: u64, least: u16| {
            u16::try_from(port).ok().filter(|port| *port >= least).ok_or_else(|| refuse(&given))
        };
        Ok(Self {
            direction,
            host_address: host_address.unwrap_or(Ipv4Addr::LOCALHOST),
            host_name,
            host_port: port(host_port, least)?,
            guest_address,
            guest_port: port(guest_port, 1)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawForward {
    host: RawEndpoint,
    guest: RawEndpoint,
    direction: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawEndpoint {
    Port(u64),
    Full(FullEndpoint),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullEndpoint {
    address: Option<String>,
    port: u64,
}

impl RawEndpoint {
    fn parts(self) -> (Option<String>, u64) {
        match self {
            Self::Port(port) => (None, port),
            Self::Full(FullEndpoint { address, port }) => (address, port),
        }
    }
}

/// Whether it can be the name of a host (RFC 1123), and is no address that was mistyped.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(is_word)
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 253 && text.split('.').all(is_label) && !is_number
}

fn refuse(given: &str) -> Error {
    Error::InvalidValue {
        option: "port_forwards",
        value: given.to_owned(),
        allowed: "a list of forwards with a host and a guest port from 1 to 65535, or 0 for any free port \
                  that the host listens on"
            .into(),
        hint: Some("Write for example PortForward(host=8080, guest=80)".into()),
    }
}

/// Refuses forwards that can never work together or in this network mode.
pub(crate) fn check_forwards(mode: NetworkMode, forwards: &[Forward]) -> Result<()> {
    if mode == NetworkMode::None && !forwards.is_empty() {
        return Err(Error::InvalidValue {
            option: "port_forwards",
            value: forwards[0].to_value().to_string(),
            allowed: "none at all with network_mode=\"none\"".into(),
            hint: Some(
                "Use network_mode=\"mounts_only\", which has forwards but no Internet".into(),
            ),
        });
    }
    let mut taken = BTreeSet::new();
    let mut found = BTreeSet::new();
    for forward in forwards {
        if forward.direction == Direction::GuestToHost {
            check_guest_end(forward)?;
            if !found.insert(forward.guest_end()) {
                return Err(Error::InvalidValue {
                    option: "port_forwards",
                    value: forward.guest_end().to_string(),
                    allowed: "each address and port of the guest once".into(),
                    hint: Some("Give each forward a port of its own".into()),
                });
            }
            continue;
        }
        if forward.host_port == 0 {
            continue;
        }
        // A listener on all addresses collides with one on any single address.
        let everywhere = (Ipv4Addr::UNSPECIFIED, forward.host_port);
        let here = (forward.host_address, forward.host_port);
        let collides = taken.contains(&everywhere)
            || taken.contains(&here)
            || (here == everywhere && taken.iter().any(|(_, port)| *port == forward.host_port));
        if collides {
            return Err(Error::InvalidValue {
                option: "port_forwards",
                value: forward.host_port.to_string(),
                allowed: "each host port once".into(),
                hint: Some("Give each forward a host port of its own".into()),
            });
        }
        taken.insert(here);
    }
    Ok(())
}

/// Checks that the guest can find a forward where it is to be: on its own network, and not where
/// something else is.
pub(crate) fn check_guest_end(forward: &Forward) -> Result<()> {
    let address = *forward.guest_end().ip();
    let is_near = address.octets()[..3] == GATEWAY.octets()[..3];
    let others = [GATEWAY, NAME_SERVER, GUEST, SHARES].contains(&address);
    if is_near && !others && !matches!(address.octets()[3], 0 | 255) {
        return Ok(());
    }
    Err(Error::InvalidValue {
        option: "port_forwards",
        value: address.to_string(),
        allowed: "an address from 10.0.2.4 to 10.0.2.254, other than .15 and .100".into(),
        hint: Some("Leave the address out for 10.0.2.101".into()),
    })
}
