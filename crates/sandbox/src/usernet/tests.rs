//! The whole network against a guest that is made of frames: what it sends on purpose, no kernel
//! would.

use super::policy::AllowList;
use super::*;
use crate::limits::Limits;
use crate::network::NetworkMode;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet, IpAddress,
    IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, TcpSeqNumber, UdpPacket, UdpRepr,
};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const FAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9);

/// The guest's end of the network link.
struct Link(UnixStream);

/// What the guest receives.
#[derive(Debug, PartialEq)]
enum Received {
    Icmp(u8, u8),
    SynAck(u16),
    Reset(u16),
    Datagram(Vec<u8>),
    Other,
}

fn net(mode: NetworkMode, allow: Option<&[String]>, descriptors: u16) -> (UserNet, Link) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let allow = allow.map(|entries| AllowList::parse(entries).unwrap());
    let budget = Budget::new(&Limits::default().with_descriptors(descriptors));
    (UserNet::start(ours, Policy::new(mode, allow), budget), Link(theirs))
}

impl Link {
    async fn send(&mut self, frame: &[u8]) {
        self.0.write_u32(frame.len() as u32).await.unwrap();
        self.0.write_all(frame).await.unwrap();
    }

    /// The next packet for the guest; `None` when there is nothing for a while.
    async fn packet(&mut self) -> Option<Vec<u8>> {
        loop {
            let reading = async {
                let length = self.0.read_u32().await.unwrap();
                let mut frame = vec![0; length as usize];
                self.0.read_exact(&mut frame).await.unwrap();
                frame
            };
            let frame = tokio::time::timeout(Duration::from_secs(2), reading).await.ok()?;
            let frame = EthernetFrame::new_checked(&frame[..]).unwrap();
            if frame.ethertype() == EthernetProtocol::Arp {
                self.answer_arp(frame.payload()).await;
                continue;
            }
            return Some(frame.payload().to_vec());
        }
    }

    /// The next thing that the guest receives; `None` when there is nothing for a while.
    async fn received(&mut self) -> Option<Received> {
        let packet = self.packet().await?;
        let packet = Ipv4Packet::new_checked(&packet[..]).unwrap();
        Some(match packet.next_header() {
            IpProtocol::Icmp => {
                let message = Icmpv4Packet::new_checked(packet.payload()).unwrap();
                Received::Icmp(message.msg_type().into(), message.msg_code())
            }
            IpProtocol::Tcp => {
                let segment = TcpPacket::new_checked(packet.payload()).unwrap();
                match (segment.syn(), segment.rst()) {
                    (true, _) => Received::SynAck(segment.dst_port()),
                    (_, true) => Received::Reset(segment.dst_port()),
                    _ => Received::Other,
                }
            }
            IpProtocol::Udp => {
                let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
                Received::Datagram(datagram.payload().to_vec())
            }
            _ => Received::Other,
        })
    }

    /// The next segment for the guest: its sequence number, and how much it carries.
    async fn segment(&mut self) -> Option<(TcpSeqNumber, usize)> {
        let packet = self.packet().await?;
        let packet = Ipv4Packet::new_checked(&packet[..]).unwrap();
        let segment = TcpPacket::new_checked(packet.payload()).unwrap();
        Some((segment.seq_number(), segment.payload().len()))
    }

    async fn answer_arp(&mut self, payload: &[u8]) {
        use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr};
        let asked = ArpRepr::parse(&ArpPacket::new_checked(payload).unwrap()).unwrap();
        let ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, .. } = asked else {
            return;
        };
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: MAC,
            source_protocol_addr: GUEST,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        let mut frame = vec![0; 14 + reply.buffer_len()];
        let header = EthernetRepr {
            src_addr: MAC,
            dst_addr: source_hardware_addr,
            ethertype: EthernetProtocol::Arp,
        };
        header.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
        reply.emit(&mut ArpPacket::new_unchecked(&mut frame[14..]));
        self.send(&frame).await;
    }
}

