//! One shared folder or file: what it consists of, and which request goes where.

use crate::allowance::Allowance;
use crate::handles::Handles;
use crate::locks::Locks;
use crate::nodes::{Kept, Key, Nodes, ROOT};
use crate::place::{Held, Object, find_below};
use crate::wire::{
    Body, Fields, Header, MAX_DATA, OUT_HEADER, Opcode, failure, finish, forget_file, forget_name,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The version of the protocol that is spoken: 7.38 of Linux 6.2, or the guest's own if it is older.
const MINOR: u32 = 38;
/// The oldest version that is spoken, of Linux 5.4.
const OLDEST_MINOR: u32 = 31;

/// How a folder is shared.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether writes are refused.
    pub readonly: bool,
    /// As whom the guest sees files of the user who runs this process: user and group.
    pub shown: (u32, u32),
    /// The permissions that the guest sees of all files, in place of their own.
    pub permissions: Option<u32>,
    /// How long the guest may believe what it has seen of names and attributes.
    pub fresh: Duration,
    /// Whether the guest keeps what it writes for a while, for a folder that nobody else changes.
    pub writeback: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readonly: false,
            shown: (0, 0),
            permissions: None,
            fresh: Duration::from_secs(1),
            writeback: false,
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer has been written.
    Given,
    /// None is waited for.
    None,
    /// A lock that another holds: the same request is to be tried again later, or refused with
    /// [`crate::failure`] once the guest takes it back.
    Later,
}

/// A folder or a file of the host, as one guest sees it.
pub struct Share {
    root: OwnedFd,
    /// The one name in `root` that is shared, when it is not all of it.
    file: Option<Vec<u8>>,
    pub(crate) options: Options,
    pub(crate) owner: (u32, u32),
    pub(crate) device: u64,
    pub(crate) allowance: Arc<dyn Allowance>,
    nodes: Mutex<Nodes>,
    handles: Mutex<Handles>,
    locks: Mutex<Locks>,
    is_revoked: AtomicBool,
    /// The version that the guest speaks, once it has said so.
    minor: AtomicU32,
}

/// What the guest knew of a share at one moment.
pub struct Moment {
    nodes: Kept,
    handles: Handles,
}

impl Moment {
    /// Both of two moments, of which this is the later one.
    pub fn join(&mut self, earlier: Self) {
        self.nodes.join(earlier.nodes);
        self.handles.join(earlier.handles);
    }
}

