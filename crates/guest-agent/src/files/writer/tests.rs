//! What a transfer leaves in the guest, and what it refuses to write through.

use super::*;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

fn entry(path: &str, kind: EntryKind, mode: u32) -> FileEntry {
    FileEntry { mode: Some(mode), target: Some("x".into()), ..FileEntry::new(path, kind) }
}

fn begin(path: &Path, name: Option<&str>) -> Result<Writer> {
    let path = path.as_os_str().as_bytes().into();
    Writer::new(&WriteFilesRequest { path, name: name.map(Into::into) })
}

fn write(path: &Path, content: &[u8], mode: Option<u32>) -> Result<()> {
    let mut writer = begin(path, None)?;
    writer.entry(&FileEntry { mode, ..FileEntry::new("", EntryKind::File) })?;
    writer.data(content)?;
    writer.finish().map(|_| ())
}

fn mode(path: &Path) -> u32 {
    fs_err::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let all = fs_err::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        all.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_is_written_with_its_modes_and_times() {
    const THEN: i64 = 1_000_000_000_123_456_789;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("new/tree");
    let mut writer = begin(&root, None).unwrap();
    let at = |entry| FileEntry { mtime_ns: Some(THEN), ..entry };
    writer.entry(&at(entry("", EntryKind::Folder, 0o500))).unwrap();
    writer.entry(&at(entry("a", EntryKind::File, 0o750))).unwrap();
    writer.data(b"one ").unwrap();
    writer.data(b"two").unwrap();
    writer.entry(&at(entry("d", EntryKind::Folder, 0o1755))).unwrap();
    writer.entry(&at(entry("d/b", EntryKind::File, 0o600))).unwrap();
    writer.hole(1 << 20).unwrap();
    writer.entry(&at(entry("l", EntryKind::Link, 0o777))).unwrap();
    writer.entry(&at(entry("l", EntryKind::Link, 0o777))).unwrap();
    assert!(writer.data(b"stray").is_err());
    let written = writer.finish().unwrap();
    assert_eq!(written, WriteFilesResponse { n_files: 2, n_bytes: 7 + (1 << 20) });
    assert_eq!(fs_err::read(root.join("a")).unwrap(), b"one two");
    let b = fs_err::metadata(root.join("d/b")).unwrap();
    assert_eq!((b.len(), b.blocks()), (1 << 20, 0));
    for (path, expect) in [("a", 0o750), ("", 0o500), ("d", 0o1755), ("d/b", 0o600)] {
        assert_eq!(mode(&root.join(path)), expect, "{path}");
        let metadata = fs_err::metadata(root.join(path)).unwrap();
        let time = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
        assert_eq!(time, THEN, "{path}");
    }
    assert_eq!(fs_err::read_link(root.join("l")).unwrap(), Path::new("x"));
    assert_eq!(fs_err::symlink_metadata(root.join("l")).unwrap().mtime(), THEN / 1_000_000_000);
    assert_eq!(names(&root), ["a", "d", "l"]);
    fs_err::set_permissions(&root, PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_folder_that_is_there_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::set_permissions(folder.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let mut writer = begin(folder.path(), None).unwrap();
    writer.entry(&entry("", EntryKind::Folder, 0o700)).unwrap();
    writer.entry(&entry("f", EntryKind::File, 0o600)).unwrap();
    writer.finish().unwrap();
    assert_eq!(mode(folder.path()), 0o1777);
}

#[test]
fn a_file_goes_into_a_folder_under_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begin(folder.path(), Some("f")).unwrap();
    writer.entry(&FileEntry::new("", EntryKind::File)).unwrap();
    writer.data(b"x").unwrap();
    writer.finish().unwrap();
    assert_eq!(fs_err::read(folder.path().join("f")).unwrap(), b"x");
    assert_eq!(mode(&folder.path().join("f")), 0o644);
    // Without a name of its own it has no place there.
    let error = write(folder.path(), b"x", None).unwrap_err();
    assert!(error.to_string().contains("directory"), "{error}");
}

#[test]
fn a_path_out_of_the_tree_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begin(&folder.path().join("t"), None).unwrap();
    for path in ["../out", "/out", "a/../../out", "a"] {
        assert!(writer.entry(&entry(path, EntryKind::File, 0o600)).is_err(), "{path}");
    }
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_file_is_replaced_in_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    fs_err::write(&path, "old").unwrap();
    fs_err::set_permissions(&path, PermissionsExt::from_mode(0o4640)).unwrap();
    let reader = fs_err::File::open(&path).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&path, Some(1234), Some(1235)).unwrap();
    }

    let mut writer = begin(&path, None).unwrap();
    writer.entry(&FileEntry::new("", EntryKind::File)).unwrap();
    writer.data(b"new").unwrap();
    assert_eq!(fs_err::read(&path).unwrap(), b"old", "seen before it was whole");
    writer.finish().unwrap();
    assert_eq!(fs_err::read(&path).unwrap(), b"new");
    // Owner and permissions stay; the right to run as the owner was the old content's.
    let metadata = fs_err::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    if is_root {
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 1235));
    }
    assert_eq!(reader.metadata().unwrap().len(), 3);
    write(&path, b"", Some(0o4755)).unwrap();
    assert_eq!(mode(&path), 0o4755);

    // A transfer that is broken off changes nothing and leaves nothing.
    let mut writer = begin(&path, None).unwrap();
    writer.entry(&FileEntry::new("", EntryKind::File)).unwrap();
    writer.data(b"half").unwrap();
    drop(writer);
    assert_eq!(fs_err::read(&path).unwrap(), b"");
    assert_eq!(names(folder.path()), ["f"]);
}

