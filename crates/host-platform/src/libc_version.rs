//! Which C library a Linux host has, and its version: what decides whether a wheel with a
//! manylinux (PEP 600) or musllinux (PEP 656) tag runs on it.
//!
//! Read from files, not asked of the process: our own binaries can be static, and then the
//! library they carry says nothing about the host.

use std::path::Path;

/// The C library of a Linux host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibC {
    /// GNU's, with its version.
    Glibc {
        /// Always 2 so far.
        major: u32,
        /// The part that manylinux tags name last.
        minor: u32,
    },
    /// musl, whose loader exists under its well-known name.
    Musl,
    /// Neither was found.
    Unknown,
}

/// The C library of this host. Always `Unknown` off Linux.
pub fn libc_of_host() -> LibC {
    if cfg!(target_os = "linux") { libc_under(Path::new("/")) } else { LibC::Unknown }
}

/// The C library of the system whose root folder is `root`. glibc wins where both are installed
/// (a glibc system with musl's development package keeps its glibc programs).
pub fn libc_under(root: &Path) -> LibC {
    const LIBRARY_FOLDERS: [&str; 8] = [
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
        "lib/aarch64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "lib64",
        "usr/lib64",
        "lib",
        "usr/lib",
    ];
    let glibc = LIBRARY_FOLDERS
        .iter()
        .filter_map(|folder| fs_err::read(root.join(folder).join("libc.so.6")).ok())
        .find_map(|bytes| glibc_version(&bytes));
    if let Some((major, minor)) = glibc {
        return LibC::Glibc { major, minor };
    }
    let has_musl = ["x86_64", "aarch64"]
        .iter()
        .any(|machine| root.join(format!("lib/ld-musl-{machine}.so.1")).exists());
    if has_musl { LibC::Musl } else { LibC::Unknown }
}

/// Reads the banner that glibc keeps in itself: `GNU C Library (...) stable release version 2.36.`
fn glibc_version(library: &[u8]) -> Option<(u32, u32)> {
    const BANNER: &[u8] = b"GNU C Library (";
    const VERSION: &[u8] = b"release version ";
    let start = find(library, BANNER)?;
    // The banner is one short line; a limit keeps an odd file from matching far away.
    let line = &library[start..library.len().min(start + 300)];
    let version = &line[find(line, VERSION)? + VERSION.len()..];
    let text: String = version
        .iter()
        .map(|byte| char::from(*byte))
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_is_read() {
        let table: [(&[u8], _); 6] = [
            (
                b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopyright",
                Some((2, 36)),
            ),
            (b"GNU C Library (GNU libc) release version 2.5, by Roland", Some((2, 5))),
            (b"GNU C Library (x) development release version 2.42.9000.", Some((2, 42))),
            (b"GNU C Library (x) version unknown", None),
            (b"release version 2.36", None),
            (b"", None),
        ];
        for (bytes, expect) in table {
            assert_eq!(glibc_version(bytes), expect, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn roots_of_each_kind_are_distinguished() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(libc_under(root.path()), LibC::Unknown);
        fs_err::create_dir_all(root.path().join("lib")).unwrap();
        fs_err::write(root.path().join("lib/ld-musl-x86_64.so.1"), b"musl").unwrap();
        assert_eq!(libc_under(root.path()), LibC::Musl);
        fs_err::create_dir_all(root.path().join("usr/lib64")).unwrap();
        let banner = b"GNU C Library (GNU libc) stable release version 2.28.\n";
        fs_err::write(root.path().join("usr/lib64/libc.so.6"), banner).unwrap();
        assert_eq!(libc_under(root.path()), LibC::Glibc { major: 2, minor: 28 });
    }
}
