//! Who the guest may talk to: pure decisions on addresses and names.
//!
//! Three rules, in this order: a service that was made for the guest (shares, forwards) is reached
//! at its own address and nowhere else; what belongs to the host or tells secrets of a cloud is
//! closed unless exactly this address is named; everything else is as the mode and the allow-list
//! say. A network in the list opens what is in it, and never what is closed.

use super::GATEWAY;
use crate::error::{Error, Result};
use crate::network::NetworkMode;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// How long an address stands for the name that it was looked up by.
const NAME_TIME: Duration = Duration::from_secs(3600);
/// The most addresses that are remembered for names.
const MAX_NAMED: usize = 4096;
/// Addresses at which clouds tell a machine's secrets, beyond 169.254.0.0/16.
const METADATA: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// What becomes of a connection of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is refused.
    Deny,
    /// It goes to this address of the host or the world, which must not be the host's own.
    Out(SocketAddrV4),
    /// It goes to this address, which the host itself may have.
    Named(SocketAddrV4),
    /// It goes to a service in this process.
    Inside,
}

/// What is behind an address that was made for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Host(SocketAddrV4),
    Inside,
}

/// The rules of one machine.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    mode: NetworkMode,
    allow: Option<AllowList>,
    services: HashMap<SocketAddrV4, Service>,
    /// Addresses that allowed names were looked up as, with the ports that they are allowed for.
    named: HashMap<(Ipv4Addr, Option<u16>), Instant>,
}

impl Policy {
    /// The rules of a mode; without a list, FULL reaches everything that is not closed.
    pub(crate) fn new(mode: NetworkMode, allow: Option<AllowList>) -> Self {
        Self { mode, allow, services: HashMap::new(), named: HashMap::new() }
    }

    /// Serves an address of the guest's network by one of the host.
    pub(crate) fn serve(&mut self, guest: SocketAddrV4, host: SocketAddrV4) {
        self.services.insert(guest, Service::Host(host));
    }

    /// Serves an address of the guest's network by this process itself.
    pub(crate) fn serve_inside(&mut self, guest: SocketAddrV4) {
        self.services.insert(guest, Service::Inside);
    }

    /// Serves it no more; says whether it did.
    pub(crate) fn unserve(&mut self, guest: SocketAddrV4) -> bool {
        self.services.remove(&guest).is_some()
    }

    /// Takes over the rules of another guest. Services in this process stay this one's own.
    pub(crate) fn take_over(&mut self, other: Self) {
        let is_hosts = |service: &Service| matches!(service, Service::Host(_));
        self.services.retain(|_, service| !is_hosts(service));
        self.services.extend(other.services.into_iter().filter(|(_, service)| is_hosts(service)));
        (self.allow, self.named) = (other.allow, other.named);
    }

    /// Replaces the allow-list.
    pub(crate) fn set_allow(&mut self, allow: Option<AllowList>) {
        self.allow = allow;
        self.named.clear();
    }

    /// Whether there is a world outside at all.
    pub(crate) fn is_full(&self) -> bool {
        self.mode == NetworkMode::Full
    }

    /// Whether something is served at an address of the guest's network.
    pub(crate) fn is_service_host(&self, address: Ipv4Addr) -> bool {
        self.services.keys().any(|service| *service.ip() == address)
    }

    /// What becomes of a connection to `to`.
    pub(crate) fn decide(&self, to: SocketAddrV4, now: Instant) -> Verdict {
        match self.services.get(&to) {
            Some(Service::Host(host)) => return Verdict::Named(*host),
            Some(Service::Inside) => return Verdict::Inside,
            None => {}
        }
        if self.mode != NetworkMode::Full {
            return Verdict::Deny;
        }
        // The gateway stands for the host, as in QEMU's own user network.
        let target = match *to.ip() {
            GATEWAY => SocketAddrV4::new(Ipv4Addr::LOCALHOST, to.port()),
            _ => to,
        };
        let (ip, port) = (*target.ip(), target.port());
        let in_list = self.allow.as_ref().and_then(|allow| allow.address(ip, Some(port)));
        if in_list == Some(Match::Exactly) {
            return Verdict::Named(target);
        }
        let is_inside = to.ip().octets()[..3] == GATEWAY.octets()[..3];
        if is_closed(ip) || is_inside {
            return Verdict::Deny;
        }
        let is_named = |port| {
            self.named.get(&(ip, port)).is_some_and(|since| now.duration_since(*since) < NAME_TIME)
        };
        match &self.allow {
            Some(allow)
                if in_list.is_none()
                    && !allow.has_everything(port)
                    && !is_named(None)
                    && !is_named(Some(port)) =>
            {
                Verdict::Deny
            }
            _ => Verdict::Out(target),
        }
    }

    /// Whether a name may be looked up.
    pub(crate) fn may_resolve(&self, name: &str) -> bool {
        let allowed = |allow: &AllowList| allow.resolves(name);
        self.mode == NetworkMode::Full && self.allow.as_ref().is_none_or(allowed)
    }

