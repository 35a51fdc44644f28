//! What a share does, request by request, as a guest's kernel would send them; and what it refuses.

use crate::wire::{Body, Fields as _, IN_HEADER, OUT_HEADER, Opcode};
use crate::{Allowance, Answer, Options, Permit, Share};
use fs_err::os::unix::fs::symlink;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// An allowance that counts.
pub(crate) struct Plenty {
    descriptors: Arc<AtomicUsize>,
    memory: Arc<AtomicUsize>,
    max_memory: usize,
    max_descriptors: usize,
}

impl Default for Plenty {
    fn default() -> Self {
        Self::with_memory(1 << 20)
    }
}

impl Plenty {
    pub(crate) fn with_memory(max_memory: usize) -> Self {
        let (descriptors, memory) = Default::default();
        Self { descriptors, memory, max_memory, max_descriptors: 16 }
    }

    pub(crate) fn held(&self) -> (usize, usize) {
        (self.descriptors.load(Ordering::SeqCst), self.memory.load(Ordering::SeqCst))
    }
}

struct Counted(Arc<AtomicUsize>, usize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

fn count(counter: &Arc<AtomicUsize>, number: usize, most: usize) -> Option<Permit> {
    if counter.load(Ordering::SeqCst) + number > most {
        return None;
    }
    counter.fetch_add(number, Ordering::SeqCst);
    Some(Box::new(Counted(Arc::clone(counter), number)))
}

impl Allowance for Plenty {
    fn descriptor(&self) -> Option<Permit> {
        count(&self.descriptors, 1, self.max_descriptors)
    }

    fn memory(&self, bytes: usize) -> Option<Permit> {
        count(&self.memory, bytes, self.max_memory)
    }
}

/// A folder and the share of it.
struct Guest {
    folder: tempfile::TempDir,
    share: Share,
}

impl Guest {
    fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let share = Share::open(folder.path(), options, Arc::new(Plenty::default())).unwrap();
        Self { folder, share }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, opcode: Opcode, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        ask(&self.share, opcode, node, body)
    }

    fn look(&self, parent: u64, name: &str) -> Result<u64, i32> {
        Ok(number(&self.ask(Opcode::Lookup, parent, &text(name))?))
    }

    fn open(&self, node: u64, flags: i32) -> Result<u64, i32> {
        let mut body = Vec::new();
        body.u32(flags as u32);
        body.u32(0);
        Ok(number(&self.ask(Opcode::Open, node, &body)?))
    }

    fn read(&self, handle: u64, size: u32) -> Result<Vec<u8>, i32> {
        let mut body = Vec::new();
        body.u64(handle);
        body.u64(0);
        body.u32(size);
        body.zeros(20);
        self.ask(Opcode::Read, 1, &body)
    }

    fn write(&self, file: (u64, u64), flags: i32, data: &[u8]) -> Result<Vec<u8>, i32> {
        let mut body = Vec::new();
        body.u64(file.1);
        body.u64(0);
        body.u32(data.len() as u32);
        body.zeros(12);
        body.u32(flags as u32);
        body.u32(0);
        body.extend_from_slice(data);
        self.ask(Opcode::Write, file.0, &body)
    }

    fn create(&self, parent: u64, name: &str, mode: u32) -> Result<(u64, u64), i32> {
        let mut body = Vec::new();
        body.u32(libc::O_RDWR as u32);
        body.u32(mode);
        body.zeros(8);
        body.extend(text(name));
        let answer = self.ask(Opcode::Create, parent, &body)?;
        Ok((number(&answer), number(&answer[128..])))
    }

    fn lock(&self, opcode: Opcode, node: u64, lock: (u64, u64), kind: i32) -> Result<Answer, i32> {
        let mut body = Vec::new();
        body.u64(lock.0);
        body.u64(lock.1);
        body.u64(10);
        body.u64(19);
        body.u32(kind as u32);
        body.zeros(12);
        let mut answer = Vec::new();
        let outcome = self.share.answer(&request(opcode, node, &body), &mut answer);
        match outcome {
            Answer::Given => result(&answer).map(|_| outcome),
            outcome => Ok(outcome),
        }
    }
}

