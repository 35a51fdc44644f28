//! What a program needs by itself: a loader, libraries, and rights over the files that it reads.

use crate::{Needs, Program};
use fs_err as fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Where loaders and libraries are, for programs that need them.
const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/nix/store", "/gnu/store"];
/// What an installation of QEMU has beside its `bin`. The whole prefix may be somebody's home.
const PREFIX_FOLDERS: [&str; 6] = ["bin", "lib", "lib32", "lib64", "libexec", "share/qemu"];
/// Where users name more folders with libraries. See ld.so(8).
pub(crate) const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// Folders of that variable that are looked at.
const MAX_NAMED: usize = 16;

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By the kernel alone.
    Static,
    /// By a loader, with libraries.
    Dynamic,
    /// By something else, which runs whatever it wants.
    Script,
}

/// Looks at the start of a program: an ELF header, and whether a segment asks for a loader.
/// See <https://refspecs.linuxfoundation.org/elf/elf.pdf>.
pub(crate) fn kind(path: &Path) -> io::Result<Kind> {
    let mut start = Vec::new();
    match fs::File::open(path) {
        Ok(file) => drop(file.take(4096).read_to_end(&mut start)?),
        // One that may be run and not be read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Kind::Script),
        Err(error) => return Err(error),
    }
    Ok(kind_of(&start))
}

fn kind_of(start: &[u8]) -> Kind {
    const INTERPRETER: [u8; 4] = 3u32.to_le_bytes();
    if !start.starts_with(b"\x7fELF") {
        return Kind::Script;
    }
    let half =
        |at: usize| start.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let is_known = start.starts_with(b"\x7fELF\x02\x01");
    let (true, Some(at), Some(size), Some(n_segments)) = (is_known, half(32), half(54), half(56))
    else {
        return Kind::Dynamic;
    };
    let mut kinds =
        (0..n_segments).map(|index| start.get(at + index * size..at + index * size + 4));
    match kinds.any(|kind| kind.is_none_or(|kind| kind == INTERPRETER)) {
        true => Kind::Dynamic,
        false => Kind::Static,
    }
}

/// The same file by a path that leads there from any root: absolute and without `..`.
pub(crate) fn plain(path: &Path) -> io::Result<PathBuf> {
    match path.components().any(|part| part == Component::ParentDir) {
        true => path.canonicalize(),
        false => std::path::absolute(path),
    }
}

/// What a program with a loader needs: the system's folders, those that the user names, and its own
/// with what lies beside.
pub(crate) fn libraries(program: &Path) -> Vec<PathBuf> {
    let named = std::env::var_os(LIBRARY_PATH).unwrap_or_default();
    let home = std::env::home_dir().unwrap_or_default();
    let mut paths: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    for program in [program, &real] {
        paths.extend(folders_of(program, &home));
    }
    paths.extend(std::env::split_paths(&named).take(MAX_NAMED));
    let plain = |part: Component| matches!(part, Component::RootDir | Component::Normal(_));
    let mut seen = std::collections::BTreeSet::new();
    paths.retain(|path| {
        let is_fit = path.is_absolute() && path.parent().is_some() && path.components().all(plain);
        is_fit && !home.starts_with(path) && path.exists() && seen.insert(path.clone())
    });
    paths
}

/// What lies beside a program, but never a folder with a home in it.
fn folders_of(program: &Path, home: &Path) -> Vec<PathBuf> {
    let Some(folder) = program.parent() else { return Vec::new() };
    let is_bin = folder.file_name().is_some_and(|name| name == "bin");
    match folder.parent() {
        Some(prefix) if is_bin => PREFIX_FOLDERS.iter().map(|name| prefix.join(name)).collect(),
        _ if home.starts_with(folder) => vec![program.to_owned()],
        _ => vec![folder.to_owned()],
    }
}

/// Whether something that this machine opens again is closed to everybody but another user. Root opens
/// it by a right that it does not have in a user namespace.
pub(crate) fn is_private(program: &Program, needs: &Needs) -> bool {
    let mut paths = vec![program.path];
    paths.extend(needs.read.iter().map(PathBuf::as_path));
    let is_closed_path = |path: &Path| {
        let above = path.ancestors().skip(1).any(|folder| is_closed(folder.metadata(), 0o1));
        above || is_closed(path.metadata(), if path.is_dir() { 0o5 } else { 0o4 })
    };
    let inside = |folder: &PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| is_closed(entry.metadata(), 0o4))
    };
    let is_closed_file = |number: &i32| {
        // SAFETY: the caller keeps these open.
        let file = unsafe { BorrowedFd::borrow_raw(*number) };
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::metadata(path).is_ok_and(|it| it.is_file() && is_closed(Ok(it), 0o4))
    };
    paths.into_iter().any(is_closed_path)
        || needs.read.iter().any(inside)
        || program.inherit.iter().any(is_closed_file)
}

fn is_closed(metadata: io::Result<std::fs::Metadata>, bits: u32) -> bool {
    metadata.is_ok_and(|it| it.uid() != 0 && it.mode() & bits != bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_loaders_are_recognised() {
        let elf = |kind: u32| {
            let mut head = vec![0; 64 + 56];
            head[..6].copy_from_slice(b"\x7fELF\x02\x01");
            head[32] = 64;
            head[54] = 56;
            head[56] = 1;
            head[64..68].copy_from_slice(&kind.to_le_bytes());
            head
        };
        for (start, expect) in [
            (elf(1), Kind::Static),
            (elf(3), Kind::Dynamic),
            (elf(1)[..60].to_vec(), Kind::Dynamic),
            (b"\x7fELF\x01\x01".to_vec(), Kind::Dynamic),
            (b"#!/bin/sh\n".to_vec(), Kind::Script),
            (Vec::new(), Kind::Script),
        ] {
            assert_eq!(kind_of(&start), expect, "{start:?}");
        }
        assert_eq!(kind(Path::new("/bin/sh")).unwrap(), Kind::Dynamic);
        assert!(kind(Path::new("/no/such/program")).is_err());
    }

    #[test]
    fn no_folder_with_a_home_is_shown() {
        let home = Path::new("/home/ann");
        let table: [(&str, &[&str]); 4] = [
            ("/home/ann/bin/qemu", &["/home/ann/bin", "/home/ann/lib", "/home/ann/share/qemu"]),
            ("/home/ann/qemu", &["/home/ann/qemu"]),
            ("/home/qemu", &["/home/qemu"]),
            ("/home/ann/build/qemu", &["/home/ann/build"]),
        ];
        for (program, expect) in table {
            let found = folders_of(Path::new(program), home);
            for path in expect {
                assert!(found.contains(&PathBuf::from(path)), "{program}: {found:?}");
            }
            assert!(!found.iter().any(|path| home.starts_with(path)), "{program}: {found:?}");
        }
    }
}