    /// Remembers what an allowed name stands for. Says whether the answer may be given: whoever owns
    /// a name in the list must not open the host's networks by pointing it there, so that private
    /// addresses count for a name only where the list has the address as well.
    pub(crate) fn note_resolved(
        &mut self,
        name: &str,
        addresses: &[Ipv4Addr],
        now: Instant,
    ) -> bool {
        let Some(allow) = &self.allow else { return true };
        let ports = allow.ports_of(name);
        if ports.is_empty() {
            return true;
        }
        let is_fine = |ip: &Ipv4Addr| {
            let is_elsewhere = !is_private(*ip) && !is_closed(*ip);
            is_elsewhere || ports.iter().all(|port| allow.address(*ip, *port).is_some())
        };
        if !addresses.iter().all(is_fine) {
            return false;
        }
        let is_young = |since: &Instant| now.duration_since(*since) < NAME_TIME;
        self.named.retain(|_, since| is_young(since));
        for port in ports {
            self.named.extend(addresses.iter().map(|address| ((*address, port), now)));
        }
        if self.named.len() > MAX_NAMED {
            self.named.clear();
        }
        true
    }
}

/// Whether an address is of a private network: RFC 1918, or between a provider and its customers.
fn is_private(ip: Ipv4Addr) -> bool {
    ip.is_private() || is_in(ip, Ipv4Addr::new(100, 64, 0, 0), 10)
}

/// Whether an address is the host's, the network's own, or a cloud's: closed unless it is named.
fn is_closed(ip: Ipv4Addr) -> bool {
    ip.is_loopback()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || ip.is_multicast()
        || ip.octets()[0] == 0
        || ip.octets()[0] >= 240
        || METADATA.contains(&ip)
}

/// The entries of `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowList {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    what: What,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Everything,
    Name(String),
    /// `*.example.com`: every name below, and not the name itself.
    Below(String),
    Net(Ipv4Addr, u8),
}

/// How an address is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    /// In a network of the list.
    Within,
    /// By itself.
    Exactly,
}

impl AllowList {
    /// Reads `example.com`, `*.example.com`, `192.0.2.1`, `192.0.2.0/24` and `*`, each with an
    /// optional `:port`.
    pub(crate) fn parse(entries: &[String]) -> Result<Self> {
        let entries = entries.iter().map(|text| {
            Entry::parse(text).ok_or_else(|| Error::InvalidValue {
                option: "allow",
                value: text.clone(),
                allowed: "a domain, an IPv4 address or network, or `*`, each with `:port` or without"
                    .into(),
                hint: Some(
                    "Write for example allow=[\"example.com\", \"*.example.org:443\", \"192.0.2.0/24\"]"
                        .into(),
                ),
            })
        });
        Ok(Self { entries: entries.collect::<Result<_>>()? })
    }

    /// How the list has an address, on one port or on all.
    fn address(&self, ip: Ipv4Addr, port: Option<u16>) -> Option<Match> {
        let is_for = |entry: &Entry| match port {
            Some(port) => entry.is_for(port),
            None => entry.port.is_none(),
        };
        let matching = self.entries.iter().filter_map(|entry| match entry.what {
            What::Net(net, prefix) if is_for(entry) && is_in(ip, net, prefix) => {
                Some(if prefix == 32 { Match::Exactly } else { Match::Within })
            }
            _ => None,
        });
        matching.max()
    }

    fn has_everything(&self, port: u16) -> bool {
        self.entries.iter().any(|entry| entry.what == What::Everything && entry.is_for(port))
    }

    fn resolves(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.what == What::Everything || entry.has_name(name))
    }

    fn ports_of(&self, name: &str) -> Vec<Option<u16>> {
        let entries = self.entries.iter().filter(|entry| entry.has_name(name));
        entries.map(|entry| entry.port).collect()
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let (what, port) = match text.rsplit_once(':') {
            Some((what, port)) => (what, Some(port.parse().ok().filter(|port| *port > 0)?)),
            None => (text, None),
        };
        let (address, prefix) = match what.split_once('/') {
            Some((address, prefix)) => {
                (address, prefix.parse::<u8>().ok().filter(|prefix| *prefix <= 32)?)
            }
            None => (what, 32),
        };
        let what = match address.parse::<Ipv4Addr>() {
            Ok(GATEWAY) if prefix == 32 => What::Net(Ipv4Addr::LOCALHOST, 32),
            Ok(address) => What::Net(address, prefix),
            Err(_) if what.contains('/') => return None,
            Err(_) if what == "*" => What::Everything,
            Err(_) if what == "localhost" => What::Net(Ipv4Addr::LOCALHOST, 32),
            Err(_) => match what.strip_prefix("*.") {
                Some(below) => What::Below(domain(below)?),
                None => What::Name(domain(what)?),
            },
        };
        Some(Self { what, port })
    }

    fn is_for(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    fn has_name(&self, name: &str) -> bool {
        match &self.what {
            What::Name(own) => own == name,
            What::Below(own) => name
                .strip_suffix(own.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            _ => false,
        }
    }
}

/// A domain name in lower case, if it is one. A name of digits alone is a mistyped address.
fn domain(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_numeric = text.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit());
    (text.len() <= 253 && !is_numeric && text.split('.').all(is_label)).then_some(text)
}

fn is_in(ip: Ipv4Addr, net: Ipv4Addr, prefix: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    u32::from(ip) & mask == u32::from(net) & mask
}

#[cfg(test)]
mod tests;
