//! Ethernet frames: what the stack needs to know of one, and the few that it makes itself.

use super::{GATEWAY, GUEST, NAME_SERVER};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, UdpPacket, UdpRepr,
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// The gateway's hardware address; it answers for every address that is not the guest's.
pub(super) const MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 0x0a, 0x00, 0x02, 0x02]);

/// What a frame of the guest asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Who has this address?
    WhoHas { reply: Vec<u8>, address: Ipv4Addr },
    /// The start of a TCP connection.
    Open { from: u16, to: SocketAddrV4 },
    /// A UDP datagram.
    Datagram { from: SocketAddrV4, to: SocketAddrV4, payload: Vec<u8> },
    /// For the TCP/IP stack.
    Stack,
    /// Nothing that we answer.
    Nothing,
}

/// Reads a frame. Whatever does not come from the guest's own address means nothing.
pub(super) fn read(frame: &[u8]) -> Meaning {
    meaning(frame).unwrap_or(Meaning::Nothing)
}

fn meaning(bytes: &[u8]) -> Option<Meaning> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Arp => arp(frame.payload()),
        EthernetProtocol::Ipv4 => ip(frame.payload()),
        _ => None,
    }
}

fn arp(payload: &[u8]) -> Option<Meaning> {
    let packet = ArpPacket::new_checked(payload).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    if operation == ArpOperation::Reply {
        return (source_protocol_addr == GUEST).then_some(Meaning::Stack);
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: MAC,
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let mut bytes = ethernet(source_hardware_addr, EthernetProtocol::Arp, reply.buffer_len());
    let header = EthernetFrame::<&[u8]>::header_len();
    reply.emit(&mut ArpPacket::new_unchecked(&mut bytes[header..]));
    Some(Meaning::WhoHas { reply: bytes, address: target_protocol_addr })
}

fn ip(payload: &[u8]) -> Option<Meaning> {
    let packet = Ipv4Packet::new_checked(payload).ok()?;
    let to = packet.dst_addr();
    let is_dhcp = packet.src_addr().is_unspecified() && packet.next_header() == IpProtocol::Udp;
    if packet.src_addr() != GUEST && !is_dhcp {
        return None;
    }
    match packet.next_header() {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(packet.payload()).ok()?;
            if !segment.syn() || segment.ack() {
                return Some(Meaning::Stack);
            }
            let to = SocketAddrV4::new(to, segment.dst_port());
            Some(Meaning::Open { from: segment.src_port(), to })
        }
        IpProtocol::Udp if !packet.more_frags() && packet.frag_offset() == 0 => {
            let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
            Some(Meaning::Datagram {
                from: SocketAddrV4::new(packet.src_addr(), datagram.src_port()),
                to: SocketAddrV4::new(to, datagram.dst_port()),
                payload: datagram.payload().to_vec(),
            })
        }
        // The gateway answers a ping; a stack that takes every address for its own would answer
        // for all the world.
        IpProtocol::Icmp if to == GATEWAY || to == NAME_SERVER => Some(Meaning::Stack),
        _ => None,
    }
}

/// A frame that carries a datagram to the guest; `None` when it is too long for one.
pub(super) fn datagram(
    guest: EthernetAddress,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let ip = Ipv4Repr {
        src_addr: *from.ip(),
        dst_addr: *to.ip(),
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + payload.len(),
        hop_limit: 64,
    };
    if ip.payload_len + ip.buffer_len() > super::stack::MTU {
        return None;
    }
    let mut bytes = ethernet(guest, EthernetProtocol::Ipv4, ip.buffer_len() + ip.payload_len);
    let checksums = ChecksumCapabilities::default();
    let rest = &mut bytes[EthernetFrame::<&[u8]>::header_len()..];
    let mut packet = Ipv4Packet::new_unchecked(rest);
    ip.emit(&mut packet, &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &IpAddress::Ipv4(*from.ip()),
        &IpAddress::Ipv4(*to.ip()),
        payload.len(),
        |target| target.copy_from_slice(payload),
        &checksums,
    );
    Some(bytes)
}

fn ethernet(to: EthernetAddress, ethertype: EthernetProtocol, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; EthernetFrame::<&[u8]>::header_len() + length];
    let header = EthernetRepr { src_addr: MAC, dst_addr: to, ethertype };
    header.emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
    bytes
}

/// The hardware address that a frame comes from.
pub(super) fn sender(frame: &[u8]) -> Option<EthernetAddress> {
    Some(EthernetFrame::new_checked(frame).ok()?.src_addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_read_as_it_was_made() {
        let (from, to) = (SocketAddrV4::new(GUEST, 1234), SocketAddrV4::new(NAME_SERVER, 53));
        let mut bytes = datagram(MAC, from, to, b"question").unwrap();
        let expect = Meaning::Datagram { from, to, payload: b"question".to_vec() };
        assert_eq!(read(&bytes), expect);
        // Cut short or from elsewhere, it means nothing.
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), Meaning::Nothing, "{length}");
        }
        let elsewhere = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 16), 1234);
        assert_eq!(read(&datagram(MAC, elsewhere, to, b"x").unwrap()), Meaning::Nothing);
        bytes[12] = 0x86;
        assert_eq!(read(&bytes), Meaning::Nothing);
        assert!(datagram(MAC, from, to, &[0; 70_000]).is_none());
    }
}