fn request(opcode: Opcode, node: u64, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.u32((IN_HEADER + body.len()) as u32);
    request.u32(opcode as u32);
    request.u64(42);
    request.u64(node);
    request.zeros(16);
    request.extend_from_slice(body);
    request
}

fn result(answer: &[u8]) -> Result<Vec<u8>, i32> {
    let length = u32::from_le_bytes(answer[..4].try_into().unwrap());
    assert_eq!(length as usize, answer.len());
    assert_eq!(answer[8..16], 42u64.to_le_bytes());
    match i32::from_le_bytes(answer[4..8].try_into().unwrap()) {
        0 => Ok(answer[OUT_HEADER..].to_vec()),
        error => Err(-error),
    }
}

fn ask(share: &Share, opcode: Opcode, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
    let mut answer = Vec::new();
    assert_eq!(share.answer(&request(opcode, node, body), &mut answer), Answer::Given);
    result(&answer)
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn number(bytes: &[u8]) -> u64 {
    Body::new(bytes).u64().unwrap()
}

#[test]
fn files_are_made_written_and_read() {
    let guest = Guest::new(Options::default());
    let (node, handle) = guest.create(1, "run.sh", 0o755).unwrap();
    guest.write((node, handle), 0, b"#!/bin/sh").unwrap();
    assert_eq!(fs_err::read(guest.path("run.sh")).unwrap(), b"#!/bin/sh");
    assert_eq!(guest.path("run.sh").metadata().unwrap().mode() & 0o111, 0o111);
    // Appending has no place of its own: the host writes in between.
    fs_err::write(guest.path("run.sh"), "host").unwrap();
    guest.write((node, handle), libc::O_APPEND, b"+guest").unwrap();
    assert_eq!(guest.read(handle, 100).unwrap(), b"host+guest");
    assert_eq!(guest.look(1, "run.sh").unwrap(), node);
    // A file without a name is there as long as it is open.
    guest.ask(Opcode::Unlink, 1, &text("run.sh")).unwrap();
    assert!(!guest.path("run.sh").exists());
    guest.ask(Opcode::Getattr, node, &[0; 16]).unwrap();
    assert_eq!(guest.read(handle, 4).unwrap(), b"host");
    guest.ask(Opcode::Release, node, &[&handle.to_le_bytes()[..], &[0; 16]].concat()).unwrap();
    assert_eq!(guest.ask(Opcode::Getattr, node, &[0; 16]), Err(libc::ESTALE));
    assert_eq!(guest.read(handle, 4), Err(libc::EBADF));
}

#[test]
fn links_of_the_host_lead_nowhere() {
    let guest = Guest::new(Options::default());
    let outside = tempfile::tempdir().unwrap();
    fs_err::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), guest.path("out")).unwrap();
    fs_err::create_dir(guest.path("folder")).unwrap();
    fs_err::write(guest.path("folder/file"), "inside").unwrap();
    let link = guest.look(1, "out").unwrap();
    let target = guest.ask(Opcode::Readlink, link, b"").unwrap();
    assert_eq!(target, outside.path().as_os_str().as_encoded_bytes());
    assert_eq!(guest.look(link, "secret"), Err(libc::ENOTDIR));
    assert_eq!(guest.open(link, 0), Err(libc::ELOOP));
    for name in ["..", ".", "", "../x", "/etc", "folder/file"] {
        assert_eq!(guest.look(1, name), Err(libc::EINVAL), "{name}");
    }
    // The host puts a link where the guest has seen a folder.
    let folder = guest.look(1, "folder").unwrap();
    let file = guest.look(folder, "file").unwrap();
    fs_err::remove_dir_all(guest.path("folder")).unwrap();
    symlink(outside.path(), guest.path("folder")).unwrap();
    assert_eq!(guest.look(folder, "secret"), Err(libc::ESTALE));
    assert_eq!(guest.open(file, 0), Err(libc::ESTALE));
    // Deleting reaches the link.
    guest.ask(Opcode::Unlink, 1, &text("folder")).unwrap();
    assert!(outside.path().join("secret").exists());
}

