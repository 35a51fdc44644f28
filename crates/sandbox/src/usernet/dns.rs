//! The name server at 10.0.2.3: questions for IPv4 addresses, answered by the host's own resolver.
//!
//! Owns as much of the format as that takes (<https://www.rfc-editor.org/rfc/rfc1035>). Other types of
//! records exist but have no entries here, which makes programs ask for addresses; names that the
//! policy keeps to itself do not exist.

use std::net::Ipv4Addr;
use std::time::Duration;

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const REFUSED: u8 = 5;
/// Seconds that an answer may be kept.
const TTL: u32 = 30;
const MAX_ADDRESSES: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The name, in lower case, without the last dot.
    pub name: String,
    wants_addresses: bool,
    /// The header's identity and the question as it was put, for the answer.
    id: [u8; 2],
    wants_recursion: bool,
    section: Vec<u8>,
}

/// What a question gets.
pub(super) enum Answer {
    /// Addresses; none when there is another kind of record only.
    Addresses(Vec<Ipv4Addr>),
    /// There is no such name.
    NoSuchName,
    /// The name server could not find out.
    Failed,
    /// This machine has no name server.
    Refused,
}

/// Reads a message with one plain question.
pub(super) fn parse(message: &[u8]) -> Option<Question> {
    let header = message.get(..HEADER)?;
    let is_query = header[2] & 0x80 == 0 && header[2] & 0x78 == 0;
    let n_questions = u16::from_be_bytes([header[4], header[5]]);
    if !is_query || n_questions != 1 {
        return None;
    }
    let mut at = HEADER;
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // A pointer has no place in a question.
        if length > 63 {
            return None;
        }
        let label = message.get(at..at + length)?;
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        if !label.iter().all(is_plain) || name.len() + length > 253 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        at += length;
    }
    let kind = message.get(at..at + 4)?;
    let (kind, class) = (u16::from_be_bytes([kind[0], kind[1]]), [kind[2], kind[3]]);
    Some(Question {
        name,
        wants_addresses: kind == TYPE_A && u16::from_be_bytes(class) == CLASS_IN,
        id: [header[0], header[1]],
        wants_recursion: header[2] & 1 == 1,
        section: message[HEADER..at + 4].to_vec(),
    })
}

/// Asks the host's resolver.
pub(super) async fn resolve(question: &Question) -> Answer {
    let lookup = tokio::net::lookup_host((question.name.as_str(), 0));
    let Ok(found) = tokio::time::timeout(PATIENCE, lookup).await else { return Answer::Failed };
    let Ok(found) = found else { return Answer::NoSuchName };
    if !question.wants_addresses {
        return Answer::Addresses(Vec::new());
    }
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    for address in found {
        if let std::net::IpAddr::V4(address) = address.ip()
            && !addresses.contains(&address)
            && addresses.len() < MAX_ADDRESSES
        {
            addresses.push(address);
        }
    }
    Answer::Addresses(addresses)
}

/// Writes the answer's message.
pub(super) fn message(question: &Question, answer: &Answer) -> Vec<u8> {
    let (code, addresses) = match answer {
        Answer::Addresses(addresses) => (NO_ERROR, &addresses[..]),
        Answer::NoSuchName => (NO_SUCH_NAME, &[][..]),
        Answer::Failed => (SERVER_FAILURE, &[][..]),
        Answer::Refused => (REFUSED, &[][..]),
    };
    let mut message = Vec::with_capacity(HEADER + question.section.len() + 16 * addresses.len());
    message.extend(question.id);
    message.extend([0x80 | u8::from(question.wants_recursion), 0x80 | code]);
    for count in [1, addresses.len() as u16, 0, 0] {
        message.extend(count.to_be_bytes());
    }
    message.extend(&question.section);
    for address in addresses {
        // The name is the question's: a pointer to it.
        message.extend([0xc0, HEADER as u8]);
        message.extend(TYPE_A.to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        message.extend(TTL.to_be_bytes());
        message.extend(4u16.to_be_bytes());
        message.extend(address.octets());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(labels: &[&str], kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_question_is_read_and_its_answer_written() {
        let question = parse(&query(&["WWW", "example", "com"], 1)).unwrap();
        assert_eq!(question.name, "www.example.com");
        let answer = Answer::Addresses(vec![Ipv4Addr::new(192, 0, 2, 1)]);
        let bytes = message(&question, &answer);
        assert_eq!(bytes[..8], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(bytes[bytes.len() - 4..], [192, 0, 2, 1]);
        assert_eq!(message(&question, &Answer::NoSuchName)[3], 0x83);
        assert!(!parse(&query(&["a"], 28)).unwrap().wants_addresses);
    }

    #[test]
    fn nonsense_is_no_question() {
        let good = query(&["a", "b"], 1);
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "{length}");
        }
        let mut answer = good.clone();
        answer[2] |= 0x80;
        let mut pointer = good.clone();
        pointer[HEADER] = 0xc0;
        let mut control = good;
        control[HEADER + 1] = b'\n';
        for message in [answer, pointer, control, query(&["x"; 200], 1)] {
            assert_eq!(parse(&message), None);
        }
    }
}
