//! Hostile bytes for the decoders of both sides, whole and in pieces.

use bytes::Bytes;
use fuzz_driver::Target;

use crate::event::{EventDecoder, StreamEvent};
use crate::*;

/// The pieces of an input: what it says itself, in its first byte.
fn pieces(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let size = input.first().map_or(1, |byte| usize::from(byte % 31) + 1);
    input.chunks(size)
}

fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.feed(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    let is_whole = decoder.finish().is_ok();
    (frames, is_whole)
}

#[test]
fn fuzz_frames() {
    let words: &[&[u8]] = &[b"\x10\x05\0\0\0", b"\x20", b"\x21", b"\x22", b"\x12", b"\0\0\x10\0"];
    Target::new("frames").words(words).run(|input| {
        let (whole, in_pieces) = (frames([input].into_iter()), frames(pieces(input)));
        assert_eq!(whole, in_pieces, "pieces change what arrives");
        for frame in whole.0 {
            bodies(&frame.payload);
        }
    });
}

/// Whatever a frame or body may hold, as both sides read it.
fn bodies(payload: &[u8]) {
    if let Ok(request) = ExecuteRequest::from_json(payload) {
        let again = serde_json::to_vec(&request).unwrap();
        assert_eq!(ExecuteRequest::from_json(&again).unwrap(), request);
    }
    if let Ok(entry) = FileEntry::from_json(payload) {
        for name in entry.components().unwrap() {
            assert!(![&b""[..], b".", b".."].contains(&name), "{name:?}");
        }
    }
    let _ = hole_length(payload);
    let _ = ReadFilesRequest::from_json(payload);
    let _ = WriteFilesRequest::from_json(payload);
    let _ = MountRequest::from_json(payload);
    let _ = UnmountRequest::from_json(payload);
    let _ = CreateUserRequest::from_json(payload);
    let _ = DeleteUserRequest::from_json(payload);
    let _ = ResizeRequest::from_json(payload);
    let _ = SignalRequest::from_json(payload);
    let _ = ClockRequest::from_json(payload);
    let _ = FreezeRequest::from_json(payload);
    let _ = ShutdownRequest::from_json(payload);
    let _ = serde_json::from_slice::<ExitReport>(payload);
    let _ = serde_json::from_slice::<ErrorResponse>(payload);
    let _ = serde_json::from_slice::<UserResponse>(payload);
    if let Ok(response) = serde_json::from_slice::<ExecuteResponse>(payload) {
        let _ = response.into_bytes();
    }
}

#[test]
fn fuzz_requests() {
    let words: &[&[u8]] = &[
        b"\"command\"",
        b"\"cwd\"",
        b"\"env\"",
        b"\"base64\"",
        b"\"pty\"",
        b"\"rows\"",
        b"\"timeout\"",
        b"\"path\"",
        b"\"kind\"",
        b"\"target\"",
        b"\\ud800",
        b"null",
        b"1e308",
    ];
    Target::new("requests").words(words).run(bodies);
}

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<StreamEvent>, bool) {
    let mut decoder = EventDecoder::new();
    let mut events = Vec::new();
    for piece in pieces {
        match decoder.feed(piece) {
            Ok(more) => events.extend(more),
            Err(_) => return (events, false),
        }
    }
    (events, true)
}

#[test]
fn fuzz_events() {
    let words: &[&[u8]] = &[
        b"data: ",
        b"\n\n",
        b"\r\n",
        b"\"type\"",
        b"\"stdout\"",
        b"\"exit\"",
        b"\"data_base64\"",
        b"\"exit_code\"",
        b": ping",
    ];
    Target::new("events").words(words).run(|input| {
        let (whole, in_pieces) = (events([input].into_iter()), events(pieces(input)));
        assert_eq!(whole.1, in_pieces.1, "pieces change what is refused");
        if whole.1 {
            assert_eq!(whole.0, in_pieces.0, "pieces change what arrives");
        }
    });
}

/// What a scanner makes of pieces: the data that it lets pass, and the request that it finds.
fn scanned<'a>(
    secrets: Vec<resync::Secret>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Option<(resync::Request, Vec<u8>)> {
    let mut scanner = resync::Scanner::new(secrets);
    let mut found = None;
    for piece in pieces {
        match &mut found {
            Some((_, rest)) => Vec::extend_from_slice(rest, piece),
            None => {
                if let resync::Scan::Request(request, rest) = scanner.scan(piece) {
                    found = Some((request, rest.to_vec()));
                }
            }
        }
    }
    found
}

#[test]
fn fuzz_resync() {
    let secret = || resync::Secret::new(b"the token");
    let request = resync::Request { nonce: [7; resync::NONCE_LEN], unix_nanos: 42 };
    let marked = secret().request(&request);
    let words: &[&[u8]] = &[b"QSRESYNC", &marked[..8], &marked[..16]];
    Target::new("resync").words(words).run(|input| {
        // No data is a request, however near it comes: its tag is known to nobody else.
        assert_eq!(scanned(vec![secret()], pieces(input)), None);
        // A true one is found behind any data but the beginning of another, and in any pieces.
        if !input.windows(16).any(|window| window == &marked[..16]) {
            let all = [input, &marked[..], b"rest"].concat();
            let found = scanned(vec![resync::Secret::new(b"another"), secret()], pieces(&all));
            assert_eq!(found, Some((request, b"rest".to_vec())));
        }
    });
}

/// Lengths at and around every limit of the header, in every way that a stream can be cut.
#[test]
fn lengths_of_frames_at_their_limits() {
    let most = limits::MAX_FRAME_PAYLOAD as u32;
    for length in [0, 1, most - 1, most, most + 1, 1 << 24, i32::MAX as u32, 1 << 31, u32::MAX] {
        for n_sent in [0usize, 1, 1000] {
            let mut bytes = vec![33];
            bytes.extend(length.to_le_bytes());
            bytes.resize(bytes.len() + n_sent, 7);
            let (frames, is_whole) = frames(bytes.chunks(3));
            let is_complete = length as usize <= n_sent;
            if length > most {
                assert!(frames.is_empty() && !is_whole, "{length}");
            } else if is_complete {
                assert_eq!(frames[0].payload.len(), length as usize);
            } else {
                assert!(frames.is_empty() && !is_whole, "{length} with {n_sent}");
            }
        }
    }
}
