//! What the other process does: it waits for the end of the first, and removes a file or a tree.
//!
//! System calls alone, on memory of its own stack. See the invariant of the module above.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, RawDir, SeekFrom, chmodat, openat, renameat, seek, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// What the other process is given.
pub(super) struct Order {
    /// The first process, as a descriptor that tells of its end.
    pub(super) parent: RawFd,
    /// A pipe: a byte says that there is nothing to remove.
    pub(super) wait: RawFd,
    /// The folder that the name is in.
    pub(super) folder: RawFd,
    pub(super) name: CString,
}

/// Bytes for the entries of a folder that are read at once.
const ENTRIES: usize = 4096;
/// How often another name is tried for a folder that is moved.
const TRIES: u32 = 1000;

/// The whole life of the other process.
pub(super) extern "C" fn run(order: *mut libc::c_void) -> libc::c_int {
    // SAFETY: whoever starts this process keeps the order until it has ended.
    let order = unsafe { &*order.cast::<Order>() };
    // A terminal's signals and those to a group are not meant for it, nor does it hold a folder in use.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir(c"/");
    let _ = rustix::thread::set_name(c"quicksand-tidy");
    // SAFETY: the descriptors were open when this process was made, and it has copies of its own.
    let [parent, wait, folder] = [order.parent, order.wait, order.folder]
        .map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    let are_moved = rustix::stdio::dup2_stdin(parent).is_ok()
        && rustix::stdio::dup2_stdout(wait).is_ok()
        && rustix::stdio::dup2_stderr(folder).is_ok();
    if !are_moved {
        return 0;
    }
    close_others();
    // SAFETY: the three that were just made.
    let [parent, wait, folder] = [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    if is_left(parent, wait) {
        remove(folder, &order.name);
    }
    0
}

/// Closes all but the first three descriptors: files, sockets and locks are this process's no longer.
fn close_others() {
    // SAFETY: nothing in this process uses them; the first call fails with `errno` alone before Linux
    // 5.9, for an instant of a thread that has just started this process and does not look at it.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) == 0 {
            return;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        for number in 3..limit.current.unwrap_or(1 << 16).min(1 << 16) as RawFd {
            rustix::io::close(number);
        }
    }
}

/// Waits, and says whether the first process ended before it had removed what it made.
fn is_left(parent: BorrowedFd, wait: BorrowedFd) -> bool {
    let mut ends = [PollFd::new(&parent, PollFlags::IN), PollFd::new(&wait, PollFlags::IN)];
    loop {
        match poll(&mut ends, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    // It may have said so and ended then. An end without a word may also be that of an exec.
    let mut word = [MaybeUninit::uninit(); 1];
    let has_word = ends[1].revents().contains(PollFlags::IN);
    !(has_word && rustix::io::read(wait, &mut word).is_ok_and(|(word, _)| !word.is_empty()))
}

/// Removes a file, or a folder with all that is in it, however deep it is: what is in a folder of the
/// root is removed or moved up into the root, until the root is empty.
fn remove(folder: BorrowedFd, name: &CStr) {
    let Found::Folder(root) = take(folder, name) else { return };
    let mut n_moved = 0;
    // A pass without any progress is the last one, and so is that through an empty root.
    while has_progress(root.as_fd(), &mut n_moved) {}
    let _ = unlinkat(folder, name, AtFlags::REMOVEDIR);
}

/// What became of a name.
enum Found {
    /// It was a file or a link, and is gone.
    Removed,
    /// It is a folder, whose modes allow to empty it.
    Folder(OwnedFd),
    /// It stays.
    Refused,
}

fn take(folder: BorrowedFd, name: &CStr) -> Found {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => return Found::Removed,
        Err(Errno::ISDIR) => {}
        Err(_) => return Found::Refused,
    }
    let _ = chmodat(folder, name, Mode::RWXU, AtFlags::empty());
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty()).map_or(Found::Refused, Found::Folder)
}

/// Goes once through the root, and says whether anything was removed or moved.
fn has_progress(root: BorrowedFd, n_moved: &mut u64) -> bool {
    let mut has_progress = false;
    let _ = seek(root, SeekFrom::Start(0));
    each(root, |name| {
        match take(root, name) {
            Found::Removed => has_progress = true,
            Found::Refused => {}
            Found::Folder(folder) => {
                let mut next = Some(folder);
                // One that was moved is gone on with at once, down to the lowest.
                while let Some(inner) = next.take() {
                    each(inner.as_fd(), |name| match take(inner.as_fd(), name) {
                        Found::Removed => has_progress = true,
                        Found::Refused => {}
                        Found::Folder(below) => {
                            if is_moved_up(inner.as_fd(), name, root, n_moved) {
                                has_progress = true;
                                next = Some(below);
                            }
                        }
                    });
                }
                has_progress |= unlinkat(root, name, AtFlags::REMOVEDIR).is_ok();
            }
        }
    });
    has_progress
}

/// Moves a folder into the root, under a name that none has there.
fn is_moved_up(from: BorrowedFd, name: &CStr, root: BorrowedFd, n_moved: &mut u64) -> bool {
    const LAST: usize = 17;
    for _ in 0..TRIES {
        // A character that names hardly begin with, a number in 16 letters, and the end.
        let mut free = [b'a'; LAST + 1];
        free[0] = 1;
        free[LAST] = 0;
        for (place, letter) in free[1..LAST].iter_mut().enumerate() {
            *letter += (*n_moved >> (4 * place) & 0xf) as u8;
        }
        *n_moved += 1;
        let Ok(free) = CStr::from_bytes_with_nul(&free) else { return false };
        if renameat(from, name, root, free).is_ok() {
            return true;
        }
    }
    false
}

/// Calls for each name in a folder.
fn each(folder: BorrowedFd, mut call: impl FnMut(&CStr)) {
    let mut entries = [MaybeUninit::<u8>::uninit(); ENTRIES];
    let mut entries = RawDir::new(folder, &mut entries);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if name != c"." && name != c".." {
            call(name);
        }
    }
}
