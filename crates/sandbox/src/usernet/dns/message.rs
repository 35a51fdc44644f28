//! The format of questions and answers, as far as it is needed:
//! <https://www.rfc-editor.org/rfc/rfc1035>, and of RFC 6891 the size of datagrams.

use std::net::Ipv4Addr;

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
/// Types that are no records: keys of transactions, transfers of whole zones. "Any" is one of them
/// and can be asked for.
const META: std::ops::RangeInclusive<u16> = 249..=254;
const CLASS_IN: u16 = 1;
/// Seconds that an answer of ours may be kept.
const TTL: u32 = 30;
/// Bytes of a datagram that a guest takes without saying so, and the most that it gets.
const SMALL: u16 = 512;
const LARGE: u16 = 1472;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The name, in lower case, without the last dot.
    pub name: String,
    kind: u16,
    class: u16,
    /// The header's identity and the question as it was put, for the answer.
    id: [u8; 2],
    wants_recursion: bool,
    pub section: Vec<u8>,
}

impl Question {
    /// Whether it asks for IPv4 addresses.
    pub(super) fn is_for_addresses(&self) -> bool {
        self.kind == TYPE_A
    }

    /// Whether it asks for IPv6 addresses, which there are none of.
    pub(super) fn is_for_ipv6(&self) -> bool {
        self.kind == TYPE_AAAA
    }

    /// Whether there can be an answer: a record of the Internet.
    pub(super) fn is_supported(&self) -> bool {
        let is_record = self.kind != 0 && self.kind != TYPE_OPT && !META.contains(&self.kind);
        self.class == CLASS_IN && is_record
    }
}

/// What an answer says beside records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Malformed = 1,
    Failed = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// What a question gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// Addresses; none when there is another kind of record only.
    Addresses(Vec<Ipv4Addr>),
    /// The answer of a name server.
    Message(Vec<u8>),
    /// No records.
    Code(Code),
}

impl Answer {
    /// The IPv4 addresses in it; `None` when it cannot be read.
    pub(super) fn addresses(&self) -> Option<Vec<Ipv4Addr>> {
        match self {
            Self::Addresses(addresses) => Some(addresses.clone()),
            Self::Message(message) => addresses(message),
            Self::Code(_) => Some(Vec::new()),
        }
    }
}

fn short(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

/// Reads a message with one plain question.
pub(super) fn parse(message: &[u8]) -> Result<Question, Code> {
    let header = message.get(..HEADER).ok_or(Code::Malformed)?;
    if header[2] & 0x78 != 0 {
        return Err(Code::NotImplemented);
    }
    if header[2] & 0x80 != 0 || short(header, 4) != Some(1) {
        return Err(Code::Malformed);
    }
    let (name, end) = name(message).ok_or(Code::Malformed)?;
    let (kind, class) = (short(message, end), short(message, end + 2));
    let (Some(kind), Some(class)) = (kind, class) else { return Err(Code::Malformed) };
    Ok(Question {
        name,
        kind,
        class,
        id: [header[0], header[1]],
        wants_recursion: header[2] & 1 == 1,
        section: message[HEADER..end + 4].to_vec(),
    })
}

/// The name of the first question and where it ends.
fn name(message: &[u8]) -> Option<(String, usize)> {
    let mut at = HEADER;
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
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
}

/// The bytes of a datagram that whoever asks says that it takes.
pub(super) fn datagram_limit(message: &[u8]) -> usize {
    // The record that says so stands right behind the question in what resolvers send.
    let said = name(message).and_then(|(_, end)| {
        let record = message.get(end + 4..)?;
        let is_there = *record.first()? == 0 && short(record, 1)? == TYPE_OPT;
        if is_there { short(record, 3) } else { None }
    });
    usize::from(said.unwrap_or(SMALL).clamp(SMALL, LARGE))
}

/// A question of our own to a name server.
pub(super) fn question(question: &Question, id: [u8; 2]) -> Vec<u8> {
    let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(&question.section);
    message
}

/// Whether a message answers this question of ours.
pub(super) fn is_answer(message: &[u8], question: &Question, id: [u8; 2]) -> bool {
    let section = message.get(HEADER..HEADER + question.section.len());
    message.starts_with(&id)
        && message.get(2).is_some_and(|flags| flags & 0x80 != 0)
        && section.is_some_and(|section| section.eq_ignore_ascii_case(&question.section))
}

/// Whether an answer was too long for its datagram.
pub(super) fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 2 != 0)
}

/// Whether an answer says that there is such a name.
pub(super) fn is_no_error(message: &[u8]) -> bool {
    message.get(3).is_some_and(|flags| flags & 0xf == 0)
}

/// The IPv4 addresses among the answers of a message; `None` when it cannot be read.
fn addresses(message: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let (n_questions, n_answers) = (short(message, 4)?, short(message, 6)?);
    let mut at = HEADER;
    for _ in 0..n_questions {
        at = skip_name(message, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..n_answers {
        at = skip_name(message, at)?;
        let (kind, length) = (short(message, at)?, usize::from(short(message, at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        if let (TYPE_A, Ok(address)) = (kind, <[u8; 4]>::try_from(data)) {
            addresses.push(Ipv4Addr::from(address));
        }
        at += 10 + length;
    }
    Some(addresses)
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Writes the answer's message.
pub(super) fn write(question: &Question, answer: &Answer) -> Vec<u8> {
    let (code, addresses) = match answer {
        Answer::Message(message) => {
            let mut message = message.clone();
            message[..2].copy_from_slice(&question.id);
            return message;
        }
        Answer::Addresses(addresses) => (0, &addresses[..]),
        Answer::Code(code) => (*code as u8, &[][..]),
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

/// The answer to what is no plain question; `None` when it is an answer itself, or too short to
/// have an identity.
pub(super) fn complaint(message: &[u8], code: Code) -> Option<Vec<u8>> {
    let header = message.get(..HEADER)?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    let flags = [0x80 | (header[2] & 0x79), 0x80 | code as u8];
    Some([&header[..2], &flags[..], &[0; 8][..]].concat())
}

/// An answer without its records that says so: whoever asked comes again over TCP.
pub(super) fn truncated(message: &[u8]) -> Vec<u8> {
    let end = name(message).map_or(HEADER, |(_, end)| end + 4).min(message.len());
    let mut message = message[..end].to_vec();
    message[2] |= 2;
    message[6..HEADER].fill(0);
    if end == HEADER {
        message[4..6].fill(0);
    }
    message
}

#[cfg(test)]
mod tests;