fn frame(to: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: GUEST,
        dst_addr: to,
        next_header: protocol,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut frame = vec![0; 34 + payload.len()];
    let ethertype = EthernetProtocol::Ipv4;
    let header = EthernetRepr { src_addr: MAC, dst_addr: EthernetAddress::BROADCAST, ethertype };
    header.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    packet.payload_mut().copy_from_slice(payload);
    frame
}

/// A segment with one flag: `S`YN or `R`ST.
fn segment(from: u16, to: SocketAddrV4, flag: char) -> Vec<u8> {
    let mut bytes = [0; 20];
    let mut segment = TcpPacket::new_unchecked(&mut bytes[..]);
    segment.set_src_port(from);
    segment.set_dst_port(to.port());
    segment.set_seq_number(TcpSeqNumber(if flag == 'S' { 1000 } else { 1001 }));
    segment.set_header_len(20);
    segment.set_window_len(1000);
    segment.set_syn(flag == 'S');
    segment.set_rst(flag == 'R');
    segment.fill_checksum(&IpAddress::Ipv4(GUEST), &IpAddress::Ipv4(*to.ip()));
    frame(*to.ip(), IpProtocol::Tcp, &bytes)
}

fn datagram(from: u16, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: from, dst_port: to.port() };
    let mut bytes = vec![0; 8 + payload.len()];
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[..]),
        &IpAddress::Ipv4(GUEST),
        &IpAddress::Ipv4(*to.ip()),
        payload.len(),
        |target| target.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    frame(*to.ip(), IpProtocol::Udp, &bytes)
}

/// A server that counts its connections and keeps them.
async fn counting_server() -> (u16, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let sink = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            sink.lock().unwrap().push(stream);
        }
    });
    (port, taken)
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_not_dropped() {
    let (_net, mut link) = net(NetworkMode::MountsOnly, None, 64);
    let ping = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    for (frame, expect) in [
        (datagram(1, FAR, b"x"), Received::Icmp(3, 13)),
        (datagram(1, SocketAddrV4::new(NAME_SERVER, 54), b"x"), Received::Icmp(3, 3)),
        (segment(7, FAR, 'S'), Received::Reset(7)),
        (frame(*FAR.ip(), IpProtocol::Icmp, &ping), Received::Icmp(3, 13)),
        (frame(GATEWAY, IpProtocol::Icmp, &ping), Received::Icmp(0, 0)),
        (frame(*FAR.ip(), IpProtocol::from(132), &[0; 20]), Received::Icmp(3, 2)),
    ] {
        link.send(&frame).await;
        assert_eq!(link.received().await.unwrap(), expect);
    }
    // Questions are answered, whatever they are.
    let mut question = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x10\0\x01".to_vec();
    let names = SocketAddrV4::new(NAME_SERVER, 53);
    link.send(&datagram(2, names, &question)).await;
    let Some(Received::Datagram(answer)) = link.received().await else { panic!("no answer") };
    assert_eq!((answer[..2].to_vec(), answer[3] & 0xf), (vec![0xab, 0xcd], 5));
    question.truncate(15);
    link.send(&datagram(2, names, &question)).await;
    let Some(Received::Datagram(answer)) = link.received().await else { panic!("no complaint") };
    assert_eq!(answer[3] & 0xf, 1);
    link.send(&segment(9, names, 'S')).await;
    assert_eq!(link.received().await.unwrap(), Received::SynAck(9));
}

#[tokio::test]
async fn a_closed_port_of_a_partner_is_answered_with_port_unreachable() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap().port();
    drop(free);
    let allow = [format!("10.0.2.2:{closed}")];
    let (_net, mut link) = net(NetworkMode::Full, Some(&allow), 64);
    link.send(&datagram(1, SocketAddrV4::new(GATEWAY, closed), b"x")).await;
    assert_eq!(link.received().await.unwrap(), Received::Icmp(3, 3));
}