#[test]
fn a_hard_link_of_a_link_is_one_of_the_link() {
    let guest = Guest::new(Options::default());
    symlink("nowhere", guest.path("a")).unwrap();
    let link = guest.look(1, "a").unwrap();
    let body = [&link.to_le_bytes()[..], &text("b")].concat();
    guest.ask(Opcode::Link, 1, &body).unwrap();
    assert_eq!(fs_err::read_link(guest.path("b")).unwrap().to_str(), Some("nowhere"));
}

#[test]
fn no_privilege_comes_from_a_guest() {
    let guest = Guest::new(Options::default());
    let (node, _) = guest.create(1, "a", 0o6755).unwrap();
    let mode = |name: &str| guest.path(name).symlink_metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("a"), 0o755);
    let mut body = vec![0; 88];
    body[0] = 1;
    body[68..72].copy_from_slice(&0o106_711u32.to_le_bytes());
    guest.ask(Opcode::Setattr, node, &body).unwrap();
    assert_eq!(mode("a"), 0o711);
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        let mut body = Vec::new();
        body.u32(kind | 0o666);
        body.u32(0x103);
        body.zeros(8);
        body.extend(text("device"));
        assert_eq!(guest.ask(Opcode::Mknod, 1, &body), Err(libc::EPERM));
    }
    assert!(!guest.path("device").exists());
    // A file of the host's that has such a bit loses it when the guest writes to it.
    fs_err::write(guest.path("b"), "").unwrap();
    fs_err::set_permissions(guest.path("b"), PermissionsExt::from_mode(0o4755)).unwrap();
    let node = guest.look(1, "b").unwrap();
    let mut body = Vec::new();
    body.u32((libc::O_WRONLY | libc::O_TRUNC) as u32);
    body.u32(1);
    guest.ask(Opcode::Open, node, &body).unwrap();
    assert_eq!(mode("b"), 0o755);
}

#[test]
fn read_only_is_read_only() {
    let guest = Guest::new(Options { readonly: true, ..Options::default() });
    fs_err::write(guest.path("a"), "a").unwrap();
    let node = guest.look(1, "a").unwrap();
    let handle = guest.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(handle, 9).unwrap(), b"a");
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC] {
        assert_eq!(guest.open(node, flags), Err(libc::EROFS));
    }
    for opcode in [
        Opcode::Setattr,
        Opcode::Symlink,
        Opcode::Mknod,
        Opcode::Mkdir,
        Opcode::Unlink,
        Opcode::Rmdir,
        Opcode::Rename,
        Opcode::Rename2,
        Opcode::Link,
        Opcode::Create,
        Opcode::Tmpfile,
        Opcode::Write,
        Opcode::Fallocate,
        Opcode::CopyFileRange,
        Opcode::Setxattr,
        Opcode::Removexattr,
    ] {
        let body = [&handle.to_le_bytes()[..], &[0; 40], b"a\0b\0"].concat();
        assert_eq!(guest.ask(opcode, 1, &body), Err(libc::EROFS), "{opcode:?}");
    }
    assert_eq!(fs_err::read(guest.path("a")).unwrap(), b"a");
}

