//! Package URLs, <https://github.com/package-url/purl-spec>.

use std::fmt::Write as _;

/// A package URL. `kind` is the package manager's word, with the vendor's where there is one, as in `deb/debian`;
/// `arch` is the machine that the package is for, or `source`.
pub fn purl(kind: &str, name: &str, version: &str, arch: Option<&str>) -> String {
    let mut purl = format!("pkg:{kind}/{}@{}", percent(name), percent(version));
    if let Some(arch) = arch {
        let _ = write!(purl, "?arch={}", percent(arch));
    }
    purl
}

/// Percent-encodes what a package URL does not allow as it is.
fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_does_not_allow_is_encoded() {
        let found = purl("deb/debian", "libstdc++6", "1:14-3~x", Some("amd64"));
        assert_eq!(found, "pkg:deb/debian/libstdc%2B%2B6@1%3A14-3~x?arch=amd64");
        assert_eq!(purl("cargo", "a_b", "1.0.0", None), "pkg:cargo/a_b@1.0.0");
    }
}
