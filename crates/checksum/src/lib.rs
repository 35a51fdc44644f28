//! SHA-256 of bytes and of files, written in lower-case hexadecimal digits, and the UUIDs made of it.
//!
//! Owns the one loop that reads a file for its sum. Knows nothing of what sums are compared with.

use sha2::{Digest as _, Sha256};
use std::io::{self, Read};

pub mod uuid;

/// The sum of bytes.
///
/// ```
/// assert!(checksum::sha256(b"").starts_with("e3b0c442"));
/// ```
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The sum of all that there is to read.
///
/// # Errors
/// What reading fails with.
pub fn sha256_of(mut from: impl Read) -> io::Result<String> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(sum.finalize())),
            Ok(length) => sum.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_in_pieces_has_the_sum_of_the_whole() {
        let whole = vec![7; (2 << 20) + 3];
        let pieces = io::Read::chain(&whole[..5], &whole[5..]);
        assert_eq!(sha256_of(pieces).unwrap(), sha256(&whole));
        // FIPS 180-4 with the message "abc".
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), known);
    }
}
