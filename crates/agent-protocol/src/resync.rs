//! How a host and an agent find each other again on a byte stream without connections: after the
//! guest went back in time, and after the HTTP/2 connection on the stream has broken.
//!
//! The peers may disagree about everything that is still on its way. The host sends a request; the
//! agent ends the connection that it believes in, sends [`answer`], and begins a new connection with
//! the next byte. The host throws away all that comes before the answer: nobody can guess the number
//! in it, so nothing else can be taken for it.
//!
//! In the other direction the stream carries files and input that strangers wrote. The request
//! therefore begins with a marker that is derived from the machine's token ([`Secret`]), which no
//! data knows, and the agent looks for it at every offset of the stream ([`Scanner`]). A program of
//! the guest that can read the token is root there, and then the agent is its own to stop anyway.
//!
//! Agents before this protocol (those whose ping does not say [`VERSION`]) look for a fixed word at
//! the start of each read instead; [`unkeyed_request`] is for them alone.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What the agent's ping says when it takes requests with a marker.
pub const VERSION: u32 = 2;
/// What the agent's answer starts with, and the requests to agents of earlier releases.
const MAGIC: [u8; 8] = *b"QSRESYNC";
/// Bytes of the number that only this request has.
pub const NONCE_LEN: usize = 16;
/// Bytes of the marker, and of the tag at the end.
const MARKER_LEN: usize = 16;
/// Bytes of the host's message.
pub const REQUEST_LEN: usize = MARKER_LEN + NONCE_LEN + 8 + MARKER_LEN;
/// Bytes of the host's message to agents of earlier releases.
pub const UNKEYED_REQUEST_LEN: usize = MAGIC.len() + NONCE_LEN + 8;
/// Bytes of the agent's message.
pub const ANSWER_LEN: usize = MAGIC.len() + NONCE_LEN;

/// The host's request to begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// A random number, which also stirs the guest's generator: it may have gone back in time with
    /// the rest.
    pub nonce: [u8; NONCE_LEN],
    /// The host's clock: nanoseconds since 1970, to which the guest's is set.
    pub unix_nanos: u64,
}

/// What the host and the agent of one machine know and no data does.
#[derive(Clone)]
pub struct Secret {
    key: [u8; 32],
    marker: [u8; MARKER_LEN],
}

impl Secret {
    /// Derives the secret from the machine's token.
    pub fn new(token: &[u8]) -> Self {
        let key = mac(token, &[b"quicksand resync"]);
        Self { key, marker: first(mac(&key, &[b"marker"])) }
    }

    /// The host's message.
    pub fn request(&self, request: &Request) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        let (marker, rest) = bytes.split_at_mut(MARKER_LEN);
        marker.copy_from_slice(&self.marker);
        let (nonce, rest) = rest.split_at_mut(NONCE_LEN);
        nonce.copy_from_slice(&request.nonce);
        let (nanos, tag) = rest.split_at_mut(8);
        nanos.copy_from_slice(&request.unix_nanos.to_le_bytes());
        tag.copy_from_slice(&self.tag(request));
        bytes
    }

    /// Reads a message that begins with the marker. A message that was cut off, and followed by
    /// something else, fails its tag.
    fn parse(&self, bytes: &[u8; REQUEST_LEN]) -> Option<Request> {
        let rest = bytes.strip_prefix(&self.marker)?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (nanos, tag) = rest.split_first_chunk()?;
        let request = Request { nonce: *nonce, unix_nanos: u64::from_le_bytes(*nanos) };
        (tag == self.tag(&request)).then_some(request)
    }

    fn tag(&self, request: &Request) -> [u8; MARKER_LEN] {
        first(mac(&self.key, &[b"request", &request.nonce, &request.unix_nanos.to_le_bytes()]))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn first(bytes: [u8; 32]) -> [u8; MARKER_LEN] {
    std::array::from_fn(|index| bytes[index])
}

/// What a [`Scanner`] found in the bytes that it was given.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// Nothing but data of the connection.
    Data,
    /// A request has begun; these bytes belong to it or lie before it. The connection is over.
    Begun,
    /// A request is whole. The connection is over, and these bytes, which came after the request,
    /// are the start of the next one.
    Request(Request, Vec<u8>),
}

/// Looks for requests in a stream that arrives in portions of any size.
///
/// Data is never held back: what a portion has at its end may be the start of a marker, and is
/// remembered, but it is data until the marker is whole.
#[derive(Debug)]
pub struct Scanner {
    secrets: Vec<Secret>,
    /// The last bytes of the data so far, fewer than a marker has; or, once a marker was found,
    /// everything from it on.
    kept: Vec<u8>,
    begun: bool,
}

impl Scanner {
    /// A scanner for the requests of these hosts; usually there is one.
    pub fn new(secrets: Vec<Secret>) -> Self {
        Self { secrets, kept: Vec::new(), begun: false }
    }

