//! Package URLs, <https://github.com/package-url/purl-spec>.

use std::{collections::BTreeMap, fmt::Write as _};

/// A package URL. `kind` is the package manager's word, with the vendor's where there is one, as in `deb/debian`;
/// `arch` is the machine that the package is for, or `source`.
pub fn purl(kind: &str, name: &str, version: &str, arch: Option<&str>) -> String {
    purl_with(kind, name, version, &[("arch", arch.unwrap_or_default())])
}

/// The same with qualifiers; those without a value are left out. The specification has them in the order of their
/// names.
pub fn purl_with(kind: &str, name: &str, version: &str, qualifiers: &[(&str, &str)]) -> String {
    let mut purl = format!("pkg:{kind}/{}@{}", percent(name), percent(version));
    let sorted: BTreeMap<&str, &str> =
        qualifiers.iter().copied().filter(|(_, value)| !value.is_empty()).collect();
    for (number, (key, value)) in sorted.into_iter().enumerate() {
        let sign = if number == 0 { '?' } else { '&' };
        let _ = write!(purl, "{sign}{key}={}", percent(value));
    }
    purl
}

/// The parts of a package URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purl {
    /// The package manager's word, with the vendor's where there is one, as in `deb/debian`.
    pub kind: String,
    /// The package's name.
    pub name: String,
    /// Its version; empty where none is given.
    pub version: String,
    /// What else is said of it, by key: `arch`, `distro`, `upstream`.
    pub qualifiers: BTreeMap<String, String>,
}

impl Purl {
    /// Reads a package URL; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("pkg:")?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, last) = rest.trim_matches('/').rsplit_once('/')?;
        let (name, version) = last.split_once('@').unwrap_or((last, ""));
        let qualifiers = qualifiers
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_ascii_lowercase(), plain(value)))
            .collect();
        let (kind, name, version) = (plain(kind), plain(name), plain(version));
        (!name.is_empty()).then_some(Self { kind, name, version, qualifiers })
    }

    /// The value of a qualifier.
    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.qualifiers.get(key).map(String::as_str)
    }
}

/// Undoes [`percent`].
fn plain(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = (*first == b'%').then(|| behind.get(..2)).flatten();
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
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

    #[test]
    fn what_was_written_is_read_back() {
        let qualifiers = [("upstream", "glibc@2.41-12"), ("arch", "amd64"), ("distro", "")];
        let text = purl_with("deb/debian", "libc6", "1:2.41+b1", &qualifiers);
        assert_eq!(text, "pkg:deb/debian/libc6@1%3A2.41%2Bb1?arch=amd64&upstream=glibc%402.41-12");
        let read = Purl::parse(&text).unwrap();
        assert_eq!((read.kind.as_str(), read.name.as_str()), ("deb/debian", "libc6"));
        assert_eq!(read.version, "1:2.41+b1");
        assert_eq!(read.qualifier("upstream"), Some("glibc@2.41-12"));
        assert_eq!(read.qualifier("distro"), None);
        let bare = Purl::parse("pkg:cargo/serde").unwrap();
        assert_eq!((bare.name.as_str(), bare.version.as_str()), ("serde", ""));
        for odd in ["", "cargo/serde@1", "pkg:", "pkg:cargo/", "pkg:cargo"] {
            assert_eq!(Purl::parse(odd), None, "{odd}");
        }
        assert_eq!(Purl::parse("pkg:a/b%zz@%").unwrap().name, "b%zz");
    }
}