#[test]
fn one_file_is_shared_and_what_is_beside_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.conf");
    fs_err::write(&path, "one").unwrap();
    fs_err::write(folder.path().join("other"), "secret").unwrap();
    let share = Share::open(&path, Options::default(), Arc::new(Plenty::default())).unwrap();
    let read = || {
        let handle = ask(&share, Opcode::Open, 1, &[0; 8])?;
        let body = [&handle[..8], &[0; 8], &9u32.to_le_bytes(), &[0; 20]].concat();
        ask(&share, Opcode::Read, 1, &body)
    };
    assert!(share.is_file());
    assert_eq!(read().unwrap(), b"one");
    assert_eq!(ask(&share, Opcode::Lookup, 1, b"other\0"), Err(libc::ENOTDIR));
    assert_eq!(ask(&share, Opcode::Opendir, 1, &[0; 8]), Err(libc::ENOTDIR));
    // An editor puts a new file in its place.
    fs_err::write(folder.path().join("new"), "two").unwrap();
    fs_err::rename(folder.path().join("new"), &path).unwrap();
    assert_eq!(read().unwrap(), b"two");
    fs_err::remove_file(&path).unwrap();
    symlink("other", &path).unwrap();
    assert_eq!(read(), Err(libc::ESTALE));
}

#[test]
fn what_is_open_is_counted_and_closed_by_the_host() {
    let allowance = Arc::new(Plenty::default());
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a"), "a").unwrap();
    let share = Share::open(folder.path(), Options::default(), allowance.clone()).unwrap();
    let node = number(&ask(&share, Opcode::Lookup, 1, b"a\0").unwrap());
    for _ in 0..16 {
        ask(&share, Opcode::Open, node, &[0; 8]).unwrap();
    }
    assert_eq!(ask(&share, Opcode::Open, node, &[0; 8]), Err(libc::ENFILE));
    assert_eq!(allowance.held().0, 16);
    share.revoke();
    assert_eq!(allowance.held(), (0, 0));
    assert_eq!(ask(&share, Opcode::Getattr, 1, &[0; 16]), Err(libc::ENOTCONN));
}

#[test]
fn long_lists_come_in_portions_without_gaps() {
    let guest = Guest::new(Options::default());
    for index in 0..1000 {
        fs_err::write(guest.path(&format!("file-{index}")), "").unwrap();
    }
    for (opcode, head) in [(Opcode::Readdir, 0), (Opcode::Readdirplus, 128)] {
        let handle = number(&guest.ask(Opcode::Opendir, 1, &[0; 8]).unwrap());
        let (mut names, mut offset) = (Vec::new(), 0u64);
        loop {
            let mut body = Vec::new();
            body.u64(handle);
            body.u64(offset);
            body.u32(4096);
            body.zeros(20);
            let answer = guest.ask(opcode, 1, &body).unwrap();
            let mut rest = &answer[..];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let mut entry = Body::new(&rest[head..]);
                entry.u64().unwrap();
                offset = entry.u64().unwrap();
                let length = entry.u32().unwrap() as usize;
                entry.u32().unwrap();
                let name = String::from_utf8(entry.data(length).unwrap().to_vec()).unwrap();
                let is_told = head > 0 && !name.starts_with('.');
                assert_eq!(head > 0 && number(rest) != 0, is_told, "{name}");
                names.push(name);
                rest = &rest[(head + 24 + length).next_multiple_of(8)..];
            }
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1002, "{opcode:?}");
    }
}

