//! UUIDs that are settled by content: version 8 of RFC 9562 is the one for a writer's own scheme.

use sha2::{Digest as _, Sha256};

/// The UUID of a text.
pub fn from_content(text: &str) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&Sha256::digest(text)[..16]);
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    id
}

/// The UUID in the form of a URN.
pub fn urn(id: [u8; 16]) -> String {
    let hex = hex::encode(id);
    let groups = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("urn:uuid:{}", groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_those_of_the_document() {
        let id = from_content("debian-13-amd64");
        assert_eq!((id[6] >> 4, id[8] >> 6), (8, 2));
        assert_eq!(urn(id).len(), "urn:uuid:".len() + 36);
        assert_ne!(id, from_content("debian-13-arm64"));
    }
}
