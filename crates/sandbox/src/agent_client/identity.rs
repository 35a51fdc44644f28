//! Makes a copy of a machine a machine of its own: the agent gets what no other copy has.

use super::clock::unix_nanos;
use super::{AgentClient, Wire, resync};
use crate::error::{Error, Result};
use crate::secret;
use agent_protocol::{IdentityRequest, paths};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::time::Duration;

/// How long the agent may take to become another.
const TIME: Duration = Duration::from_secs(20);
/// Random bytes for the guest's kernel.
const N_ENTROPY: usize = 64;

impl AgentClient {
    /// Speaks with the agent of a copied machine, which knows the token of the machine that it was
    /// copied from. Gives a client only once the agent has confirmed that it is another now.
    pub(crate) async fn of_copy(
        stream: tokio::net::UnixStream,
        old_token: &str,
        new_token: &str,
        window: u32,
    ) -> Result<Self> {
        let stream = Arc::new(resync::Stream::open_copy(stream, old_token, window).await?);
        let old = Self::new(Wire::Stream(Arc::clone(&stream)), old_token);
        let body = serde_json::to_vec(&identity(new_token)?).unwrap_or_default();
        let silent = Err(Error::GuestSilent { timeout: TIME });
        tokio::time::timeout(TIME, old.ask(paths::IDENTITY, body)).await.unwrap_or(silent)?;
        stream.renew(new_token);
        Ok(Self::new(Wire::Stream(stream), new_token))
    }
}

/// What no other copy has.
fn identity(token: &str) -> Result<IdentityRequest> {
    let mut entropy = [0; N_ENTROPY];
    let [mut machine, mut boot] = [[0; 16]; 2];
    let mut mac = [0; 6];
    for bytes in [&mut entropy[..], &mut machine, &mut boot, &mut mac] {
        secret::fill(bytes)?;
    }
    // RFC 9562, section 5.4: a UUID of random bits says so; `machine-id(5)` asks for one as well.
    for id in [&mut machine, &mut boot] {
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
    }
    // IEEE 802: administered by whoever runs the network, and of one device.
    mac[0] = mac[0] & !1 | 2;
    let [a, b, c, d, e] = [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| hex::encode(&boot[part]));
    Ok(IdentityRequest {
        token: token.to_owned(),
        entropy_base64: STANDARD.encode(entropy),
        unix_nanos: unix_nanos(),
        machine_id: hex::encode(machine),
        boot_id: [a, b, c, d, e].join("-"),
        mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_whole_and_never_the_same() {
        let token = "0123456789abcdef".repeat(4);
        let [one, two] = [identity(&token).unwrap(), identity(&token).unwrap()];
        for identity in [&one, &two] {
            assert_eq!(identity.check().unwrap().len(), N_ENTROPY);
            assert_eq!(&identity.machine_id[12..13], "4");
        }
        assert_ne!(one.machine_id, two.machine_id);
        assert_ne!(one.boot_id, two.boot_id);
        assert_ne!(one.mac, two.mac);
        assert_ne!(one.entropy_base64, two.entropy_base64);
    }
}
