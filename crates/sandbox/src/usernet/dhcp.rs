//! The one lease: images that configure their network themselves get the address that others have
//! without asking. <https://www.rfc-editor.org/rfc/rfc2131>

use super::{GATEWAY, GUEST, NAME_SERVER};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr};
use std::net::Ipv4Addr;

/// The server's port; the client's is the next.
pub(super) const PORT: u16 = 67;
/// Seconds that a lease lasts: longer than most machines.
const LEASE: u32 = 86_400;

/// The answer to a message of the guest.
pub(super) fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let asked = DhcpRepr::parse(&packet).ok()?;
    let message_type = match asked.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => DhcpMessageType::Ack,
        _ => return None,
    };
    let lease = DhcpRepr {
        message_type,
        transaction_id: asked.transaction_id,
        secs: 0,
        client_hardware_address: asked.client_hardware_address,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: GUEST,
        server_ip: GATEWAY,
        router: Some(GATEWAY),
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(GATEWAY),
        parameter_request_list: None,
        dns_servers: Some([NAME_SERVER].into_iter().collect()),
        max_size: None,
        lease_duration: Some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; lease.buffer_len()];
    lease.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::EthernetAddress;

    #[test]
    fn dhcp_answers_every_request_with_the_one_address() {
        let asked = DhcpRepr {
            message_type: DhcpMessageType::Discover,
            transaction_id: 77,
            secs: 0,
            client_hardware_address: EthernetAddress([2, 0, 0, 0, 0, 1]),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: true,
            requested_ip: None,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut message = vec![0; asked.buffer_len()];
        asked.emit(&mut DhcpPacket::new_unchecked(&mut message[..])).unwrap();
        let bytes = answer(&message).unwrap();
        let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
        let lease = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(lease.message_type, DhcpMessageType::Offer);
        assert_eq!((lease.transaction_id, lease.your_ip), (77, GUEST));
        assert_eq!(lease.dns_servers.unwrap()[..], [NAME_SERVER]);
        // A reply is ignored, and so is a message that was cut.
        assert!(answer(&bytes).is_none());
        assert!(answer(&message[..message.len() / 2]).is_none());
    }
}
