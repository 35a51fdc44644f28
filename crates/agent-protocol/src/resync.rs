//! How a host and an agent find each other again on a byte stream without connections, after the
//! guest went back in time.
//!
//! A restored agent believes in a connection that its host has long left, and what it has sent there
//! is still on its way. The host sends [`request`] in one write; the agent ends the connection that
//! it believes in, sends [`answer`], and begins anew with the next byte. The host throws away all that
//! comes before the answer: nobody can guess the number in it, so nothing else can be taken for it.

/// What both messages start with.
const MAGIC: [u8; 8] = *b"QSRESYNC";
/// Bytes of the number that only this request has.
pub const NONCE_LEN: usize = 16;
/// Bytes of the host's message.
pub const REQUEST_LEN: usize = MAGIC.len() + NONCE_LEN + 8;
/// Bytes of the agent's message.
pub const ANSWER_LEN: usize = MAGIC.len() + NONCE_LEN;

/// The host's wish to begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// A random number, which also stirs the guest's generator: it went back in time with the rest.
    pub nonce: [u8; NONCE_LEN],
    /// The host's clock: nanoseconds since 1970, to which the guest's is set.
    pub unix_nanos: u64,
}

/// The host's message.
pub fn request(request: &Request) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..8 + NONCE_LEN].copy_from_slice(&request.nonce);
    bytes[8 + NONCE_LEN..].copy_from_slice(&request.unix_nanos.to_le_bytes());
    bytes
}

/// Reads a host's message at the start of what arrived in one piece.
pub fn parse(bytes: &[u8]) -> Option<Request> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (nonce, rest) = rest.split_first_chunk()?;
    let (nanos, _) = rest.split_first_chunk()?;
    Some(Request { nonce: *nonce, unix_nanos: u64::from_le_bytes(*nanos) })
}

/// The agent's message.
pub fn answer(nonce: &[u8; NONCE_LEN]) -> [u8; ANSWER_LEN] {
    let mut bytes = [0; ANSWER_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(nonce);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_back_and_nothing_else_is() {
        let wish = Request { nonce: [7; NONCE_LEN], unix_nanos: 1 << 60 };
        let bytes = request(&wish);
        assert_eq!(parse(&bytes), Some(wish));
        assert_eq!(parse(&[&bytes[..], b"more"].concat()), Some(wish));
        assert_eq!(parse(&bytes[1..]), None);
        for end in 0..REQUEST_LEN {
            assert_eq!(parse(&bytes[..end]), None);
        }
        assert!(bytes.starts_with(&answer(&wish.nonce)));
    }
}