impl Share {
    /// Shares a folder, or a single file.
    ///
    /// # Errors
    /// The place cannot be opened, is neither a folder nor a file, or this kernel has no `openat2`.
    pub fn open(
        path: &Path,
        options: Options,
        allowance: Arc<dyn Allowance>,
    ) -> std::io::Result<Self> {
        // The user's own path may lead through links, up to the place that it names now.
        let path = path.canonicalize()?;
        let metadata = path.symlink_metadata()?;
        let (folder, file) = if metadata.is_dir() {
            (path.as_path(), None)
        } else if metadata.is_file() {
            let name = path.file_name().map(OsStr::as_bytes).ok_or(Errno::INVAL)?;
            (path.parent().ok_or(Errno::INVAL)?, Some(name.to_vec()))
        } else {
            let words = "it is neither a folder nor a file";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, words));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(folder, flags, Mode::empty())?;
        let found = find_below(root.as_fd(), file.as_deref().unwrap_or(b"."))?;
        Ok(Self {
            nodes: Mutex::new(Nodes::new(Key::from_stat(&found.stat), Arc::clone(&allowance))),
            device: found.stat.st_dev,
            root,
            file,
            options,
            owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            allowance,
            handles: Default::default(),
            locks: Default::default(),
            is_revoked: AtomicBool::new(false),
            minor: AtomicU32::new(0),
        })
    }

    /// Whether it is a single file.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Takes the share back: from here on each request is refused, and what the guest had open is
    /// closed.
    pub fn revoke(&self) {
        self.is_revoked.store(true, Ordering::SeqCst);
        self.forget_all();
    }

    /// What the guest knows and has open now, for a guest that may go back to this moment. It stays
    /// open for as long as this is kept.
    pub fn moment(&self) -> Moment {
        let nodes = self.nodes().keep(Arc::clone(&self.allowance));
        Moment { nodes, handles: self.handles().clone() }
    }

    /// Goes back with a guest that went back in time. Locks of ranges that it held are lost.
    pub fn restore(&self, moment: &Moment) {
        *self.locks() = Locks::default();
        self.nodes().restore(&moment.nodes);
        self.handles().restore(&moment.handles);
    }

    /// What the guest's kernel has to forget, message by message: what it believes without asking and
    /// the host has changed since.
    pub fn changes(&self) -> Vec<Vec<u8>> {
        let believed = self.nodes().believed(self.options.fresh);
        let mut messages = Vec::new();
        for number in believed {
            let found = self.object(number);
            let mut nodes = self.nodes();
            let is_known = found.as_ref().is_ok_and(|object| nodes.is_known(number, &object.stat));
            if !is_known {
                nodes.doubt(number);
                messages.push(forget_file(number));
            }
            // It is not where the guest has seen it.
            if !matches!(found, Ok(Object { fd: Held::Own(_), .. }))
                && let Some((parent, name)) = nodes.latest_name(number)
            {
                messages.push(forget_name(parent, &name));
            }
        }
        messages
    }

    /// Whether the guest believes anything without asking.
    pub fn is_believed(&self) -> bool {
        self.nodes().is_believed()
    }

    /// The message that has the guest's kernel forget what it knows of a file that it has locked, when
    /// the host has changed the file since.
    pub fn change_of_locked(&self, request: &[u8]) -> Option<Vec<u8>> {
        let (header, body) = Header::read(request)?;
        let is_lock = matches!(header.opcode, Some(Opcode::Setlk | Opcode::Setlkw));
        let handle = if is_lock { { body }.u64().ok()? } else { return None };
        let file = self.handles().file(handle).ok()?;
        let stat = fstat(&file).ok()?;
        let is_known = self.nodes().is_known(header.node, &stat);
        (!is_known).then(|| forget_file(header.node))
    }

    fn forget_all(&self) {
        *self.locks() = Locks::default();
        *self.handles() = Handles::default();
        self.nodes().clear();
    }

    pub(crate) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn locks(&self) -> MutexGuard<'_, Locks> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request. The answer is appended.
    pub fn answer(&self, request: &[u8], answer: &mut Vec<u8>) -> Answer {
        let Some((header, body)) = Header::read(request) else { return Answer::None };
        if self.is_revoked.load(Ordering::SeqCst) {
            let given = failure(request, libc::ENOTCONN, answer);
            return if given { Answer::Given } else { Answer::None };
        }
        let start = answer.len();
        answer.zeros(OUT_HEADER);
        let error = match self.dispatch(&header, body, answer) {
            Ok(()) => 0,
            Err(Refusal::Later) => {
                answer.truncate(start);
                return Answer::Later;
            }
            Err(Refusal::Error(errno)) => {
                answer.truncate(start + OUT_HEADER);
                -errno.raw_os_error()
            }
        };
        if header.opcode.is_some_and(Opcode::is_silent) {
            answer.truncate(start);
            return Answer::None;
        }
        // A request that was under way while the share was taken back leaves nothing open.
        if self.is_revoked.load(Ordering::SeqCst) {
            self.forget_all();
        }
        finish(answer, start, header.unique, error);
        Answer::Given
    }

    fn dispatch(&self, header: &Header, body: Body<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let node = header.node;
        let Some(opcode) = header.opcode else { return Err(Errno::NOSYS.into()) };
        match opcode {
            Opcode::Init => self.init(body, out)?,
            Opcode::Destroy => self.forget_all(),
            Opcode::Forget => {
                let count = { body }.u64()?;
                self.nodes().forget(node, count);
            }
            Opcode::BatchForget => self.forget_many(body)?,
            Opcode::Interrupt => {}
            Opcode::Lookup => self.lookup(node, body, out)?,
            Opcode::Getattr => self.getattr(node, body, out)?,
            Opcode::Setattr => self.setattr(node, body, out)?,
            Opcode::Readlink => self.readlink(node, out)?,
            Opcode::Symlink => self.symlink(node, body, out)?,
            Opcode::Mknod => self.mknod(node, body, out)?,
            Opcode::Mkdir => self.mkdir(node, body, out)?,
            Opcode::Unlink => self.remove(node, body, false)?,
            Opcode::Rmdir => self.remove(node, body, true)?,
            Opcode::Rename => self.rename(node, body, false)?,
            Opcode::Rename2 => self.rename(node, body, true)?,
            Opcode::Link => self.link(node, body, out)?,
            Opcode::Create => self.create(node, body, out)?,
            Opcode::Tmpfile => self.tmpfile(node, body, out)?,
            Opcode::Open => self.open_file(node, body, out)?,
            Opcode::Read => self.read(body, out)?,
            Opcode::Write => self.write(node, body, out)?,
            Opcode::Flush => self.flush(node, body)?,
            Opcode::Release | Opcode::Releasedir => self.release(body)?,
            Opcode::Fsync | Opcode::Fsyncdir => self.fsync(body)?,
            Opcode::Lseek => self.lseek(body, out)?,
            Opcode::Fallocate => self.fallocate(body)?,
            Opcode::CopyFileRange => self.copy(body, out)?,
            Opcode::Statfs => self.statfs(out)?,
            Opcode::Opendir => self.open_folder(node, out)?,
            Opcode::Readdir => self.list(node, body, out, false)?,
            Opcode::Readdirplus => self.list(node, body, out, true)?,
            Opcode::Getlk => self.get_lock(node, body, out)?,
            Opcode::Setlk => self.set_lock(node, body, false)?,
            Opcode::Setlkw => self.set_lock(node, body, true)?,
            Opcode::Getxattr => self.get_attribute(node, body, out)?,
            Opcode::Setxattr => self.set_attribute(node, body)?,
            Opcode::Listxattr => self.list_attributes(node, body, out)?,
            Opcode::Removexattr => self.remove_attribute(node, body)?,
        }
        Ok(())
    }

    /// Agrees on a version and on what both sides can do.
    fn init(&self, mut body: Body<'_>, out: &mut Vec<u8>) -> Result<(), Errno> {
        let (major, minor) = (body.u32()?, body.u32()?);
        let (readahead, flags) = (body.u32()?, body.u32()?);
        if major != 7 || minor < OLDEST_MINOR {
            return Err(Errno::PROTO);
        }
        self.minor.store(minor, Ordering::Relaxed);
        let mut wanted = flag::ASYNC_READ
            | flag::POSIX_LOCKS
            | flag::ATOMIC_O_TRUNC
            | flag::BIG_WRITES
            | flag::FLOCK_LOCKS
            | flag::AUTO_INVAL_DATA
            | flag::DO_READDIRPLUS
            | flag::READDIRPLUS_AUTO
            | flag::ASYNC_DIO
            | flag::PARALLEL_DIROPS
            | flag::MAX_PAGES
            | flag::HANDLE_KILLPRIV_V2;
        if self.options.writeback {
            wanted |= flag::WRITEBACK_CACHE;
        }
        out.u32(7);
        out.u32(minor.min(MINOR));
        out.u32(readahead);
        out.u32(flags & wanted);
        // Requests of the guest's kernel itself that may be under way: at most, and before it waits.
        out.u16(64);
        out.u16(48);
        out.u32(MAX_DATA as u32);
        // Times are exact to the nanosecond.
        out.u32(1);
        out.u16((MAX_DATA / 4096) as u16);
        out.zeros(34);
        Ok(())
    }

    fn forget_many(&self, mut body: Body<'_>) -> Result<(), Errno> {
        let count = body.u32()?;
        body.skip(4)?;
        let mut nodes = self.nodes();
        for _ in 0..count {
            let (number, lookups) = (body.u64()?, body.u64()?);
            nodes.forget(number, lookups);
        }
        Ok(())
    }

    /// Whether a file that is new, or empty now, is written past the guest's cache. That saves its kernel
    /// a question for each file; from Linux 6.6 (7.39) on it keeps other views of the file true.
    pub(crate) fn writes_directly(&self) -> bool {
        const MINOR_THAT_KEEPS_VIEWS_TRUE: u32 = 39;
        let minor = self.minor.load(Ordering::Relaxed);
        !self.options.writeback && minor >= MINOR_THAT_KEEPS_VIEWS_TRUE
    }

    /// Finds what a number stands for, by its names; a file without any, as long as the guest has it
    /// open.
    pub(crate) fn object(&self, number: u64) -> Result<Object, Errno> {
        if number == ROOT
            && let Some(name) = &self.file
        {
            let found = find_below(self.root.as_fd(), name)?;
            // The host may have put another file in its place, as editors do.
            let key = Key::from_stat(&found.stat);
            if !key.is_file() {
                return Err(Errno::STALE);
            }
            self.nodes().set_root(key);
            return Ok(found);
        }
        let (key, paths) = {
            let mut nodes = self.nodes();
            (nodes.key(number)?, nodes.paths(number)?)
        };
        for path in paths {
            if let Ok(found) = find_below(self.root.as_fd(), &path)
                && Key::from_stat(&found.stat) == key
            {
                return Ok(found);
            }
        }
        let open = self.handles().for_node(number).ok_or(Errno::STALE)?;
        let stat = fstat(&open)?;
        Ok(Object { fd: Held::Open(open), stat })
    }

    /// The number of something that was found under a name. It counts as given. Where there is no memory
    /// for one more, others are forgotten.
    pub(crate) fn enter(&self, key: Key, parent: u64, name: &[u8]) -> Result<u64, Errno> {
        let entered = self.nodes().enter(key, parent, name);
        if entered != Err(Errno::NOMEM) {
            return entered;
        }
        let open = self.handles().nodes();
        let mut nodes = self.nodes();
        let _ = nodes.reclaim(|number| number == parent || open.contains(&number));
        nodes.enter(key, parent, name)
    }

    /// Finds a folder.
    pub(crate) fn folder(&self, number: u64) -> Result<Object, Errno> {
        let found = self.object(number)?;
        if found.is_folder() { Ok(found) } else { Err(Errno::NOTDIR) }
    }

    /// Refuses what changes anything in a share that is read-only.
    pub(crate) fn check_writable(&self) -> Result<(), Errno> {
        if self.options.readonly { Err(Errno::ROFS) } else { Ok(()) }
    }
}

