//! The server-sent events of `/execute_stream`.
//!
//! We send the seeds' `{"type": "stdout", "data": "..."}`. Agents made elsewhere name the field
//! `stream` instead of `type`; the decoder accepts both. Text that is cut in the middle of a
//! character is the encoder's matter: [`TextSplitter`] holds back the first bytes of a character
//! whose rest has not arrived.
//!
//! The wire format is <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorResponse, ExitReport};

/// Longest event that the decoder accepts, in bytes. Agents made elsewhere send a whole result in one,
/// and 20 MB of it are usual there.
pub const MAX_EVENT: usize = 32 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// Bytes of standard output.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The command ended; nothing follows.
    Exit(ExitReport),
    /// The command could not be run or followed; nothing follows.
    Error(String),
}

#[derive(Serialize)]
struct Output<'a> {
    r#type: &'static str,
    data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

#[derive(Serialize)]
struct Exit {
    r#type: &'static str,
    exit_code: i32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    timed_out: bool,
}

#[derive(Serialize)]
struct Failure<'a> {
    r#type: &'static str,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(alias = "stream")]
    r#type: Option<String>,
    data: Option<String>,
    data_base64: Option<String>,
    exit_code: Option<i32>,
    #[serde(default)]
    timed_out: bool,
    #[serde(default)]
    signal: Option<i32>,
    #[serde(default, alias = "message")]
    error: Option<String>,
}

/// Appends an output event.
pub fn encode_output(stream: &'static str, bytes: &[u8], into: &mut BytesMut) {
    match std::str::from_utf8(bytes) {
        Ok(data) => line(&Output { r#type: stream, data, data_base64: None }, into),
        Err(_) => line(
            &Output {
                r#type: stream,
                data: &String::from_utf8_lossy(bytes),
                data_base64: Some(STANDARD.encode(bytes)),
            },
            into,
        ),
    }
}

/// Appends an exit event.
pub fn encode_exit(exit: &ExitReport, into: &mut BytesMut) {
    let exit = Exit { r#type: "exit", exit_code: exit.exit_code, timed_out: exit.timed_out };
    line(&exit, into);
}

/// Appends an error event.
pub fn encode_error(error: &ErrorResponse, into: &mut BytesMut) {
    let hint = error.hint.as_deref();
    line(&Failure { r#type: "error", error: &error.error, hint }, into);
}

fn line(value: &impl Serialize, into: &mut BytesMut) {
    into.put_slice(b"data: ");
    // JSON text has no raw line break, so that one event is one `data` line. Writing plain structs
    // of strings and numbers into memory cannot fail.
    serde_json::to_writer(into.writer(), value).expect("an event is plain data");
    into.put_slice(b"\n\n");
}

/// Holds back the bytes of a character that is not complete, for one stream.
#[derive(Debug, Default)]
pub struct TextSplitter {
    held: Vec<u8>,
}

impl TextSplitter {
    /// Bytes to send now: what was held back, and `bytes` without an unfinished character.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        if self.held.is_empty() {
            let (now, later) = bytes.split_at(bytes.len() - unfinished(bytes));
            self.held.extend_from_slice(later);
            return now.into();
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        self.held = joined.split_off(joined.len() - unfinished(&joined));
        joined.into()
    }

    /// What is left at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// How many bytes at the end of `bytes` may begin a character that goes on in the next portion.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        if byte & 0xc0 == 0x80 {
            continue;
        }
        let length = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        return if back < length { back } else { 0 };
    }
    0
}

/// Takes the bytes of an event stream in any portions and gives whole events.
#[derive(Debug, Default)]
pub struct EventDecoder {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
}

impl EventDecoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what arrived and gives the events that are complete.
    ///
    /// # Errors
    /// An event over [`MAX_EVENT`], or one that the protocol does not have.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<StreamEvent>, Error> {
        let mut events = Vec::new();
        for portion in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + self.data.len() + portion.len() > MAX_EVENT {
                return Err(Error::EventTooLarge { limit: MAX_EVENT });
            }
            self.line.extend_from_slice(portion);
            if portion.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.take_line(line.trim_ascii_end())?);
            }
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<StreamEvent>, Error> {
        if line.is_empty() {
            if !std::mem::take(&mut self.has_data) {
                return Ok(None);
            }
            return decode(&std::mem::take(&mut self.data)).map(Some);
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            self.has_data = true;
        }
        // Comments, event names and identifiers carry nothing for us.
        Ok(None)
    }
}

