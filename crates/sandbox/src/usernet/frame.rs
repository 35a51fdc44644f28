//! Ethernet frames: what the stack needs to know of one, and the few that it makes itself.

#[cfg(target_os = "linux")]
use super::sockets::Key;
use super::{GATEWAY, GUEST, NAME_SERVER};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4Message, Icmpv4Packet, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    TCP_HEADER_LEN, TcpPacket, TcpSeqNumber, UdpPacket, UdpRepr,
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
    /// What is not carried; the sender gets an ICMP error with the start of its packet.
    Refuse { why: Unreachable, packet: Vec<u8> },
    /// Nothing that we answer.
    Nothing,
}

/// Why something does not get where the guest sends it: the codes of RFC 792 and RFC 1812 that a
/// program in the guest sees as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreachable {
    Host = 1,
    Protocol = 2,
    Port = 3,
    Prohibited = 13,
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
    let (ours, asker) = ((MAC, target_protocol_addr), (source_hardware_addr, source_protocol_addr));
    let reply = arp_of(ArpOperation::Reply, ours, asker);
    Some(Meaning::WhoHas { reply, address: target_protocol_addr })
}

fn ip(payload: &[u8]) -> Option<Meaning> {
    let packet = Ipv4Packet::new_checked(payload).ok()?;
    let to = packet.dst_addr();
    let is_dhcp = packet.src_addr().is_unspecified() && packet.next_header() == IpProtocol::Udp;
    if packet.src_addr() != GUEST && !is_dhcp {
        return None;
    }
    // No ICMP error answers what was sent to everybody.
    let is_single = !to.is_multicast() && !to.is_broadcast() && to.octets()[3] != 255;
    let is_first = packet.frag_offset() == 0;
    let refuse = |why| {
        let length = (usize::from(packet.header_len()) + 8).min(payload.len());
        let packet = payload[..length].to_vec();
        (is_single && is_first).then_some(Meaning::Refuse { why, packet })
    };
    // A fragment: this network puts nothing together, so that it says how much it carries.
    if packet.more_frags() || !is_first {
        return refuse(Unreachable::Prohibited);
    }
    match packet.next_header() {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(packet.payload()).ok()?;
            if !segment.syn() || segment.ack() {
                return Some(Meaning::Stack);
            }
            // The stack would not take such a segment, after the host has connected for it.
            let (source, target) = (IpAddress::Ipv4(GUEST), IpAddress::Ipv4(to));
            if !packet.verify_checksum() || !segment.verify_checksum(&source, &target) {
                return None;
            }
            let to = SocketAddrV4::new(to, segment.dst_port());
            Some(Meaning::Open { from: segment.src_port(), to })
        }
        IpProtocol::Udp => {
            let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
            Some(Meaning::Datagram {
                from: SocketAddrV4::new(packet.src_addr(), datagram.src_port()),
                to: SocketAddrV4::new(to, datagram.dst_port()),
                payload: datagram.payload().to_vec(),
            })
        }
        // The gateway answers a ping; a stack that takes every address for its own would answer
        // for all the world. Other messages are answers themselves, and nobody answers those.
        IpProtocol::Icmp if to == GATEWAY || to == NAME_SERVER => Some(Meaning::Stack),
        IpProtocol::Icmp => {
            let message = Icmpv4Packet::new_checked(packet.payload()).ok()?;
            let is_ping = message.msg_type() == Icmpv4Message::EchoRequest;
            if is_ping { refuse(Unreachable::Prohibited) } else { None }
        }
        IpProtocol::Igmp => None,
        _ => refuse(Unreachable::Protocol),
    }
}

/// What a segment of the guest says of how far it has received.
pub(super) struct Acknowledgment {
    /// The guest's port and the other end of the connection.
    pub from: u16,
    pub to: SocketAddrV4,
    /// The next byte that the guest waits for.
    number: TcpSeqNumber,
    /// Its receive window as it stands in the segment, unscaled.
    pub window: u16,
    /// The next byte that it will send.
    next: TcpSeqNumber,
    /// Whether the segment carries bytes, or an end of the connection.
    pub has_more: bool,
}