/// Why a request has no result.
pub(crate) enum Refusal {
    Error(Errno),
    Later,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

/// Has files of the calling thread come with the mode that they are made with: the guest has taken
/// its own mask off already. Other threads of the process keep theirs.
///
/// # Errors
/// What the kernel says to `unshare`.
pub fn own_umask() -> std::io::Result<()> {
    // SAFETY: the calling thread alone gets a copy of its file system attributes.
    if unsafe { libc::unshare(libc::CLONE_FS) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    rustix::process::umask(Mode::empty());
    Ok(())
}

mod flag {
    pub(super) const ASYNC_READ: u32 = 1 << 0;
    pub(super) const POSIX_LOCKS: u32 = 1 << 1;
    pub(super) const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub(super) const BIG_WRITES: u32 = 1 << 5;
    pub(super) const FLOCK_LOCKS: u32 = 1 << 10;
    pub(super) const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub(super) const DO_READDIRPLUS: u32 = 1 << 13;
    pub(super) const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub(super) const ASYNC_DIO: u32 = 1 << 15;
    pub(super) const WRITEBACK_CACHE: u32 = 1 << 16;
    pub(super) const PARALLEL_DIROPS: u32 = 1 << 18;
    pub(super) const MAX_PAGES: u32 = 1 << 22;
    pub(super) const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
}
