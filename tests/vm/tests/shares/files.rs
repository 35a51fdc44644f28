//! Single files: attributes, mappings, holes, times, names and sizes.

use super::Place;
use std::os::unix::fs::MetadataExt as _;

#[test]
fn attributes_of_users_are_the_same_on_both_sides() {
    let place = Place::new("attributes");
    fs_err::write(place.host("file"), "text").unwrap();
    let set = "import os; os.setxattr('file', 'user.host', b'by the host')";
    if duct::cmd("python3", ["-c", set]).dir(&place.host).stderr_null().run().is_err() {
        eprintln!("skipped: the host's file system has no attributes of users");
        return;
    }
    place.python(
        r#"
import errno, os
assert os.listxattr("file") == ["user.host"], os.listxattr("file")
assert os.getxattr("file", "user.host") == b"by the host"
os.setxattr("file", "user.guest", bytes(range(256)) * 8)
os.setxattr("file", "user.empty", b"")
os.mkdir("folder"); os.setxattr("folder", "user.of a folder, ü", b"x")
os.removexattr("file", "user.host")
for name, flags, expect in [
    ("user.guest", os.XATTR_CREATE, errno.EEXIST),
    ("user.missing", os.XATTR_REPLACE, errno.ENODATA),
    ("security.other", 0, errno.EOPNOTSUPP),
    ("trusted.x", 0, errno.EOPNOTSUPP),
]:
    try:
        os.setxattr("file", name, b"x", flags)
        raise SystemExit(f"{name} was taken")
    except OSError as error:
        assert error.errno == expect, (name, error)
try:
    os.getxattr("file", "user.missing"); raise SystemExit("an attribute that is missing was read")
except OSError as error:
    assert error.errno == errno.ENODATA, error
"#,
    );
    let read = "import os; print(sorted(os.listxattr('file')), os.getxattr('file', 'user.guest') == bytes(range(256)) * 8, \
                os.listxattr('folder'))";
    let expect = "['user.empty', 'user.guest'] True ['user.of a folder, ü']";
    assert_eq!(place.on_host("python3", &["-c", read]), expect);
    assert_eq!(
        place.bash(
            "cp --preserve=xattr file copy; getfattr --version >/dev/null 2>&1 || true; echo ok"
        ),
        "ok"
    );
    let read = "import os; print(len(os.getxattr('copy', 'user.guest')))";
    assert_eq!(place.on_host("python3", &["-c", read]), "2048");
}

#[test]
fn mappings_see_and_are_what_others_write() {
    let place = Place::new("mappings");
    fs_err::write(place.host("map"), vec![b'.'; 20_000]).unwrap();
    place.python(
        r#"
import mmap, os
fd = os.open("map", os.O_RDWR)
shared = mmap.mmap(fd, 0)
private = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE)
private[0:7] = b"private"
shared[5000:5006] = b"shared"
shared.flush()
assert os.pread(fd, 6, 5000) == b"shared"
assert private[5000:5006] == b"shared" and shared[0:7] == b"." * 7
# Another process writes by its own descriptor; then one that makes the file empty and writes it anew.
if os.fork() == 0:
    other = os.open("map", os.O_WRONLY)
    os.pwrite(other, b"other", 9000)
    os._exit(0)
os.wait()
assert shared[9000:9005] == b"other", shared[9000:9005]
# A mapping of a file that is only just being written.
new = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
os.write(new, b"one" * 3000)
view = mmap.mmap(os.open("new", os.O_RDWR), 0)
assert view[8997:9000] == b"one"
os.pwrite(new, b"two", 8997)
assert view[8997:9000] == b"two", view[8997:9000]
view[0:5] = b"three"
os.pwrite(new, b"four", 10)
assert view[0:5] == b"three" and view[10:14] == b"four", view[:20]
view.flush()
with open("new", "rb") as file:
    assert file.read(14) == b"threeeoneofour"
"#,
    );
    let map = fs_err::read(place.host("map")).unwrap();
    assert_eq!(
        (&map[..7], &map[5000..5006], &map[9000..9005]),
        (&b"......."[..], &b"shared"[..], &b"other"[..])
    );
    let new = fs_err::read(place.host("new")).unwrap();
    assert_eq!((&new[..14], &new[8997..]), (&b"threeeoneofour"[..], &b"two"[..]));
    // A program of the host has written: a mapping of the next command has it.
    fs_err::write(place.host("map"), vec![b'!'; 20_000]).unwrap();
    assert_eq!(place.python("import mmap; file = open('map'); print(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[19990:].decode())"), "!".repeat(10));
}

