//! Makes a copy of a machine a machine of its own: the agent gets what no other copy has.

use super::clock::{is_precise, unix_nanos};
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

/// What distinguishes a machine from others, in its guest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    machine_id: String,
    boot_id: String,
    mac: [u8; 6],
}

impl AgentClient {
    /// Speaks with the agent of a copied machine, which knows the token of the machine that it was
    /// copied from. Gives a client only once the agent has confirmed that it is another now: the one of
    /// this identity where there is one, and otherwise one that nobody has been yet.
    pub(crate) async fn for_copy(
        stream: tokio::net::UnixStream,
        old_token: &str,
        new_token: &str,
        window: u32,
        identity: Option<Arc<Identity>>,
    ) -> Result<Self> {
        let stream = Arc::new(resync::Stream::open_copy(stream, old_token, window).await?);
        let old = Self::new(Wire::Stream(Arc::clone(&stream)), old_token);
        let identity = match identity {
            Some(identity) => identity,
            None => Arc::new(Identity::new()?),
        };
        let answer = old.become_machine(&identity, new_token).await?;
        stream.renew(new_token);
        let copy = Self { identity: Some(identity), ..Self::new(Wire::Stream(stream), new_token) };
        if !is_precise(&answer) {
            copy.set_clock().await;
        }
        Ok(copy)
    }

    /// Has the machine do what each of its forks does first: be found again, and become another one. Its token,
    /// which must be given, stays.
    #[cfg(target_os = "linux")]
    pub(crate) async fn rehearse_copy(&self, token: &str) -> Result<()> {
        self.resync().await?;
        self.become_machine(&Identity::new()?, token).await.map(drop)
    }

    async fn become_machine(&self, identity: &Identity, token: &str) -> Result<Vec<u8>> {
        let body = serde_json::to_vec(&identity.request(token)?).unwrap_or_default();
        let silent = Err(Error::GuestSilent { timeout: TIME });
        tokio::time::timeout(TIME, self.ask(paths::IDENTITY, body)).await.unwrap_or(silent)
    }
}

impl Identity {
    /// The hardware address of its network device.
    #[cfg(target_os = "linux")]
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// One that no other machine has.
    fn new() -> Result<Self> {
        let [mut machine, mut boot] = [[0; 16]; 2];
        let mut mac = [0; 6];
        for bytes in [&mut machine[..], &mut boot, &mut mac] {
            secret::fill(bytes)?;
        }
        // RFC 9562, section 5.4: a UUID of random bits says so; `machine-id(5)` asks for one as well.
        for id in [&mut machine, &mut boot] {
            id[6] = id[6] & 0x0f | 0x40;
            id[8] = id[8] & 0x3f | 0x80;
        }
        // IEEE 802: administered by whoever runs the network, and of one device.
        mac[0] = mac[0] & !1 | 2;
        let parts = [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| hex::encode(&boot[part]));
        Ok(Self { machine_id: hex::encode(machine), boot_id: parts.join("-"), mac })
    }

    /// Asks the agent to be this machine, with this token and with random numbers and a time of its own.
    fn request(&self, token: &str) -> Result<IdentityRequest> {
        let mut entropy = [0; N_ENTROPY];
        secret::fill(&mut entropy)?;
        Ok(IdentityRequest {
            token: token.to_owned(),
            entropy_base64: STANDARD.encode(entropy),
            unix_nanos: unix_nanos(),
            machine_id: self.machine_id.clone(),
            boot_id: self.boot_id.clone(),
            mac: self.mac,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_whole_and_never_the_same() {
        let token = "0123456789abcdef".repeat(4);
        let [one, two] = [Identity::new().unwrap(), Identity::new().unwrap()];
        for identity in [&one, &two] {
            assert_eq!(identity.request(&token).unwrap().check().unwrap().len(), N_ENTROPY);
            assert_eq!(&identity.machine_id[12..13], "4");
        }
        assert_ne!(one.machine_id, two.machine_id);
        assert_ne!(one.boot_id, two.boot_id);
        assert_ne!(one.mac, two.mac);
    }

    #[test]
    fn random_numbers_are_new_for_each_copy_of_the_same_machine() {
        let identity = Identity::new().unwrap();
        let token = "0123456789abcdef".repeat(4);
        let [one, two] = [identity.request(&token).unwrap(), identity.request(&token).unwrap()];
        assert_ne!(one.entropy_base64, two.entropy_base64);
        assert_eq!(one.machine_id, two.machine_id);
    }
}