fn decode(data: &[u8]) -> Result<StreamEvent, Error> {
    let unknown = || Error::UnknownEvent {
        event: String::from_utf8_lossy(&data[..data.len().min(80)]).into_owned(),
    };
    let wire: Wire = serde_json::from_slice(data).map_err(|_| unknown())?;
    let bytes = match (&wire.data, &wire.data_base64) {
        (_, Some(encoded)) => STANDARD.decode(encoded).map_err(|_| unknown())?.into(),
        (Some(text), None) => Bytes::copy_from_slice(text.as_bytes()),
        (None, None) => Bytes::new(),
    };
    match wire.r#type.as_deref() {
        Some("stdout") => Ok(StreamEvent::Stdout(bytes)),
        Some("stderr") => Ok(StreamEvent::Stderr(bytes)),
        Some("exit") | None => {
            let exit_code = wire.exit_code.ok_or_else(unknown)?;
            let exit = ExitReport { exit_code, timed_out: wire.timed_out, signal: wire.signal };
            Ok(StreamEvent::Exit(exit))
        }
        Some("error") => {
            let text = wire.error.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
            Ok(StreamEvent::Error(text))
        }
        Some(_) => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_never_split() {
        let text = "aä€😀z".as_bytes();
        for cut in 0..=text.len() {
            let mut splitter = TextSplitter::default();
            let first = splitter.push(&text[..cut]).into_owned();
            let second = splitter.push(&text[cut..]).into_owned();
            assert!(std::str::from_utf8(&first).is_ok(), "cut at {cut}");
            assert!(std::str::from_utf8(&second).is_ok(), "cut at {cut}");
            assert_eq!([first, second, splitter.finish()].concat(), text, "cut at {cut}");
        }
        let mut splitter = TextSplitter::default();
        let bytewise: Vec<u8> =
            text.iter().flat_map(|byte| splitter.push(&[*byte]).into_owned()).collect();
        assert_eq!(bytewise, text);
    }

    #[test]
    fn bytes_that_are_no_text_are_not_held_for_ever() {
        let mut splitter = TextSplitter::default();
        assert_eq!(&*splitter.push(&[0xff, 0x80, 0x80, 0x80]), [0xff, 0x80, 0x80, 0x80]);
        assert_eq!(&*splitter.push(&[0xe2, 0x82]), b"");
        assert_eq!(&*splitter.push(b"a"), [0xe2, 0x82, b'a']);
        assert_eq!(&*splitter.push(&[0xf0]), b"");
        assert_eq!(splitter.finish(), [0xf0]);
    }

    #[test]
    fn events_come_back_from_every_portion_size() {
        let mut wire = BytesMut::new();
        encode_output("stdout", "zwei\nZeilen ä".as_bytes(), &mut wire);
        encode_output("stderr", &[0, 255, 10, 13], &mut wire);
        encode_exit(&ExitReport { exit_code: 7, timed_out: true, signal: None }, &mut wire);
        let expect = vec![
            StreamEvent::Stdout("zwei\nZeilen ä".into()),
            StreamEvent::Stderr(vec![0, 255, 10, 13].into()),
            StreamEvent::Exit(ExitReport { exit_code: 7, timed_out: true, signal: None }),
        ];
        for size in [1, 2, 3, 7, 1000] {
            let mut decoder = EventDecoder::new();
            let events: Vec<StreamEvent> =
                wire.chunks(size).flat_map(|portion| decoder.feed(portion).unwrap()).collect();
            assert_eq!(events, expect, "by {size}");
        }
    }

    #[test]
    fn the_words_of_other_agents_are_understood() {
        let mut decoder = EventDecoder::new();
        let wire = b": comment\r\ndata: {\"stream\": \"stdout\", \"data\": \"x\"}\r\n\r\n\
            event: end\ndata:{\"stream\":\"exit\",\"exit_code\":2}\n\ndata: {\"exit_code\":3}\n\n";
        let exit = |exit_code| StreamEvent::Exit(ExitReport { exit_code, ..Default::default() });
        let expect = vec![StreamEvent::Stdout("x".into()), exit(2), exit(3)];
        assert_eq!(decoder.feed(wire).unwrap(), expect);
    }

    #[test]
    fn hostile_events_are_bounded_and_refused() {
        let mut decoder = EventDecoder::new();
        assert!(matches!(
            decoder.feed(&vec![b'x'; MAX_EVENT + 1]),
            Err(Error::EventTooLarge { .. })
        ));
        for body in ["data: {}\n\n", "data: nothing\n\n", "data: {\"type\":\"other\"}\n\n"] {
            let error = EventDecoder::new().feed(body.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::UnknownEvent { .. }), "{body}: {error}");
        }
    }
}
