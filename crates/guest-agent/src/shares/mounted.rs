//! One mounted share: its `/dev/fuse`, and the thread that takes the kernel's requests from it.
//!
//! The connection to the kernel ends when the last descriptor of it is closed. The thread holds one
//! while it waits in a read, so that it is woken by a signal to end.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use agent_protocol::share_frame::{HEAD, MAX_SHARE_MESSAGE};
use rustix::fs::{Dev, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::FsOpenFlags;

use super::line::Line;
use super::own_answers::OwnAnswers;

const DEVICE: &str = "/dev/fuse";
/// Wakes a thread from its read. Nobody else sends it, and by itself it does nothing.
const WAKE: i32 = libc::SIGURG;
/// How often a thread is woken until it has seen why.
const WAKE_PAUSE: Duration = Duration::from_millis(2);
/// Requests that wait for no answer: two that forget, and the one that interrupts.
const SILENT: [u32; 3] = [2, 36, 42];

/// A share that is mounted.
pub struct Mounted {
    /// Gone once the share has ended.
    device: Mutex<Option<Arc<OwnedFd>>>,
    target: PathBuf,
    has_ended: AtomicBool,
    /// The thread, for as long as it runs.
    thread: Mutex<Option<libc::pthread_t>>,
    /// Requests that the host has not answered yet.
    n_open: AtomicU64,
}

/// Opens the kernel's end, loading the module first where it is missing.
pub fn open_device() -> Result<OwnedFd, Errno> {
    let open = || rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {}
        result => return result,
    }
    // To ask for the file system is to have the kernel look for its module.
    drop(rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?);
    if let Err(Errno::NOENT) = open() {
        let (mode, number) = (Mode::from_raw_mode(0o666), rustix::fs::makedev(10, 229));
        let _ = make_node(mode, number);
    }
    open()
}

fn make_node(mode: Mode, number: Dev) -> Result<(), Errno> {
    rustix::fs::mknodat(rustix::fs::CWD, DEVICE, FileType::CharacterDevice, mode, number)
}

impl Mounted {
    /// A share with its own descriptor of the kernel's end.
    pub fn new(device: OwnedFd, target: &Path) -> Arc<Self> {
        Arc::new(Self {
            device: Mutex::new(Some(Arc::new(device))),
            target: target.to_owned(),
            has_ended: AtomicBool::new(false),
            thread: Mutex::new(None),
            n_open: AtomicU64::new(0),
        })
    }

    /// Where it is mounted.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Whether it is mounted there.
    pub fn is_at(&self, target: &Path) -> bool {
        self.target == target
    }

    fn device(&self) -> Option<Arc<OwnedFd>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel has none to give.
    pub fn serve(self: &Arc<Self>, share: u32, line: &Arc<Line>) -> std::io::Result<()> {
        let (mounted, line) = (Arc::clone(self), Arc::clone(line));
        let thread = std::thread::Builder::new().name(format!("share-{share}"));
        thread.spawn(move || {
            // SAFETY: a thread may ask for its own number.
            let own = unsafe { libc::pthread_self() };
            *mounted.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
            mounted.take_requests(share, &line);
            *mounted.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
            mounted.close();
            line.ended(share, &mounted);
        })?;
        Ok(())
    }

    fn take_requests(&self, share: u32, line: &Line) {
        let Some(device) = self.device() else { return };
        let (mut own, mut answer) = (OwnAnswers::default(), Vec::new());
        let mut message = vec![0; HEAD + MAX_SHARE_MESSAGE];
        while !self.has_ended.load(Ordering::SeqCst) {
            let length = match rustix::io::read(&device, &mut message[HEAD..]) {
                Ok(0) | Err(Errno::NODEV) => return,
                Ok(length) => length,
                // The request was taken back before it was read.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => continue,
                Err(_) => return,
            };
            let request = &message[HEAD..HEAD + length];
            let opcode = request.get(4..).and_then(|bytes| bytes.first_chunk());
            let opcode = opcode.map(|word| u32::from_le_bytes(*word));
            if !opcode.is_some_and(|opcode| SILENT.contains(&opcode)) {
                self.n_open.fetch_add(1, Ordering::SeqCst);
            }
            if let Some(known) = own.answer(request) {
                self.answer(&known);
                continue;
            }
            match line.ask(share, &mut message[..HEAD + length], &mut answer) {
                // Nothing is said to what waits for no answer.
                Ok(true) if !answer.is_empty() => self.answer(&answer),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Gives an answer of the host, or a word of its own, to the kernel. What it does not wait for
    /// any more it refuses, which is no matter.
    pub fn answer(&self, message: &[u8]) {
        let Some(device) = self.device() else { return };
        let unique = message.get(8..16).unwrap_or_default();
        if unique.iter().any(|byte| *byte != 0) {
            let less = |open: u64| open.checked_sub(1);
            let _ = self.n_open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
        let _ = rustix::io::write(device, message);
    }

    /// Has the kernel send again what was not answered in the past that the guest comes from. A
    /// kernel that cannot (before 6.9) would wait for ever: its share ends if anything was open.
    pub fn resend(&self, message: &[u8]) {
        let Some(device) = self.device() else { return };
        let n_open = self.n_open.swap(0, Ordering::SeqCst);
        if rustix::io::write(device, message).is_err() && n_open > 0 {
            self.end();
        }
    }

    /// Ends the share: everybody who uses it gets errors.
    pub fn end(&self) {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(|| {
            extern "C" fn nothing(_: i32) {}
            // SAFETY: the handler does nothing, and without flags a read that it interrupts returns.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = nothing as *const () as usize;
                libc::sigaction(WAKE, &action, std::ptr::null_mut());
            }
        });
        self.has_ended.store(true, Ordering::SeqCst);
        self.close();
        // A signal may come the moment before the thread begins to read.
        loop {
            {
                let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(thread) = *thread else { return };
                // SAFETY: the thread runs for as long as its number is there, and takes the number
                // away under the same lock.
                unsafe { libc::pthread_kill(thread, WAKE) };
            }
            std::thread::sleep(WAKE_PAUSE);
        }
    }

    fn close(&self) {
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
