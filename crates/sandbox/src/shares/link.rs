//! A link of the host in the form in which Linux's SMB client knows links: a file of 1067 bytes.
//!
//! With the option `mfsymlinks` the guest takes a file of this form for a symbolic link, so that it
//! sees a link, follows it by itself and deletes it as a link. The form is "Minshall+French
//! symlinks", <https://wiki.samba.org/index.php/UNIX_Extensions#Minshall.2BFrench_symlinks>.

use bytes::Bytes;
use md5::{Digest as _, Md5};

/// Bytes of such a file.
pub(super) const SIZE: u64 = (HEADER + MAX_TARGET) as u64;
/// `XSym`, the length and the sum, each with a newline.
const HEADER: usize = 5 + 5 + 33;
/// The longest target that fits.
const MAX_TARGET: usize = 1024;

/// The file that stands for a link to `target`; `None` when it does not fit.
pub(super) fn file(target: &[u8]) -> Option<Bytes> {
    if target.is_empty() || target.len() > MAX_TARGET {
        return None;
    }
    let sum = hex::encode(Md5::digest(target));
    let mut file = format!("XSym\n{:04}\n{sum}\n", target.len()).into_bytes();
    file.extend(target);
    if target.len() < MAX_TARGET {
        file.push(b'\n');
    }
    file.resize(SIZE as usize, b' ');
    Some(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_written_as_the_kernel_writes_it() {
        let bytes = file(b"releases").unwrap();
        assert_eq!(bytes.len(), 1067);
        let start = b"XSym\n0008\n02b67c3eae678dc49209d6de4709a171\nreleases\n";
        assert!(bytes.starts_with(start));
        assert!(bytes[start.len()..].iter().all(|byte| *byte == b' '));
        for (length, fits) in [(0, false), (1, true), (1023, true), (1024, true), (1025, false)] {
            let file = file(&vec![b'a'; length]);
            assert_eq!(file.is_some(), fits, "{length}");
            assert!(file.is_none_or(|file| file.len() as u64 == SIZE));
        }
    }
}
