//! Files that appear whole, and what is swept of those that never did.

use super::*;
use cap_std::ambient_authority;
use std::io::Write as _;
use std::path::Path;

const PREFIX: &str = ".quicksand-test-";

fn open(folder: &Path) -> Dir {
    Dir::open_ambient_dir(folder, ambient_authority()).unwrap()
}

/// A named pipe, on macOS too.
pub(crate) fn make_pipe(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the path ends with a NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Both ways to make one.
fn made(dir: &Dir, is_named: bool) -> NewFile {
    let file = match is_named {
        true => NewFile::create_named(dir, PREFIX),
        false => NewFile::create(dir, PREFIX),
    };
    file.unwrap()
}

#[test]
fn a_file_appears_whole_and_replaces_only_when_it_is_asked_to() {
    for is_named in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let dir = open(folder.path());
        let at = |name: &str| folder.path().join(name);
        let mut one = made(&dir, is_named);
        one.file().write_all(b"one").unwrap();
        let mut reopened = one.reopened().unwrap();
        assert_eq!(io::read_to_string(&mut reopened).unwrap(), "one");
        assert!(reopened.write_all(b"x").is_err());
        // The folder of the tests is on a file system that has files without names.
        assert_eq!(names(folder.path()).len(), usize::from(is_named));
        one.place(&dir, OsStr::new("x")).unwrap();
        drop(one);
        assert_eq!(names(folder.path()), ["x"]);
        let mut two = made(&dir, is_named);
        two.file().write_all(b"two").unwrap();
        let error = two.place(&dir, OsStr::new("x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs_err::read(at("x")).unwrap(), b"one");
        two.replace(&dir, OsStr::new("x")).unwrap();
        assert_eq!(fs_err::read(at("x")).unwrap(), b"two");
        drop(two);
        // What stands in the way of a replacement is not ours to remove.
        fs_err::create_dir_all(at("folder/full")).unwrap();
        let mut three = made(&dir, is_named);
        assert!(three.replace(&dir, OsStr::new("folder")).is_err());
        drop(three);
        drop(made(&dir, is_named));
        assert_eq!(names(folder.path()), ["folder", "x"], "named: {is_named}");
    }
}

#[test]
fn what_nobody_holds_is_swept_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs_err::write(elsewhere.path().join("kept"), "kept").unwrap();
    let dir = open(folder.path());
    let at = |name: &str| folder.path().join(format!("{PREFIX}{name}"));
    let [file, tree, link, pipe, other] =
        ["0000000000000001", "0000000000000002", "0000000000000003", "0000000000000004", "notes"];
    fs_err::write(at(file), "left").unwrap();
    fs_err::create_dir_all(at(tree).join("a/b")).unwrap();
    fs_err::write(at(tree).join("a/b/c"), "left").unwrap();
    set_mode((&open(&at(tree)), OsStr::new("a")), 0o500).unwrap();
    fs_err::os::unix::fs::symlink(elsewhere.path(), at(link)).unwrap();
    make_pipe(&at(pipe));
    fs_err::write(at(other), "notes").unwrap();
    let working = made(&dir, true);
    let (at_work, lock) = make_hidden_folder(&dir, PREFIX).unwrap();
    sweep(&dir, PREFIX);
    let mut left = vec![
        at_work.to_str().unwrap().to_owned(),
        working.beside.as_ref().unwrap().1.to_str().unwrap().to_owned(),
        format!("{PREFIX}{link}"),
        format!("{PREFIX}{pipe}"),
        format!("{PREFIX}{other}"),
    ];
    left.sort();
    assert_eq!(names(folder.path()), left);
    assert_eq!(fs_err::read(elsewhere.path().join("kept")).unwrap(), b"kept");
    drop((working, lock));
    sweep(&dir, PREFIX);
    assert_eq!(names(folder.path()).len(), 3);
}

/// On file systems whose kernel code cannot rename without replacing.
#[test]
fn a_name_is_claimed_before_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let dir = open(folder.path());
    let at = |name: &str| folder.path().join(name);
    let name = OsStr::new;
    for kind in ["file", "folder", "link"] {
        let make = |name: &str| match kind {
            "file" => fs_err::write(at(name), name).unwrap(),
            "folder" => fs_err::create_dir(at(name)).unwrap(),
            _ => fs_err::os::unix::fs::symlink("nowhere", at(name)).unwrap(),
        };
        make("new");
        claim_and_rename((&dir, name("new")), (&dir, name(kind))).unwrap();
        assert!(fs_err::symlink_metadata(at("new")).is_err());
        make("second");
        let error = claim_and_rename((&dir, name("second")), (&dir, name(kind))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{kind}");
        assert!(fs_err::symlink_metadata(at("second")).is_ok());
        remove_tree(&dir, name("second")).or_else(|_| dir.remove_file("second")).unwrap();
    }
    assert_eq!(fs_err::read(at("file")).unwrap(), b"new");
    assert!(at("folder").is_dir());
    assert_eq!(fs_err::read_link(at("link")).unwrap(), Path::new("nowhere"));
}
