//! What is left of a tree when the process that made it is killed, and when it is not.

use super::*;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

const CHILD: &str = "QUICKSAND_TEST_KILLED_MAKER";

fn open(folder: &Path) -> Dir {
    Dir::open_ambient_dir(folder, ambient_authority()).unwrap()
}

/// Folders in folders, more than a path can name, without the right to look into them; many files; links;
/// names like those that the remover gives.
fn make_tree(folder: &Path, depth: u32) {
    let (root, elsewhere) = (folder.join("tree"), folder.join("elsewhere"));
    fs_err::create_dir(&root).unwrap();
    let mut here = open(&root);
    for level in 0..depth {
        here.create_dir("d").unwrap();
        here.write(format!("f{level}"), "x").unwrap();
        here = here.open_dir("d").unwrap();
    }
    for number in 0..2000 {
        fs_err::write(root.join(format!("file {number}")), "x").unwrap();
    }
    for name in ["\u{1}aaaaaaaaaaaaaaaa", "\u{1}baaaaaaaaaaaaaaa"] {
        fs_err::create_dir_all(root.join(name).join("in/side")).unwrap();
    }
    fs_err::os::unix::fs::symlink(&elsewhere, root.join("link")).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    fs_err::set_permissions(root.join("d"), closed).unwrap();
}

/// Not a test by itself: the process that the next test kills.
#[test]
fn killed_maker() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let folder = Path::new(&folder);
    let remover = Remover::for_folder(&open(folder), OsStr::new("tree")).unwrap();
    make_tree(folder, 1000);
    // Whoever has inherited what this process had open does not keep the other one waiting.
    // SAFETY: the child makes system calls alone.
    if unsafe { libc::fork() } == 0 {
        // SAFETY: as above; the alarm ends it.
        unsafe {
            libc::alarm(20);
            libc::pause();
            libc::_exit(0);
        }
    }
    // SAFETY: a signal to oneself.
    unsafe { libc::raise(libc::SIGKILL) };
    drop(remover);
}

#[test]
fn what_a_killed_process_made_is_gone_soon() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("elsewhere")).unwrap();
    fs_err::write(folder.path().join("elsewhere/kept"), "kept").unwrap();
    // Runs this very test program again, which no wrapper of ours is for.
    #[allow(clippy::disallowed_methods)]
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "remover::tests::killed_maker", "--test-threads=1"])
        .env(CHILD, folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{ended:?}");
    let soon = Instant::now() + Duration::from_secs(20);
    while folder.path().join("tree").exists() {
        assert!(Instant::now() < soon, "it is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs_err::read(folder.path().join("elsewhere/kept")).unwrap(), b"kept");
}

#[test]
fn a_process_that_goes_on_keeps_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let remover = Remover::for_folder(&open(folder.path()), OsStr::new("tree")).unwrap();
    fs_err::create_dir(folder.path().join("elsewhere")).unwrap();
    make_tree(folder.path(), 3);
    // A forked copy that drops its own says nothing to the other process.
    // SAFETY: the child drops a value that does nothing there, and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(remover);
        // SAFETY: a plain system call.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: it is our own child, which nobody else waits for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    drop(remover);
    assert!(folder.path().join("tree/file 1999").exists());
}
