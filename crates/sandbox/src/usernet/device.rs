//! The network link as smoltcp's device: frames read from QEMU, and the queues of frames on their way.
//!
//! Bounds what the guest sends: a frame that is longer than an Ethernet frame is skipped, and whoever
//! sends what QEMU itself never would is not followed any further.

use super::stack::MTU;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use std::collections::VecDeque;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::mpsc;

/// Bytes of a frame: the packet behind its header, with a VLAN's tag.
const MAX_FRAME: u32 = MTU as u32 + 14 + 4;
/// The longest frame that QEMU may hand over.
const MAX_LENGTH: u32 = 65_536 + 14 + 4;
/// Frames that wait for the guest.
const MAX_WAITING: usize = 512;

/// Reads QEMU's frames: a length of four bytes, then the frame.
pub(super) async fn read_frames<R: AsyncRead + Unpin>(reader: R, frames: mpsc::Sender<Vec<u8>>) {
    let mut reader = BufReader::with_capacity(256 << 10, reader);
    loop {
        let Ok(length) = reader.read_u32().await else { return };
        if length > MAX_LENGTH {
            return;
        }
        if length > MAX_FRAME {
            let mut skipped = (&mut reader).take(u64::from(length));
            match tokio::io::copy(&mut skipped, &mut tokio::io::sink()).await {
                Ok(n_bytes) if n_bytes == u64::from(length) => continue,
                _ => return,
            }
        }
        let mut bytes = vec![0; length as usize];
        if reader.read_exact(&mut bytes).await.is_err() || frames.send(bytes).await.is_err() {
            return;
        }
    }
}

/// The frames on their way.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) incoming: VecDeque<Vec<u8>>,
    pub(super) outgoing: VecDeque<Vec<u8>>,
}

impl Device for Queues {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Incoming(frame), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        (self.outgoing.len() < MAX_WAITING).then_some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU + 14;
        capabilities
    }
}

pub(super) struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

pub(super) struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push_back(frame);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_frame_is_skipped_and_an_impossible_one_ends_the_reading() {
        let mut wire = Vec::new();
        let mut put = |length: u32| {
            wire.extend(length.to_be_bytes());
            wire.extend(vec![length as u8; length as usize]);
        };
        for length in [60, 1518, 1519, 65_550, 61] {
            put(length);
        }
        wire.extend((MAX_LENGTH + 1).to_be_bytes());
        wire.extend([0; 100]);
        let (sender, mut frames) = mpsc::channel(8);
        read_frames(&wire[..], sender).await;
        let mut lengths = Vec::new();
        while let Some(frame) = frames.recv().await {
            lengths.push(frame.len());
        }
        assert_eq!(lengths, [60, 1518, 61]);
    }
}