/// Reads an acknowledgment; `None` for anything else.
pub(super) fn read_acknowledgment(bytes: &[u8]) -> Option<Acknowledgment> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 || packet.next_header() != IpProtocol::Tcp {
        return None;
    }
    let segment = TcpPacket::new_checked(packet.payload()).ok()?;
    let is_acknowledgment = segment.ack() && !segment.syn() && !segment.rst();
    is_acknowledgment.then(|| Acknowledgment {
        from: segment.src_port(),
        to: SocketAddrV4::new(packet.dst_addr(), segment.dst_port()),
        number: segment.ack_number(),
        window: segment.window_len(),
        next: segment.seq_number() + segment.segment_len(),
        has_more: segment.segment_len() > 0,
    })
}

/// The frame by which the guest says the same, and nothing more.
pub(super) fn acknowledgment(said: &Acknowledgment) -> Vec<u8> {
    segment(MAC, SocketAddrV4::new(GUEST, said.from), said.to, |segment| {
        segment.set_seq_number(said.next);
        segment.set_ack_number(said.number);
        segment.set_ack(true);
        segment.set_window_len(said.window);
    })
}

/// A frame that asks the guest for a connection that it believes to have: it answers with what it last
/// received (RFC 5961, section 4).
#[cfg(target_os = "linux")]
pub(super) fn opening(guest: EthernetAddress, (port, from): Key) -> Vec<u8> {
    segment(guest, from, SocketAddrV4::new(GUEST, port), |segment| segment.set_syn(true))
}

/// A frame with a TCP segment without bytes.
fn segment(
    receiver: EthernetAddress,
    from: SocketAddrV4,
    to: SocketAddrV4,
    fill: impl FnOnce(&mut TcpPacket<&mut [u8]>),
) -> Vec<u8> {
    let mut bytes = [0; TCP_HEADER_LEN];
    let mut segment = TcpPacket::new_unchecked(&mut bytes[..]);
    segment.set_src_port(from.port());
    segment.set_dst_port(to.port());
    segment.set_header_len(TCP_HEADER_LEN as u8);
    fill(&mut segment);
    segment.fill_checksum(&IpAddress::Ipv4(*from.ip()), &IpAddress::Ipv4(*to.ip()));
    packet(receiver, *from.ip(), *to.ip(), IpProtocol::Tcp, &bytes)
}

/// The frames that carry a datagram to the guest: one, or fragments when it is longer.
pub(super) fn datagram(
    guest: EthernetAddress,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> Vec<Vec<u8>> {
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let mut whole = vec![0; udp.header_len() + payload.len()];
    if whole.len() > usize::from(u16::MAX) - 20 {
        return Vec::new();
    }
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut whole[..]),
        &IpAddress::Ipv4(*from.ip()),
        &IpAddress::Ipv4(*to.ip()),
        payload.len(),
        |target| target.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    // Offsets of fragments are counted in units of eight bytes.
    const PIECE: usize = (super::stack::MTU - 20) / 8 * 8;
    let ident = u16::from_be_bytes([whole[6], whole[7]]);
    let n_pieces = whole.len().div_ceil(PIECE);
    let pieces = whole.chunks(PIECE).enumerate().map(|(index, piece)| {
        let mut bytes = packet(guest, *from.ip(), *to.ip(), IpProtocol::Udp, piece);
        if n_pieces > 1 {
            let header = EthernetFrame::<&[u8]>::header_len();
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[header..]);
            packet.set_ident(ident);
            packet.set_dont_frag(false);
            packet.set_more_frags(index + 1 < n_pieces);
            packet.set_frag_offset((index * PIECE) as u16);
            packet.fill_checksum();
        }
        bytes
    });
    pieces.collect()
}