#[test]
fn what_is_no_file_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, words) in [(&*pipe, "pipe"), (&socket, "socket"), (Path::new("/dev/null"), "device")]
    {
        let error = write(path, b"x", None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(names(folder.path()), ["pipe", "socket"]);
}

#[test]
fn links_of_others_are_not_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs_err::write(&secret, "kept").unwrap();
    let link = folder.path().join("out");
    fs_err::os::unix::fs::symlink(&secret, &link).unwrap();
    // Root's own link is one way to the file.
    write(&link, b"by the link", None).unwrap();
    assert_eq!(fs_err::read(&secret).unwrap(), b"by the link");
    assert!(fs_err::symlink_metadata(&link).unwrap().is_symlink());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
        let error = write(&link, b"x", None).unwrap_err();
        assert!(matches!(error, Error::ForeignLink { uid: 1234, .. }), "{error}");
        // The same for a link in a tree that is there.
        for relative in ["out", "out/f"] {
            let mut writer = begin(folder.path(), None).unwrap();
            writer.entry(&entry("", EntryKind::Folder, 0o755)).unwrap();
            writer.entry(&entry("first", EntryKind::File, 0o600)).unwrap();
            let error = writer.entry(&entry(relative, EntryKind::File, 0o600)).unwrap_err();
            assert!(matches!(error, Error::ForeignLink { .. }), "{relative}: {error}");
        }
        assert_eq!(fs_err::read(&secret).unwrap(), b"by the link");
    }
}

#[test]
fn files_of_the_kernel_are_written_where_they_are() {
    // The name of this thread: an interface that takes a write and has no place beside it.
    let path = "/proc/thread-self/comm";
    write(Path::new(path), b"written", None).unwrap();
    assert_eq!(fs_err::read(path).unwrap(), b"written\n");
    assert!(write(Path::new("/proc/version"), b"x", None).is_err());
    assert!(write(Path::new("/proc/no-such-file"), b"x", None).is_err());
}

#[test]
fn names_that_are_not_utf_8_are_written_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begin(folder.path(), None).unwrap();
    writer.entry(&FileEntry::new("", EntryKind::Folder)).unwrap();
    writer.entry(&FileEntry::new(&b"d\xff"[..], EntryKind::Folder)).unwrap();
    writer.entry(&FileEntry::new(&b"d\xff/a\xfe\x1b"[..], EntryKind::File)).unwrap();
    writer.finish().unwrap();
    let path = folder.path().join(OsStr::from_bytes(b"d\xff/a\xfe\x1b"));
    assert!(path.exists());
}
