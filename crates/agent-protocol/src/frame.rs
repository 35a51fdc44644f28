//! The binary frames of `/session` and `/files/…`: `[kind u8][length u32, little endian][payload]`.
//!
//! The decoder is incremental: feed it whatever arrived, take out whole frames. It never holds more
//! than one frame of the largest size plus what was fed last, because a length over the limit is
//! refused when the header is complete, before any of its payload is waited for.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::{Error, limits::MAX_FRAME_PAYLOAD};

/// Bytes before a frame's payload.
pub const HEADER_LENGTH: usize = 5;

/// What a frame carries; the numbers are the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Host to guest, first and once: an [`crate::ExecuteRequest`] in JSON.
    Start = 0,
    /// Host to guest: bytes for standard input.
    Stdin = 1,
    /// Host to guest: standard input ends.
    StdinEof = 2,
    /// Host to guest: a [`crate::ResizeRequest`] in JSON.
    Resize = 3,
    /// Host to guest: a [`crate::SignalRequest`] in JSON.
    Signal = 4,
    /// Guest to host: bytes of standard output (of the terminal, when there is one).
    Stdout = 16,
    /// Guest to host: bytes of standard error.
    Stderr = 17,
    /// Guest to host, last: an [`crate::ExitReport`] in JSON.
    Exit = 18,
    /// Guest to host, last: an [`crate::ErrorResponse`] in JSON.
    Error = 19,
    /// Either way, in a transfer of files: a [`crate::FileEntry`] in JSON.
    Entry = 32,
    /// Either way: bytes of the file whose entry came last.
    Data = 33,
    /// Either way, last: the transfer is complete.
    Done = 34,
    /// Either way: bytes of the file whose entry came last that were never written, as their number
    /// (u64, little endian).
    Hole = 35,
}

impl TryFrom<u8> for FrameKind {
    type Error = Error;

    fn try_from(kind: u8) -> Result<Self, Error> {
        Ok(match kind {
            0 => Self::Start,
            1 => Self::Stdin,
            2 => Self::StdinEof,
            3 => Self::Resize,
            4 => Self::Signal,
            16 => Self::Stdout,
            17 => Self::Stderr,
            18 => Self::Exit,
            19 => Self::Error,
            32 => Self::Entry,
            33 => Self::Data,
            34 => Self::Done,
            35 => Self::Hole,
            kind => return Err(Error::UnknownFrameKind { kind }),
        })
    }
}

/// One whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// At most [`MAX_FRAME_PAYLOAD`] bytes.
    pub payload: Bytes,
}

/// The five bytes before a payload of `length` bytes, for those who have the payload elsewhere.
///
/// # Panics
/// When `length` is over [`MAX_FRAME_PAYLOAD`]: the caller cuts its data.
pub fn header(kind: FrameKind, length: usize) -> [u8; HEADER_LENGTH] {
    assert!(length <= MAX_FRAME_PAYLOAD, "a frame of {length} bytes");
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [kind as u8, a, b, c, d]
}

/// A whole frame in one buffer.
///
/// # Panics
/// As [`header`].
pub fn encode(kind: FrameKind, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_LENGTH + payload.len());
    frame.extend_from_slice(&header(kind, payload.len()));
    frame.extend_from_slice(payload);
    frame.freeze()
}

/// Takes bytes in any portions and gives whole frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
    current: Bytes,
}

impl FrameDecoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what arrived. Take all frames out with [`FrameDecoder::next_frame`] before the next
    /// call, so that memory stays bounded.
    pub fn feed(&mut self, bytes: Bytes) {
        if self.buffer.is_empty() && self.current.is_empty() {
            // The usual case: frames are cut out of the arrived bytes without a copy.
            self.current = bytes;
        } else {
            self.buffer.extend_from_slice(&std::mem::take(&mut self.current));
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// An unknown kind or a length over the limit. The stream has no meaning after that.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let available: &[u8] = if self.buffer.is_empty() { &self.current } else { &self.buffer };
        let Some((kind, length)) = parse_header(available)? else { return Ok(None) };
        if available.len() < HEADER_LENGTH + length {
            return Ok(None);
        }
        let payload = if self.buffer.is_empty() {
            self.current.advance(HEADER_LENGTH);
            self.current.split_to(length)
        } else {
            self.buffer.advance(HEADER_LENGTH);
            self.buffer.split_to(length).freeze()
        };
        Ok(Some(Frame { kind, payload }))
    }

    /// Checks that the stream did not end inside a frame.
    ///
    /// # Errors
    /// [`Error::TruncatedFrame`].
    pub fn finish(&self) -> Result<(), Error> {
        let available: &[u8] = if self.buffer.is_empty() { &self.current } else { &self.buffer };
        if available.is_empty() {
            return Ok(());
        }
        let needed = match parse_header(available)? {
            Some((_, length)) => HEADER_LENGTH + length,
            None => HEADER_LENGTH,
        };
        Err(Error::TruncatedFrame { missing: needed.saturating_sub(available.len()) })
    }
}