/// A frame that tells the guest that something of it does not get there: the start of its packet.
pub(super) fn unreachable(guest: EthernetAddress, why: Unreachable, start: &[u8]) -> Vec<u8> {
    let mut message = vec![3, why as u8, 0, 0, 0, 0, 0, 0];
    message.extend(start);
    Icmpv4Packet::new_unchecked(&mut message[..]).fill_checksum();
    packet(guest, GATEWAY, GUEST, IpProtocol::Icmp, &message)
}

/// The start of a datagram of the guest, for [`unreachable`].
pub(super) fn start_of_datagram(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut udp = [0; 8];
    let mut header = UdpPacket::new_unchecked(&mut udp[..]);
    header.set_src_port(from.port());
    header.set_dst_port(to.port());
    header.set_len(8);
    let frame = packet(MAC, *from.ip(), *to.ip(), IpProtocol::Udp, &udp);
    frame[EthernetFrame::<&[u8]>::header_len()..].to_vec()
}

/// A frame with one packet.
fn packet(
    guest: EthernetAddress,
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: IpProtocol,
    payload: &[u8],
) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: protocol,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut bytes = ethernet(guest, EthernetProtocol::Ipv4, ip.buffer_len() + payload.len());
    let rest = &mut bytes[EthernetFrame::<&[u8]>::header_len()..];
    let mut packet = Ipv4Packet::new_unchecked(rest);
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    packet.payload_mut().copy_from_slice(payload);
    bytes
}

/// The guest's answer to a question for its hardware address.
pub(super) fn introduction(guest: EthernetAddress) -> Vec<u8> {
    arp_of(ArpOperation::Reply, (guest, GUEST), (MAC, GATEWAY))
}

/// A question for the guest's hardware address, from which it learns the one of `from`.
#[cfg(target_os = "linux")]
pub(super) fn who_has_guest(guest: EthernetAddress, from: Ipv4Addr) -> Vec<u8> {
    arp_of(ArpOperation::Request, (MAC, from), (guest, GUEST))
}