    /// Looks at the next portion of the stream.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        if self.begun {
            self.kept.extend_from_slice(bytes);
            return self.complete();
        }
        // A marker may lie across two portions.
        let n_kept = self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(MARKER_LEN - 1)]);
        if let Some(at) = self.find(&self.kept) {
            self.kept.drain(..at);
            self.kept.extend_from_slice(bytes.get(MARKER_LEN - 1..).unwrap_or_default());
            return self.complete();
        }
        if let Some(at) = self.find(bytes) {
            self.kept.clear();
            self.kept.extend_from_slice(&bytes[at..]);
            return self.complete();
        }
        if bytes.len() >= MARKER_LEN - 1 {
            self.kept.clear();
            self.kept.extend_from_slice(&bytes[bytes.len() - (MARKER_LEN - 1)..]);
        } else {
            let excess = (n_kept + bytes.len()).saturating_sub(MARKER_LEN - 1);
            self.kept.drain(..excess);
        }
        Scan::Data
    }

    /// Forgets what came so far: the stream begins anew.
    pub fn reset(&mut self) {
        self.kept.clear();
        self.begun = false;
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        self.secrets.iter().filter_map(|secret| memchr::memmem::find(bytes, &secret.marker)).min()
    }

    /// Reads the request at the start of what is kept. One whose tag is wrong was cut off, and the
    /// next marker counts.
    fn complete(&mut self) -> Scan {
        self.begun = true;
        while let Some(message) = self.kept.first_chunk() {
            if let Some(request) = self.secrets.iter().find_map(|secret| secret.parse(message)) {
                let rest = self.kept.split_off(REQUEST_LEN);
                self.reset();
                return Scan::Request(request, rest);
            }
            match self.find(&self.kept[1..]) {
                Some(at) => drop(self.kept.drain(..=at)),
                None => {
                    self.begun = false;
                    let excess = self.kept.len().saturating_sub(MARKER_LEN - 1);
                    self.kept.drain(..excess);
                    return Scan::Begun;
                }
            }
        }
        Scan::Begun
    }
}

/// The host's message to an agent of an earlier release, which sees it at the start of a read only.
pub fn unkeyed_request(request: &Request) -> [u8; UNKEYED_REQUEST_LEN] {
    let mut bytes = [0; UNKEYED_REQUEST_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..8 + NONCE_LEN].copy_from_slice(&request.nonce);
    bytes[8 + NONCE_LEN..].copy_from_slice(&request.unix_nanos.to_le_bytes());
    bytes
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

    const REQUEST: Request = Request { nonce: [7; NONCE_LEN], unix_nanos: 1 << 60 };

    /// Feeds a stream in portions; gives how many bytes were data, and the request with the bytes
    /// that follow it.
    fn scan(stream: &[u8], portion: usize) -> (usize, Option<(Request, Vec<u8>)>) {
        let mut scanner = Scanner::new(vec![Secret::new(b"other"), Secret::new(b"token")]);
        let mut n_data = 0;
        let mut portions = stream.chunks(portion);
        while let Some(bytes) = portions.next() {
            match scanner.scan(bytes) {
                Scan::Data => n_data += bytes.len(),
                Scan::Begun => {}
                Scan::Request(request, mut rest) => {
                    portions.for_each(|bytes| rest.extend_from_slice(bytes));
                    return (n_data, Some((request, rest)));
                }
            }
        }
        (n_data, None)
    }

    #[test]
    fn a_request_is_found_at_every_offset_and_in_every_portion() {
        let message = Secret::new(b"token").request(&REQUEST);
        for n_before in [0, 1, 2, 14, 15, 16, 17, 31, 40] {
            let stream = [&vec![message[0]; n_before][..], &message, b"rest"].concat();
            for portion in 1..=stream.len() {
                let (n_data, found) = scan(&stream, portion);
                assert_eq!(found, Some((REQUEST, b"rest".to_vec())), "{n_before} by {portion}");
                assert!(n_data < n_before + MARKER_LEN);
            }
        }
    }

    #[test]
    fn the_words_that_once_ended_a_connection_are_data() {
        let unkeyed = unkeyed_request(&REQUEST);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0";
        for word in
            [&unkeyed[..], preface, &answer(&REQUEST.nonce), &Secret::new(b"x").request(&REQUEST)]
        {
            for shift in 0..word.len() {
                let data = [&vec![0; shift][..], &word.repeat(20)].concat();
                for portion in [1, 7, 8, 16, 64, 512, 4096] {
                    assert_eq!(scan(&data, portion), (data.len(), None));
                }
            }
        }
    }

    #[test]
    fn a_request_that_was_cut_off_does_not_hide_the_next_one() {
        let message = Secret::new(b"token").request(&REQUEST);
        let cut = Secret::new(b"token").request(&Request { nonce: [9; NONCE_LEN], ..REQUEST });
        for length in 0..REQUEST_LEN {
            let stream = [b"data", &cut[..length], &message, b"rest"].concat();
            for portion in [1, 5, 16, 17, 56, 1000] {
                let (_, found) = scan(&stream, portion);
                assert_eq!(
                    found,
                    Some((REQUEST, b"rest".to_vec())),
                    "cut at {length} by {portion}"
                );
            }
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new(b"token")), "Secret");
        assert!(!Secret::new(b"token").request(&REQUEST).windows(5).any(|w| w == b"token"));
    }
}
