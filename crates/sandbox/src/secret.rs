//! Secrets of one machine, drawn from the system's random numbers. Knows nothing of who asks for them.

use crate::error::{Error, Result};

/// The length of the agent's token: 256 bits, which the agent compares and nobody else ever sees.
pub(crate) const TOKEN: usize = 32;
/// The length of the user and password of shares, which fit every option of a mount.
pub(crate) const SHARE: usize = 16;

/// This many random bytes in hexadecimal digits.
pub(crate) fn hexadecimal(n_bytes: usize) -> Result<String> {
    let mut bytes = vec![0; n_bytes];
    fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// This many letters and digits, each drawn evenly.
pub(crate) fn alphanumeric(length: usize) -> Result<String> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::new();
    while text.len() < length {
        let mut byte = [0];
        fill(&mut byte)?;
        if let Some(letter) = LETTERS.get(usize::from(byte[0] & 63)) {
            text.push(char::from(*letter));
        }
    }
    Ok(text)
}

/// Fills these bytes with random ones.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Error::System { action: "draw random numbers", source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_as_long_as_asked_and_never_the_same() {
        let [one, two] = [TOKEN, TOKEN].map(|length| hexadecimal(length).unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
        let [one, two] = [20, 20].map(|length| alphanumeric(length).unwrap());
        assert_eq!(one.len(), 20);
        assert!(one.chars().all(|letter| letter.is_ascii_alphanumeric()), "{one}");
        assert_ne!(one, two);
    }
}