fn arp_of(
    operation: ArpOperation,
    (source_hardware_addr, source_protocol_addr): (EthernetAddress, Ipv4Addr),
    (target_hardware_addr, target_protocol_addr): (EthernetAddress, Ipv4Addr),
) -> Vec<u8> {
    let packet = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    };
    let mut bytes = ethernet(target_hardware_addr, EthernetProtocol::Arp, packet.buffer_len());
    let header = EthernetFrame::<&[u8]>::header_len();
    packet.emit(&mut ArpPacket::new_unchecked(&mut bytes[header..]));
    bytes
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

    fn one(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
        let mut frames = datagram(MAC, from, to, payload);
        assert_eq!(frames.len(), 1);
        frames.remove(0)
    }

    #[test]
    fn a_datagram_is_read_as_it_was_made() {
        let (from, to) = (SocketAddrV4::new(GUEST, 1234), SocketAddrV4::new(NAME_SERVER, 53));
        let mut bytes = one(from, to, b"question");
        let expect = Meaning::Datagram { from, to, payload: b"question".to_vec() };
        assert_eq!(read(&bytes), expect);
        // Cut short or from elsewhere, it means nothing.
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), Meaning::Nothing, "{length}");
        }
        let elsewhere = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 16), 1234);
        assert_eq!(read(&one(elsewhere, to, b"x")), Meaning::Nothing);
        bytes[12] = 0x86;
        assert_eq!(read(&bytes), Meaning::Nothing);
        assert!(datagram(MAC, from, to, &[0; 70_000]).is_empty());
    }

    #[test]
    fn a_long_datagram_comes_in_pieces_that_fit() {
        let (from, to) = (SocketAddrV4::new(GATEWAY, 9), SocketAddrV4::new(GUEST, 1));
        let payload: Vec<u8> = (0..4000u32).map(|n| n as u8).collect();
        let mut whole = vec![0; 8 + payload.len()];
        let frames = datagram(MAC, from, to, &payload);
        assert_eq!(frames.len(), 3);
        for (index, frame) in frames.iter().enumerate() {
            assert!(frame.len() <= 1514);
            let frame = EthernetFrame::new_checked(&frame[..]).unwrap();
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            assert!(packet.verify_checksum());
            assert_eq!(packet.more_frags(), index < 2);
            let at = usize::from(packet.frag_offset());
            whole[at..at + packet.payload().len()].copy_from_slice(packet.payload());
        }
        let datagram = UdpPacket::new_checked(&whole[..]).unwrap();
        assert!(datagram.verify_checksum(&IpAddress::Ipv4(GATEWAY), &IpAddress::Ipv4(GUEST)));
        assert_eq!(datagram.payload(), payload);
    }

    #[test]
    fn what_is_not_carried_is_refused_and_nobody_answers_an_answer() {
        let outside = Ipv4Addr::new(192, 0, 2, 1);
        let made = |to, protocol, payload: &[u8]| packet(MAC, GUEST, to, protocol, payload);
        let why = |frame: &[u8]| match read(frame) {
            Meaning::Refuse { why, packet } => {
                assert_eq!(packet.len(), 28);
                Some(why)
            }
            Meaning::Nothing => None,
            other => panic!("{other:?}"),
        };
        let ping = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        let answer = [3, 1, 0, 0, 0, 0, 0, 0];
        let everybody = Ipv4Addr::new(224, 0, 0, 251);
        for (frame, expect) in [
            (made(outside, IpProtocol::Icmp, &ping), Some(Unreachable::Prohibited)),
            (made(outside, IpProtocol::Icmp, &answer), None),
            (made(outside, IpProtocol::from(132), &[0; 12]), Some(Unreachable::Protocol)),
            (made(everybody, IpProtocol::from(132), &[0; 12]), None),
            (made(everybody, IpProtocol::Igmp, &[0; 8]), None),
        ] {
            assert_eq!(why(&frame), expect);
        }
        let (from, to) = (SocketAddrV4::new(GUEST, 1), SocketAddrV4::new(outside, 2));
        let pieces = datagram(MAC, from, to, &[0; 3000]);
        let said: Vec<_> = pieces.iter().map(|piece| why(piece)).collect();
        assert_eq!(said, [Some(Unreachable::Prohibited), None, None]);

        let answer = unreachable(MAC, Unreachable::Port, &start_of_datagram(from, to));
        let frame = EthernetFrame::new_checked(&answer[..]).unwrap();
        let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
        let message = Icmpv4Packet::new_checked(packet.payload()).unwrap();
        assert!(packet.verify_checksum() && message.verify_checksum());
        assert_eq!((message.msg_type(), message.msg_code()), (Icmpv4Message::DstUnreachable, 3));
        assert_eq!(message.data().len(), 28);
    }

    #[test]
    fn the_start_of_a_connection_counts_when_its_sums_are_right() {
        let to = Ipv4Addr::new(192, 0, 2, 1);
        let mut segment = [0; 20];
        let mut header = TcpPacket::new_unchecked(&mut segment[..]);
        header.set_src_port(1000);
        header.set_dst_port(80);
        header.set_header_len(20);
        header.set_syn(true);
        header.fill_checksum(&IpAddress::Ipv4(GUEST), &IpAddress::Ipv4(to));
        let frame = packet(MAC, GUEST, to, IpProtocol::Tcp, &segment);
        let expect = Meaning::Open { from: 1000, to: SocketAddrV4::new(to, 80) };
        assert_eq!(read(&frame), expect);
        for at in [14 + 10, 14 + 20 + 16] {
            let mut frame = frame.clone();
            frame[at] ^= 1;
            assert_eq!(read(&frame), Meaning::Nothing, "{at}");
        }
    }
}