fn parse_header(bytes: &[u8]) -> Result<Option<(FrameKind, usize)>, Error> {
    // The kind is judged as soon as it is there: a peer that speaks something else is told at once.
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let kind = FrameKind::try_from(kind)?;
    let Some(&[a, b, c, d]) = bytes.get(1..HEADER_LENGTH).and_then(|b| b.first_chunk()) else {
        return Ok(None);
    };
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX_FRAME_PAYLOAD {
        return Err(Error::FrameTooLarge { length, limit: MAX_FRAME_PAYLOAD });
    }
    Ok(Some((kind, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<Frame>, Vec<u8>) {
        let frames: Vec<Frame> = [
            (FrameKind::Start, b"{}".to_vec()),
            (FrameKind::Stdin, vec![]),
            (FrameKind::Stdout, (0..=255).cycle().take(3000).collect()),
            (FrameKind::Stderr, vec![0xff; 7]),
            (FrameKind::Exit, br#"{"exit_code":0}"#.to_vec()),
        ]
        .into_iter()
        .map(|(kind, payload)| Frame { kind, payload: payload.into() })
        .collect();
        let bytes = frames.iter().flat_map(|f| encode(f.kind, &f.payload).to_vec()).collect();
        (frames, bytes)
    }

    fn decode(portions: &[&[u8]]) -> Vec<Frame> {
        let mut decoder = FrameDecoder::new();
        let mut frames = Vec::new();
        for portion in portions {
            decoder.feed(Bytes::copy_from_slice(portion));
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        decoder.finish().unwrap();
        frames
    }

    #[test]
    fn every_split_gives_the_same_frames() {
        let (frames, bytes) = sample();
        for cut in 0..=bytes.len() {
            assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]]), frames, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), frames);
        for size in [2, 3, 4, 5, 6, 7, 1000] {
            assert_eq!(decode(&bytes.chunks(size).collect::<Vec<_>>()), frames, "by {size}");
        }
    }

    #[test]
    fn a_hostile_length_is_refused_before_its_payload() {
        for length in [MAX_FRAME_PAYLOAD as u32 + 1, u32::MAX, 0x8000_0000] {
            let mut decoder = FrameDecoder::new();
            let mut bytes = vec![16];
            bytes.extend(length.to_le_bytes());
            decoder.feed(bytes.into());
            let error = decoder.next_frame().unwrap_err();
            assert!(matches!(error, Error::FrameTooLarge { .. }), "{error}");
        }
        let mut decoder = FrameDecoder::new();
        decoder.feed(encode(FrameKind::Stdin, &vec![1; MAX_FRAME_PAYLOAD]));
        assert_eq!(decoder.next_frame().unwrap().unwrap().payload.len(), MAX_FRAME_PAYLOAD);
    }

    #[test]
    fn an_unknown_kind_and_a_cut_stream_are_errors() {
        for kind in [5u8, 15, 20, 255] {
            let mut decoder = FrameDecoder::new();
            decoder.feed(Bytes::copy_from_slice(&[kind]));
            assert!(matches!(decoder.next_frame(), Err(Error::UnknownFrameKind { .. })));
        }
        let mut decoder = FrameDecoder::new();
        decoder.feed(encode(FrameKind::Stdin, b"abc").slice(..6));
        assert!(decoder.next_frame().unwrap().is_none());
        assert!(matches!(decoder.finish(), Err(Error::TruncatedFrame { missing: 2 })));
    }
}
