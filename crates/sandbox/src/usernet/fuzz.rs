//! Hostile frames and datagrams of the guest.

use super::policy::Policy;
use super::stack::{Shared, run};
use super::{GUEST, NAME_SERVER, dhcp, frame};
use crate::network::NetworkMode;
use fuzz_driver::Target;
use smoltcp::wire::{EthernetAddress, EthernetFrame, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket};
use std::net::SocketAddrV4;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[test]
fn fuzz_dhcp() {
    let words: &[&[u8]] =
        &[b"\x63\x82\x53\x63", b"\x35\x01\x01", b"\x35\x01\x03", b"\xff", b"\x37"];
    Target::new("dhcp").words(words).run(|input| {
        if let Some(answer) = dhcp::answer(input) {
            assert!(answer.len() < 1024);
        }
    });
}

/// Gives a frame the checksums that it should have, so that what lies behind them is reached.
fn with_checksums(bytes: &mut [u8]) {
    let Ok(mut ethernet) = EthernetFrame::new_checked(bytes) else { return };
    let Ok(mut packet) = Ipv4Packet::new_checked(ethernet.payload_mut()) else { return };
    packet.fill_checksum();
    let (from, to, protocol) = (packet.src_addr(), packet.dst_addr(), packet.next_header());
    let (from, to) = (from.into(), to.into());
    match protocol {
        IpProtocol::Tcp => {
            if let Ok(mut segment) = TcpPacket::new_checked(packet.payload_mut()) {
                segment.fill_checksum(&from, &to);
            }
        }
        IpProtocol::Udp => {
            if let Ok(mut datagram) = UdpPacket::new_checked(packet.payload_mut()) {
                datagram.fill_checksum(&from, &to);
            }
        }
        _ => {}
    }
}

#[test]
fn fuzz_frame() {
    lengths_of_datagrams_at_their_limits();
    Target::new("frame").max_input(2048).run(|input| {
        let mut bytes = input.to_vec();
        with_checksums(&mut bytes);
        if let frame::Meaning::Datagram { from, to, payload } = frame::read(&bytes) {
            assert!(*from.ip() == GUEST || from.ip().is_unspecified());
            let back = frame::datagram(EthernetAddress::BROADCAST, to, from, &payload);
            assert!(back.iter().all(|back| back.len() <= super::stack::MTU + 14));
        }
        let _ = frame::sender(&bytes);
    });
}

/// Whole conversations on the network link: frames as QEMU hands them over, one after the other, in a mode
/// that lets nothing out.
#[test]
fn fuzz_link() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Target::new("link").max_input(8192).run(|input| {
        runtime.block_on(async {
            let (ours, mut qemus) = tokio::io::duplex(1 << 20);
            let budget = crate::budget::Budget::new(&crate::limits::Limits::default());
            let shared = Shared::new(Policy::new(NetworkMode::MountsOnly, None), budget);
            let stack = tokio::spawn(run(ours, shared));
            // Two bytes of length each, for the input; four, as QEMU writes them.
            let mut rest = input;
            while let [high, low, after @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
                let mut bytes = after[..length].to_vec();
                with_checksums(&mut bytes);
                qemus.write_all(&(bytes.len() as u32).to_be_bytes()).await.unwrap();
                qemus.write_all(&bytes).await.unwrap();
                rest = &after[length..];
            }
            qemus.shutdown().await.unwrap();
            let mut answers = Vec::new();
            let _ = qemus.read_to_end(&mut answers).await;
            let ended = stack.await;
            assert!(ended.is_ok(), "{ended:?}");
        });
    });
}

/// Payloads at the limits of a datagram and beyond.
fn lengths_of_datagrams_at_their_limits() {
    let (from, to) = (SocketAddrV4::new(NAME_SERVER, 53), SocketAddrV4::new(GUEST, 1024));
    for (length, n_frames) in [(0, 1), (1, 1), (1472, 1), (1473, 2), (65_507, 45), (65_508, 0)] {
        let made = frame::datagram(EthernetAddress::BROADCAST, from, to, &vec![1; length]);
        assert_eq!(made.len(), n_frames, "{length}");
        let mut n_bytes = 0;
        for mut bytes in made {
            assert!(bytes.len() <= super::stack::MTU + 14);
            let mut ethernet = EthernetFrame::new_checked(&mut bytes[..]).unwrap();
            let packet = Ipv4Packet::new_checked(ethernet.payload_mut()).unwrap();
            assert!(packet.verify_checksum());
            assert_eq!(usize::from(packet.frag_offset()), n_bytes);
            n_bytes += usize::from(packet.total_len()) - usize::from(packet.header_len());
        }
        assert!(n_frames == 0 || n_bytes == length + 8, "{length}: {n_bytes}");
    }
}
