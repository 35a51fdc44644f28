//! Changes inputs in the ways that parsers do not expect: lengths at their limits, parts that are
//! missing, doubled, or another input's.

use fastrand::Rng;

/// Numbers at the ends of their types and of the limits that formats have.
const EXTREMES: &[u64] = &[
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0xfff,
    0x1000,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x1f_ffff,
    0x20_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_f000,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

/// The same in the words of text formats.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "-0",
    "00",
    "0x10",
    "NaN",
    "077777777777",
];

/// Bytes that mean something to somebody.
const SPECIAL: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"'",
    b"\\",
    b"/",
    b"../",
    b"%00",
    b"%2e%2e%2f",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    "\u{fffd}".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\x1b[2J",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"<",
    b">",
    b"&#",
    b"{{{{{{{{",
    b"[[[[[[[[",
];

/// An input of the queue, changed one to eight times.
pub fn mutated(random: &mut Rng, queue: &[Vec<u8>], words: &[&[u8]], most: usize) -> Vec<u8> {
    // What reached new code last is what is best changed further.
    let recent = queue.len().saturating_sub(16);
    let from = if random.u8(..) < 64 { recent } else { 0 };
    let mut input = queue[random.usize(from..queue.len())].clone();
    for _ in 0..=random.usize(..8).min(random.usize(..8)) {
        change(random, &mut input, queue, words);
    }
    input.truncate(most);
    input
}

fn change(random: &mut Rng, input: &mut Vec<u8>, queue: &[Vec<u8>], words: &[&[u8]]) {
    let length = input.len();
    let place = random.usize(..=length);
    if length == 0 {
        let piece = piece(random, words);
        return input.extend_from_slice(&piece);
    }
    match random.u8(..14) {
        0 => input[place.min(length - 1)] ^= 1 << random.u8(..8),
        1 => input[place.min(length - 1)] = random.u8(..),
        2 | 3 => number(random, input, place.min(length - 1)),
        4 => {
            let at = place.min(length - 1);
            input[at] = input[at].wrapping_add(random.u8(..16)).wrapping_sub(8);
        }
        5 => input.truncate(place),
        6 => {
            let end = (place + span(random)).min(length);
            input.drain(place..end);
        }
        7 => {
            let end = (place + span(random)).min(length);
            let copy = input[place..end].to_vec();
            let at = random.usize(..=length);
            input.splice(at..at, copy);
        }
        8 => {
            let end = (place + span(random)).min(length);
            let copy: Vec<u8> = input[place..end].repeat(random.usize(2..40));
            input.splice(place..place, copy.into_iter().take(4096));
        }
        9 | 10 => {
            let piece = piece(random, words);
            let end = if random.bool() { place } else { (place + piece.len()).min(length) };
            input.splice(place..end, piece);
        }
        11 => {
            // The end of another input on the start of this one.
            let other = &queue[random.usize(..queue.len())];
            let from = random.usize(..=other.len());
            input.truncate(place);
            input.extend_from_slice(&other[from..]);
        }
        12 => digits(random, input),
        _ => {
            let end = (place + span(random)).min(length);
            let byte = [0, 0xff, b'A', random.u8(..)][random.usize(..4)];
            input[place..end].fill(byte);
        }
    }
}

fn span(random: &mut Rng) -> usize {
    1 << random.usize(..10)
}

fn piece(random: &mut Rng, words: &[&[u8]]) -> Vec<u8> {
    if !words.is_empty() && random.bool() {
        return words[random.usize(..words.len())].to_vec();
    }
    match random.u8(..3) {
        0 => SPECIAL[random.usize(..SPECIAL.len())].to_vec(),
        1 => NUMBERS[random.usize(..NUMBERS.len())].as_bytes().to_vec(),
        _ => (0..random.usize(1..16)).map(|_| random.u8(..)).collect(),
    }
}

/// Puts a number at one of its limits, or one beside it, in either order of bytes.
fn number(random: &mut Rng, input: &mut [u8], at: usize) {
    let mut value = EXTREMES[random.usize(..EXTREMES.len())];
    match random.u8(..4) {
        0 => value = value.wrapping_add(1),
        1 => value = value.wrapping_sub(1),
        // The length of the input itself, and near it.
        2 => value = (input.len() as u64).wrapping_add(u64::from(random.u8(..8))).wrapping_sub(4),
        _ => {}
    }
    let width = 1 << random.usize(..4);
    let mut bytes = value.to_le_bytes()[..width].to_vec();
    if random.bool() {
        bytes.reverse();
    }
    for (place, byte) in input[at..].iter_mut().zip(bytes) {
        *place = byte;
    }
}

/// Puts another number in place of one that is written in digits.
fn digits(random: &mut Rng, input: &mut Vec<u8>) {
    let starts: Vec<usize> = (0..input.len())
        .filter(|at| input[*at].is_ascii_digit() && (*at == 0 || !input[*at - 1].is_ascii_digit()))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[random.usize(..starts.len())];
    let n_digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = NUMBERS[random.usize(..NUMBERS.len())];
    input.splice(start..start + n_digits, number.bytes());
}