#[test]
fn holes_times_sizes_and_names_are_a_disks() {
    let place = Place::new("single");
    place.python(
        r#"
import ctypes, errno, os
# Holes, beyond four gigabytes.
fd = os.open("holes", os.O_RDWR | os.O_CREAT, 0o600)
os.pwrite(fd, b"start", 0)
os.pwrite(fd, b"end", 6 << 30)
assert os.fstat(fd).st_size == (6 << 30) + 3 and os.fstat(fd).st_blocks < 64
hole = os.lseek(fd, 0, os.SEEK_HOLE)
assert 5 <= hole <= 65536, hole
data = os.lseek(fd, hole, os.SEEK_DATA)
assert (6 << 30) - 65536 <= data <= 6 << 30, data
os.posix_fallocate(fd, 1 << 20, 1 << 20)
assert os.fstat(fd).st_blocks >= 2048
os.truncate("holes", 5 << 30)
assert os.pread(fd, 10, 1 << 32) == bytes(10)
# Names.
longest = b"\xfe" * 255
for name in (longest, b"new\nline", b"*?:|<>\"\\", b" ", b"-rf", "ünï 漢 😀".encode(), b"a,b;c", b"trailing. "):
    with open(name, "wb") as file: file.write(name)
    os.stat(name)
try:
    open(longest + b"x", "wb"); raise SystemExit("a name of 256 bytes was taken")
except OSError as error:
    assert error.errno == errno.ENAMETOOLONG, error
# Times.
os.utime(b" ", ns=(1_000_000_001_000_000_002, -3_000_000_004))
assert os.stat(b" ").st_mtime_ns == -3_000_000_004
# O_EXCL, O_APPEND, rename over what is open.
try:
    os.open("holes", os.O_CREAT | os.O_EXCL | os.O_WRONLY); raise SystemExit("O_EXCL has no effect")
except FileExistsError:
    pass
log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(log, b"one")
with open("log", "ab") as other: other.write(b"two")
os.write(log, b"three")
os.pwrite(log, b"four", 0)
assert open("log").read() == "onetwothreefour"
open("old", "w").write("old"); held = open("old"); open("next", "w").write("next")
os.rename("next", "old")
assert held.read() == "old" and open("old").read() == "next"
assert os.fstat(held.fileno()).st_nlink == 0
# A file that has no name at all, and gets one.
fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
os.write(fd, b"unnamed")
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
link = ctypes.CDLL(None, use_errno=True).linkat
assert link(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, b"named", AT_SYMLINK_FOLLOW) == 0, ctypes.get_errno()
os.fsync(fd); os.fdatasync(fd)
folder = os.open(".", os.O_RDONLY); os.fsync(folder)
statvfs = os.statvfs(".")
print(statvfs.f_namemax, statvfs.f_frsize * statvfs.f_blocks)
"#,
    );
    let holes = place.host("holes").metadata().unwrap();
    assert_eq!((holes.len(), holes.mode() & 0o7777), (5 << 30, 0o600));
    assert!(holes.blocks() < 4096, "{}", holes.blocks());
    assert_eq!(place.host(" ").metadata().unwrap().mtime_nsec(), 999_999_996);
    assert_eq!(place.text("named"), "unnamed");
    let names: Vec<_> =
        fs_err::read_dir(&place.host).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let n_bytes =
        |wanted: &[u8]| names.iter().filter(|name| name.as_encoded_bytes() == wanted).count();
    for name in [&[0xfe; 255][..], b"new\nline", b"*?:|<>\"\\", "ünï 漢 😀".as_bytes()] {
        assert_eq!(n_bytes(name), 1);
    }
    let space = "import os; s = os.statvfs('.'); print(s.f_namemax, s.f_frsize * s.f_blocks)";
    assert_eq!(place.on_host("python3", &["-c", space]), place.python(space));
}

#[test]
fn locks_keep_processes_of_the_guest_apart() {
    let place = Place::new("locks");
    place.python(
        r#"
import fcntl, os, signal, struct
def child(work):
    pid = os.fork()
    if pid == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def can(lock):
    def work():
        file = open("db", "r+b")
        try:
            lock(file)
            return 1
        except BlockingIOError:
            return 0
    return child(work)
open("db", "wb").write(bytes(100))
file = open("db", "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
assert not can(lambda f: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB))
fcntl.flock(file, fcntl.LOCK_SH)
assert can(lambda f: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB))
fcntl.flock(file, fcntl.LOCK_UN)
assert can(lambda f: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB))
now = fcntl.LOCK_EX | fcntl.LOCK_NB
fcntl.lockf(file, fcntl.LOCK_EX, 10, 20)
assert not can(lambda f: fcntl.lockf(f, now, 1, 29))
assert can(lambda f: fcntl.lockf(f, now, 1, 30)) and can(lambda f: fcntl.lockf(f, now, 20, 0))
fcntl.lockf(file, fcntl.LOCK_UN, 5, 22)
assert can(lambda f: fcntl.lockf(f, now, 5, 22)) and not can(lambda f: fcntl.lockf(f, now, 6, 22))
# Any descriptor of the file that its process closes lets go, as POSIX has it.
for mode in ("r+b", "rb"):
    fcntl.lockf(file, fcntl.LOCK_EX)
    assert not can(lambda f: fcntl.lockf(f, now))
    open("db", mode).close()
    assert can(lambda f: fcntl.lockf(f, now)), mode
# One that is open for writing alone, as `open(path, "w")` has it.
lock = open("lock", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
def other():
    try:
        fcntl.lockf(open("lock", "a"), now)
        return 1
    except BlockingIOError:
        return 0
assert child(other) == 0
keeper_read, keeper_write = os.pipe()
keeper = os.fork()
if keeper == 0:
    os.close(keeper_write); os.read(keeper_read, 1); os._exit(0)
lock.close()
assert child(other) == 1, "a lock outlives the descriptor because a child has a copy of it"
os.write(keeper_write, b"x"); os.waitpid(keeper, 0)
# A process that is killed holds nothing.
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    held = open("db", "r+b"); fcntl.lockf(held, fcntl.LOCK_EX); os.write(write, b"x"); signal.pause()
os.read(read, 1)
assert not can(lambda f: fcntl.lockf(f, now))
os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
assert can(lambda f: fcntl.lockf(f, now))
"#,
    );
}

#[test]
fn watchers_hear_what_the_guest_does() {
    let place = Place::new("watched");
    // inotify(7) by its calls: what the guide says of watchers.
    let heard = place.python(
        r#"
import ctypes, os, select, struct
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(os.O_NONBLOCK)
assert libc.inotify_add_watch(fd, b".", 0x100 | 0x200 | 0x2 | 0x80) > 0
open("made", "w").write("x"); os.rename("made", "moved"); os.remove("moved")
assert select.select([fd], [], [], 1)[0]
print(len(os.read(fd, 4096)) > 3 * 16)
"#,
    );
    assert_eq!(heard, "True");
}