#[test]
fn locks_hold_between_owners_and_against_the_host() {
    let guest = Guest::new(Options::default());
    let (node, handle) = guest.create(1, "db", 0o644).unwrap();
    let (write, unlock) = (libc::F_WRLCK, libc::F_UNLCK);
    assert_eq!(guest.lock(Opcode::Setlk, node, (handle, 1), write), Ok(Answer::Given));
    // The same owner again, and one kind in the place of the other.
    assert_eq!(guest.lock(Opcode::Setlk, node, (handle, 1), libc::F_RDLCK), Ok(Answer::Given));
    assert_eq!(guest.lock(Opcode::Setlk, node, (handle, 1), write), Ok(Answer::Given));
    assert_eq!(guest.lock(Opcode::Setlk, node, (handle, 2), write), Err(libc::EAGAIN));
    assert_eq!(guest.lock(Opcode::Setlkw, node, (handle, 2), write), Ok(Answer::Later));
    let host = fs_err::File::options().write(true).open(guest.path("db")).unwrap();
    let try_lock = || rustix::fs::fcntl_lock(&host, FlockOperation::NonBlockingLockExclusive);
    use rustix::fs::FlockOperation;
    assert!(try_lock().is_err());
    assert_eq!(guest.lock(Opcode::Setlk, node, (handle, 1), unlock), Ok(Answer::Given));
    try_lock().unwrap();
    assert_eq!(guest.lock(Opcode::Setlk, node, (handle, 2), write), Err(libc::EAGAIN));
    rustix::fs::fcntl_lock(&host, FlockOperation::Unlock).unwrap();
    assert_eq!(guest.lock(Opcode::Setlkw, node, (handle, 2), write), Ok(Answer::Given));
    // Closing lets go.
    let body = [&handle.to_le_bytes()[..], &[0; 8], &2u64.to_le_bytes()].concat();
    guest.ask(Opcode::Flush, node, &body).unwrap();
    try_lock().unwrap();
}

#[test]
fn the_hosts_renames_are_followed_and_lost_ones_are_looked_up_again() {
    let guest = Guest::new(Options::default());
    fs_err::create_dir(guest.path("a")).unwrap();
    fs_err::write(guest.path("a/file"), "text").unwrap();
    let folder = guest.look(1, "a").unwrap();
    let file = guest.look(folder, "file").unwrap();
    fs_err::rename(guest.path("a"), guest.path("b")).unwrap();
    assert_eq!(guest.open(file, 0), Err(libc::ESTALE));
    assert_eq!(guest.look(1, "b").unwrap(), folder);
    guest.open(file, 0).unwrap();
    // The guest's own renames need no look.
    let body = [&1u64.to_le_bytes()[..], b"b\0c\0"].concat();
    guest.ask(Opcode::Rename, 1, &body).unwrap();
    guest.open(file, 0).unwrap();
}

#[test]
fn a_change_by_the_host_is_sent_once_and_one_by_the_guest_is_not() {
    let guest = Guest::new(Options { fresh: Duration::from_secs(600), ..Options::default() });
    let (node, handle) = guest.create(1, "own", 0o644).unwrap();
    for name in ["changed", "moved", "replaced", "same"] {
        fs_err::write(guest.path(name), "old").unwrap();
        guest.look(1, name).unwrap();
    }
    guest.write((node, handle), 0, b"by the guest").unwrap();
    assert!(guest.share.changes().is_empty());
    // The kernel's clock of files ticks every few milliseconds.
    std::thread::sleep(Duration::from_millis(20));
    fs_err::write(guest.path("changed"), "new").unwrap();
    fs_err::rename(guest.path("moved"), guest.path("elsewhere")).unwrap();
    fs_err::write(guest.path("new"), "new").unwrap();
    fs_err::rename(guest.path("new"), guest.path("replaced")).unwrap();
    let messages = guest.share.changes();
    let codes: Vec<u8> = messages.iter().map(|message| message[4]).collect();
    assert_eq!(codes.iter().filter(|code| **code == 2).count(), 3, "{messages:?}");
    assert_eq!(codes.iter().filter(|code| **code == 3).count(), 2, "{messages:?}");
    let names = messages.iter().filter(|message| message[4] == 3).map(|message| &message[32..]);
    let mut names: Vec<&[u8]> = names.collect();
    names.sort();
    assert_eq!(names, [&b"moved\0"[..], b"replaced\0"]);
    assert!(guest.share.changes().is_empty(), "each is sent once");
    // Of a file that the guest has open as well.
    fs_err::write(guest.path("own"), "by the host").unwrap();
    assert_eq!(guest.share.changes().len(), 1);
    assert_eq!(guest.ask(Opcode::Getattr, node, &[0; 16]).unwrap().len(), 104);
}

