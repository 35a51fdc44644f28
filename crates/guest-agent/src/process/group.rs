//! Control groups of commands, so that a timeout reaches descendants that left the process group.
//!
//! A group costs a folder in cgroup2, which is slow to make and to remove, so that empty ones are
//! used again, but never one that was killed: kernels from 6.14 on, and stable ones that took the
//! same change, compare a counter of kills of the child's group with that of its parent's, and a
//! process that is cloned into a group with a kill in its past dies at birth. Where there is no cgroup2 the descendants are looked up in `/proc`: those that
//! stay in the session, and those whose parents lead to the command; one that both started a
//! session of its own and lost its parent is missed then.
//!
//! See <https://docs.kernel.org/admin-guide/cgroup-v2.html>, `cgroup.kill` and `cgroup.events`.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Empty groups that are kept for later commands; more are removed.
const KEPT: usize = 32;

/// Groups below one folder of cgroup2.
pub struct Groups {
    folder: Option<PathBuf>,
    released: RefCell<Vec<Group>>,
    /// Groups that were killed and still had a process when they were given back.
    dying: RefCell<Vec<Group>>,
    n_made: Cell<u64>,
}

/// The group of one command.
pub struct Group {
    folder: OwnedFd,
    events: OwnedFd,
    name: PathBuf,
    killed: Cell<bool>,
}

impl Groups {
    /// Groups below `root/quicksand`, which is made; the calling process moves into a leaf of it,
    /// so that an init that empties the root group does not sweep it up.
    ///
    /// Without cgroup2 at `root` there are no groups, which is no error.
    pub fn new(root: Option<&Path>) -> Self {
        let folder = root.and_then(|root| make_root(root).ok());
        let [released, dying] = [RefCell::default(), RefCell::default()];
        Self { folder, released, dying, n_made: Cell::new(0) }
    }

    /// An empty group, or none where the kernel has none to give.
    pub fn acquire(&self) -> Option<Group> {
        let folder = self.folder.as_deref()?;
        let mut released = self.released.borrow_mut();
        // The one that was given back last is nearly always empty.
        if let Some(index) = released.iter().rposition(Group::is_empty) {
            return Some(released.swap_remove(index));
        }
        loop {
            let number = self.n_made.get();
            self.n_made.set(number + 1);
            match Group::make(folder.join(format!("command-{number}"))) {
                // A group of an agent before this one, with a past that nobody knows.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.ok(),
            }
        }
    }

    /// Takes back the group of a command that has ended; descendants may still live in it.
    pub fn release(&self, group: Group) {
        // A group with processes in it cannot be removed and stays.
        let stays = |group: &Group| rustix::fs::rmdir(&group.name).is_err();
        let mut dying = self.dying.borrow_mut();
        if group.killed.get() {
            dying.push(group);
        } else {
            let mut released = self.released.borrow_mut();
            released.push(group);
            if released.len() > KEPT {
                released.retain(stays);
            }
        }
        dying.retain(stays);
    }
}

impl Group {
    fn make(name: PathBuf) -> io::Result<Self> {
        fs_err::create_dir(&name)?;
        let flags = OFlags::CLOEXEC | OFlags::RDONLY;
        let folder = rustix::fs::open(&name, flags | OFlags::DIRECTORY, Mode::empty())?;
        let events = rustix::fs::openat(&folder, "cgroup.events", flags, Mode::empty())?;
        Ok(Self { folder, events, name, killed: Cell::new(false) })
    }

    /// The folder, as clone3 wants it.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Kills every process of the group at once.
    ///
    /// # Errors
    /// Kernels before 5.14 have no `cgroup.kill`.
    pub fn kill(&self) -> io::Result<()> {
        self.killed.set(true);
        let file = rustix::fs::openat(
            &self.folder,
            "cgroup.kill",
            OFlags::CLOEXEC | OFlags::WRONLY,
            Mode::empty(),
        )?;
        rustix::io::write(&file, b"1")?;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        let mut buffer = [0; 64];
        let n_read = rustix::io::pread(&self.events, &mut buffer, 0).unwrap_or(0);
        buffer[..n_read].starts_with(b"populated 0\n")
    }
}

fn make_root(root: &Path) -> io::Result<PathBuf> {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    if rustix::fs::statfs(root)?.f_type as i64 != CGROUP2_SUPER_MAGIC {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let folder = root.join("quicksand");
    let agent = folder.join("agent");
    for folder in [&folder, &agent] {
        match fs_err::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // PID 1 stays where it is: systemd expects to find itself in the root group.
    if std::process::id() != 1 {
        fs_err::write(agent.join("cgroup.procs"), "0")?;
    }
    Ok(folder)
}

/// Kills the session that `leader` leads and all of its descendants, by what `/proc` says.
pub fn kill_tree(leader: i32) {
    // All are stopped before the first is killed: a parent must not see its child die and go on,
    // and children of the dead would be nobody's descendants.
    signal(-leader, libc::SIGSTOP);
    let mut stopped = HashSet::new();
    // A process can fork while the list is read: look again until nothing new is found.
    for _ in 0..8 {
        let mut members: HashSet<i32> = [leader].into();
        let processes = processes();
        loop {
            let before = members.len();
            for process in &processes {
                if members.contains(&process.parent) || process.session == leader {
                    members.insert(process.pid);
                }
            }
            if members.len() == before {
                break;
            }
        }
        members.retain(|pid| stopped.insert(*pid));
        if members.is_empty() {
            break;
        }
        for pid in members {
            signal(pid, libc::SIGSTOP);
        }
    }
    signal(-leader, libc::SIGKILL);
    for pid in stopped {
        signal(pid, libc::SIGKILL);
    }
}

/// Sends a signal to a process, or to a process group as a negative number. That it is gone
/// already is what the sender of a signal always has to expect.
pub fn signal(pid: i32, signal: i32) {
    if pid != 0 && pid != -1 {
        // SAFETY: no memory is involved; 0 and -1 would be ourselves and everybody.
        unsafe { libc::kill(pid, signal) };
    }
}

struct Entry {
    pid: i32,
    parent: i32,
    session: i32,
}

fn processes() -> Vec<Entry> {
    let Ok(folder) = fs_err::read_dir("/proc") else { return Vec::new() };
    folder
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            parse_stat(pid, &fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        })
        .collect()
}

/// Fields 4 and 6 of proc_pid_stat(5). The name in field 2 may hold spaces and parentheses.
fn parse_stat(pid: i32, stat: &str) -> Option<Entry> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Entry { pid, parent, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_shift_the_fields() {
        let entry = parse_stat(7, "7 (a) S 1 (b) x) S 5 6 4 0 -1").unwrap();
        assert_eq!((entry.pid, entry.parent, entry.session), (7, 5, 4));
        assert!(parse_stat(7, "7 (a) S").is_none());
        assert!(parse_stat(7, "").is_none());
    }

    #[test]
    fn a_folder_that_is_no_cgroup2_gives_no_groups() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Groups::new(Some(folder.path())).acquire().is_none());
        assert!(Groups::new(None).acquire().is_none());
    }
}
