//! How the requests of mounted shares travel: raw FUSE messages on a port of their own.
//!
//! Each message has a head that says how long it is and to which share it belongs: one port carries
//! all of them. What is inside is the business of the guest's kernel and of the host's server; the
//! agent passes it on unread. A message without content ends the share; one of [`ECHO`] bytes, which is
//! too short for FUSE, comes back once everything before it has been given to the guest's kernel.
//!
//! After the guest went back in time both sides begin anew as on the agent's own port
//! ([`crate::resync`]): the host's request and the guest's answer stand between two messages.

/// Name of the virtio-serial port.
pub const SHARE_PORT_NAME: &str = "quicksand.shares";
/// Bytes of a message's head.
pub const HEAD: usize = 8;
/// Bytes of a message that comes back as it is.
pub const ECHO: usize = 8;
/// The longest message, in bytes: a megabyte of data, and the kernel's own heads and names.
pub const MAX_SHARE_MESSAGE: usize = (1 << 20) + (64 << 10);

/// The head of a message: its length without the head, and the number of its share.
pub fn head(length: usize, share: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&(length as u32).to_le_bytes());
    head[4..].copy_from_slice(&share.to_le_bytes());
    head
}

/// A message at the start of what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// It is not whole yet: so many bytes must have arrived in all before it can be.
    Wanting(usize),
    /// One that is whole, the share that it belongs to, and how many bytes it takes.
    Message {
        /// The number of the share.
        share: u32,
        /// What is inside.
        content: &'a [u8],
        /// Its length with the head.
        length: usize,
    },
    /// It says that it is longer than any may be. Nothing that follows means anything.
    TooLong,
}

/// Reads the message at the start of what has arrived.
pub fn next(bytes: &[u8]) -> Next<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Next::Wanting(HEAD) };
    let [length, share] =
        [0, 4].map(|at| u32::from_le_bytes(std::array::from_fn(|index| head[at + index])));
    let length = length as usize;
    if length > MAX_SHARE_MESSAGE {
        return Next::TooLong;
    }
    match rest.get(..length) {
        Some(content) => Next::Message { share, content, length: HEAD + length },
        None => Next::Wanting(HEAD + length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_once_they_are_whole() {
        let bytes = [&head(3, 7)[..], b"abc", &head(0, 8)].concat();
        assert_eq!(next(&bytes[..5]), Next::Wanting(8));
        assert_eq!(next(&bytes[..10]), Next::Wanting(11));
        assert_eq!(next(&bytes), Next::Message { share: 7, content: b"abc", length: 11 });
        assert_eq!(next(&bytes[11..]), Next::Message { share: 8, content: b"", length: 8 });
        assert_eq!(next(&head(MAX_SHARE_MESSAGE + 1, 1)), Next::TooLong);
    }
}