#[test]
fn owners_and_permissions_are_shown_as_the_options_say() {
    let (uid, gid) = (1234, 5678);
    let options = Options { shown: (uid, gid), permissions: Some(0o750), ..Options::default() };
    let guest = Guest::new(options);
    let (node, _) = guest.create(1, "a", 0o604).unwrap();
    let answer = guest.ask(Opcode::Getattr, node, &[0; 16]).unwrap();
    let mut attributes = Body::new(&answer);
    attributes.skip(16 + 60).unwrap();
    assert_eq!(attributes.u32().unwrap(), libc::S_IFREG | 0o750);
    attributes.skip(4).unwrap();
    assert_eq!((attributes.u32().unwrap(), attributes.u32().unwrap()), (uid, gid));
    assert_eq!(guest.path("a").metadata().unwrap().mode() & 0o777, 0o604);
}

#[test]
fn a_guest_that_looks_at_more_than_it_has_memory_for_goes_on() {
    const N_FILES: usize = 4000;
    let allowance = Arc::new(Plenty::with_memory(64 << 10));
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("many")).unwrap();
    fs_err::write(folder.path().join("open"), "text").unwrap();
    for index in 0..N_FILES {
        fs_err::write(folder.path().join(format!("many/{index}")), index.to_string()).unwrap();
    }
    let share = Share::open(folder.path(), Options::default(), allowance.clone()).unwrap();
    let guest = Guest { folder, share };
    let open = guest.look(1, "open").unwrap();
    let handle = guest.open(open, libc::O_RDONLY).unwrap();
    let many = guest.look(1, "many").unwrap();
    let numbers: Vec<u64> =
        (0..N_FILES).map(|index| guest.look(many, &index.to_string()).unwrap()).collect();
    assert!(allowance.held().1 <= 64 << 10);
    assert_eq!(guest.ask(Opcode::Getattr, numbers[0], &[0; 16]), Err(libc::ESTALE));
    // The guest's kernel looks again, and finds it by another number.
    let again = guest.look(many, "0").unwrap();
    assert_ne!(again, numbers[0]);
    let handle_again = guest.open(again, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(handle_again, 9).unwrap(), b"0");
    assert_eq!(guest.open(*numbers.last().unwrap(), libc::O_RDONLY).map(|_| ()), Ok(()));
    // What is open has its number still.
    guest.ask(Opcode::Getattr, open, &[0; 16]).unwrap();
    assert_eq!(guest.read(handle, 9).unwrap(), b"text");
}

#[test]
fn new_files_that_are_only_written_need_no_cache() {
    const DIRECT_IO: u8 = 1;
    for (minor, writeback, expect) in [(38, false, 0), (39, false, DIRECT_IO), (40, true, 0)] {
        let guest = Guest::new(Options { writeback, ..Options::default() });
        let mut body = Vec::new();
        [7, minor, 0, u32::MAX].into_iter().for_each(|word| body.u32(word));
        guest.ask(Opcode::Init, 0, &body).unwrap();
        let open_flags = |name: &str, flags: i32| {
            let mut body = Vec::new();
            [flags as u32, 0o644, 0, 0].into_iter().for_each(|word| body.u32(word));
            body.extend(text(name));
            guest.ask(Opcode::Create, 1, &body).unwrap()[128 + 8] & DIRECT_IO
        };
        assert_eq!(open_flags("new", libc::O_WRONLY), expect);
        assert_eq!(open_flags("to map", libc::O_RDWR), 0);
        fs_err::write(guest.path("old"), "text").unwrap();
        let node = guest.look(1, "old").unwrap();
        for (flags, expect) in [(libc::O_WRONLY, 0), (libc::O_WRONLY | libc::O_TRUNC, expect)] {
            let body = [&(flags as u32).to_le_bytes()[..], &[0; 4]].concat();
            let answer = guest.ask(Opcode::Open, node, &body).unwrap();
            assert_eq!(answer[8] & DIRECT_IO, expect, "{flags:o}");
        }
    }
}