#[tokio::test]
async fn one_connection_is_one_however_often_it_is_begun() {
    let (port, taken) = counting_server().await;
    let allow = [format!("10.0.2.2:{port}")];
    let (net, mut link) = net(NetworkMode::Full, Some(&allow), 64);
    let to = SocketAddrV4::new(GATEWAY, port);
    for _ in 0..50 {
        link.send(&segment(1000, to, 'S')).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(link.received().await.unwrap(), Received::SynAck(1000));
    // A damaged beginning is nothing.
    let mut damaged = segment(1001, to, 'S');
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    link.send(&damaged).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(taken.lock().unwrap().len(), 1);
    // The guest gives it up; everything that it cost comes back.
    link.send(&segment(1000, to, 'R')).await;
    let whole = Limits::default().memory() as usize - Limits::default().wire() as usize;
    let begin = std::time::Instant::now();
    while net.budget().memory_left() < whole {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", net.budget().memory_left());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(net.budget().descriptors(64).is_some());
}

#[tokio::test]
async fn a_flood_of_beginnings_takes_the_guests_own_budget_and_gives_it_back() {
    let (port, taken) = counting_server().await;
    let allow = [format!("10.0.2.2:{port}")];
    let (net, mut link) = net(NetworkMode::Full, Some(&allow), 32);
    let to = SocketAddrV4::new(GATEWAY, port);
    let mut accepted = Vec::new();
    let mut n_refused = 0;
    for from in 2000..2400 {
        link.send(&segment(from, to, 'S')).await;
        match link.received().await.unwrap() {
            Received::SynAck(port) => accepted.push(port),
            Received::Reset(_) => n_refused += 1,
            received => panic!("{received:?}"),
        }
    }
    // An answer may have been repeated for one that the guest has not acknowledged.
    accepted.sort_unstable();
    accepted.dedup();
    assert!(accepted.len() <= 32 && n_refused >= 300, "{} {n_refused}", accepted.len());
    assert!(taken.lock().unwrap().len() <= 32);
    for from in accepted {
        link.send(&segment(from, to, 'R')).await;
    }
    let begin = std::time::Instant::now();
    while net.budget().descriptors(32).is_none() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    link.send(&segment(3000, to, 'S')).await;
    loop {
        match link.received().await.unwrap() {
            Received::SynAck(3000) => break,
            Received::SynAck(_) | Received::Other => {}
            received => panic!("{received:?}"),
        }
    }
}

/// A segment that says how far the guest has received, how much more it takes, and whether it will send more.
fn acknowledgment(
    to: SocketAddrV4,
    next: TcpSeqNumber,
    number: TcpSeqNumber,
    window: u16,
    is_last: bool,
) -> Vec<u8> {
    let mut bytes = segment(5000, to, 'A').split_off(34);
    let mut segment = TcpPacket::new_unchecked(&mut bytes[..]);
    segment.set_seq_number(next);
    segment.set_ack(true);
    segment.set_ack_number(number);
    segment.set_window_len(window);
    segment.set_fin(is_last);
    segment.fill_checksum(&IpAddress::Ipv4(GUEST), &IpAddress::Ipv4(*to.ip()));
    frame(*to.ip(), IpProtocol::Tcp, &bytes)
}

/// A guest that is sent 20,000 bytes and has said nothing of them yet.
struct Sent {
    _net: UserNet,
    link: Link,
    to: SocketAddrV4,
    /// The number of the first byte.
    first: TcpSeqNumber,
    /// The number of the guest's next byte.
    next: TcpSeqNumber,
    host: Option<TcpStream>,
}

impl Sent {
    async fn new() -> Self {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let (net, mut link) = net(NetworkMode::Full, Some(&[format!("10.0.2.2:{port}")]), 16);
        let to = SocketAddrV4::new(GATEWAY, port);
        link.send(&segment(5000, to, 'S')).await;
        let (syn, _) = link.segment().await.unwrap();
        let (mut host, _) = server.accept().await.unwrap();
        let next = TcpSeqNumber(1001);
        link.send(&acknowledgment(to, next, syn + 1, 20_000, false)).await;
        host.write_all(&[b'x'; 20_000]).await.unwrap();
        let mut n_bytes = 0;
        while n_bytes < 20_000 {
            n_bytes += link.segment().await.unwrap().1;
        }
        Self { _net: net, link, to, first: syn + 1, next, host: Some(host) }
    }

    async fn acknowledge(&mut self, number: TcpSeqNumber, window: u16) {
        self.link.send(&acknowledgment(self.to, self.next, number, window, false)).await;
    }

    /// Both ends have nothing more to send.
    async fn finish(&mut self) {
        let last = acknowledgment(self.to, self.next, self.first, 20_000, true);
        self.link.send(&last).await;
        self.next += 1;
        let mut host = self.host.take().unwrap();
        assert_eq!(host.read(&mut [0]).await.unwrap(), 0);
        drop(host);
        // Nothing shows when the stack has noticed it.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Waits until this byte is sent again.
    async fn sees_again(&mut self, byte: TcpSeqNumber) {
        let seeing = async {
            loop {
                if let Some((number, length)) = self.link.segment().await
                    && (number <= byte && byte < number + length)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seeing).await.expect("it is sent again");
    }
}

#[tokio::test]
async fn what_a_guest_without_memory_threw_away_is_sent_again() {
    let mut sent = Sent::new().await;
    // It has kept the first part alone, takes nothing, and later less than it threw away.
    let kept = sent.first + 1000;
    for window in [0, 5000] {
        sent.acknowledge(kept, window).await;
    }
    sent.sees_again(kept).await;
}

#[tokio::test]
async fn a_guest_that_takes_nothing_and_falls_silent_is_asked_again() {
    let mut sent = Sent::new().await;
    let kept = sent.first + 1000;
    // The last says nothing new but the window, and nothing says that it opens.
    for window in [20_000, 0] {
        sent.acknowledge(kept, window).await;
    }
    sent.sees_again(kept).await;
}

#[tokio::test]
async fn a_guest_that_is_slow_gets_what_was_sent_before_the_end() {
    let mut sent = Sent::new().await;
    sent.finish().await;
    let kept = sent.first + 1000;
    for window in [0, 5000] {
        sent.acknowledge(kept, window).await;
    }
    sent.sees_again(kept).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_guest_hears_that_connections_of_another_one_are_not_its_own() {
    let (net, mut link) = net(NetworkMode::MountsOnly, None, 64);
    net.break_off(&[(5000, FAR)], MAC.0);
    assert_eq!(link.received().await.unwrap(), Received::SynAck(5000));
    // It answers with what it last received, and believes a reset with that number alone.
    let received = TcpSeqNumber(4711);
    link.send(&acknowledgment(FAR, TcpSeqNumber(1001), received, 1000, false)).await;
    let packet = link.packet().await.unwrap();
    let packet = Ipv4Packet::new_checked(&packet[..]).unwrap();
    let segment = TcpPacket::new_checked(packet.payload()).unwrap();
    assert!(segment.rst());
    assert_eq!((packet.src_addr(), segment.seq_number()), (*FAR.ip(), received));
}

#[tokio::test]
async fn datagrams_are_bounded_and_long_ones_arrive() {
    let partner = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = partner.local_addr().unwrap().port();
    let allow = [format!("10.0.2.2:{port}")];
    let (_net, mut link) = net(NetworkMode::Full, Some(&allow), 16);
    let to = SocketAddrV4::new(GATEWAY, port);
    link.send(&datagram(5000, to, b"hello")).await;
    let mut buffer = [0; 100];
    let (length, peer) = partner.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"hello");
    partner.send_to(b"back", peer).await.unwrap();
    assert_eq!(link.received().await.unwrap(), Received::Datagram(b"back".to_vec()));
    // Sixteen partners at most; whoever is too many is told so.
    let mut n_refused = 0;
    for from in 5001..5100 {
        link.send(&datagram(from, to, b"flood")).await;
    }
    while let Some(received) = link.received().await {
        assert_eq!(received, Received::Icmp(3, 1));
        n_refused += 1;
    }
    assert!((84..99).contains(&n_refused), "{n_refused}");
}
