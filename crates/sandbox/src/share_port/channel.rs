//! The port that carries the requests of mounted shares, and the thread that answers them.
//!
//! Owns the way of the messages: which share answers, who waits for a lock, what goes to a thread of
//! its own because it may take long, and how both sides begin again after the guest went back in time.
//! Where there is a window, most requests come and are answered there (`asked`), on a thread beside.
//! What a message says is `share_server`'s business. The guest is believed nothing: a message that is
//! too long ends the channel, one for a share that there is not is refused, and what waits is bounded.

mod past;

use super::asked::Asked;
use super::echoes::{Echo, Echoes};
use super::moments::Moments;
use super::waiting::Waiting;
use super::window::Window;
use crate::error::{Error, Result};
use agent_protocol::resync::{ANSWER_LEN, NONCE_LEN, Secret};
use agent_protocol::share_frame::{ECHO, HEAD, Next, head, next};
use share_server::{Answer, Share};
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Bytes that are read at a time.
const PORTION: usize = 256 << 10;
/// Threads for requests that may take long, and how many of these wait for one.
const N_WORKERS: usize = 4;
const QUEUE: usize = 64;
/// How long a call waits for the guest to see what the host has changed.
const REFRESH_TIME: Duration = Duration::from_millis(500);

/// The channel of one machine. It ends with this value.
pub(crate) struct Channel(Arc<Inner>);

/// QEMU's ends of a channel.
pub(crate) struct Theirs {
    pub port: OwnedFd,
    pub window: Option<OwnedFd>,
}

pub(super) struct Inner {
    socket: UnixStream,
    /// QEMU's own end, to take back what was sent to a past that is gone.
    theirs: OwnedFd,
    secret: Secret,
    shares: RwLock<HashMap<u32, Arc<Share>>>,
    writing: Mutex<()>,
    /// Counts new beginnings. What was asked before the last one is not answered any more.
    epoch: AtomicU64,
    /// While it is there everything is thrown away up to it.
    expected: Mutex<Option<[u8; ANSWER_LEN]>>,
    /// The number of a new beginning that has not been asked for yet.
    nonce: Mutex<Option<[u8; NONCE_LEN]>>,
    found: Condvar,
    pub(super) waiting: Waiting,
    echoes: Echoes,
    workers: Mutex<Option<SyncSender<Job>>>,
    is_running: Mutex<bool>,
    pub(super) asked: Option<Asked>,
}

/// A request on its way to an answer.
pub(super) struct Job {
    pub id: u32,
    pub share: Arc<Share>,
    pub request: Vec<u8>,
    pub epoch: u64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    /// A channel, with a window if QEMU can show one to the guest. Nothing runs before the first share.
    pub(crate) fn pair(token: &str, has_window: bool) -> Result<(Self, Theirs)> {
        let failed = |source| Error::System { action: "make a channel for shares", source };
        let (socket, port) = UnixStream::pair().map_err(failed)?;
        let theirs = port.try_clone().map_err(failed)?;
        let window = has_window.then(Window::new).transpose().map_err(failed)?;
        let (window, their_window) = window.unzip();
        let channel = Self::new(socket, theirs.into(), window, token);
        Ok((channel, Theirs { port: port.into(), window: their_window }))
    }

    fn new(socket: UnixStream, theirs: OwnedFd, window: Option<Window>, token: &str) -> Self {
        Self(Arc::new(Inner {
            socket,
            theirs,
            asked: window.map(Asked::new),
            secret: Secret::new(token.as_bytes()),
            shares: Default::default(),
            writing: Default::default(),
            epoch: AtomicU64::new(0),
            expected: Default::default(),
            nonce: Default::default(),
            found: Condvar::new(),
            waiting: Default::default(),
            echoes: Default::default(),
            workers: Default::default(),
            is_running: Mutex::new(false),
        }))
    }

    /// Whether there has been a share.
    pub(crate) fn is_running(&self) -> bool {
        *lock(&self.0.is_running)
    }

    fn run(&self) -> Result<()> {
        let mut is_running = lock(&self.0.is_running);
        if !*is_running {
            let inner = Arc::clone(&self.0);
            spawn("quicksand-shares", move || inner.serve())?;
            if self.0.asked.is_some() {
                let inner = Arc::clone(&self.0);
                spawn("quicksand-window", move || super::asked::serve(&inner))?;
            }
            *is_running = true;
        }
        Ok(())
    }

    /// Answers the requests of a share from here on.
    pub(crate) fn add(&self, id: u32, share: Arc<Share>) -> Result<()> {
        self.run()?;
        self.0.shares.write().unwrap_or_else(PoisonError::into_inner).insert(id, share);
        Ok(())
    }

    /// Takes a share back, and has the guest's kernel end it. Waits for nobody.
    pub(crate) fn remove(&self, id: u32) {
        let share = self.0.shares.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let Some(share) = share else { return };
        share.revoke();
        let inner = Arc::clone(&self.0);
        // The guest may have stopped reading.
        let _ = spawn("quicksand-share-end", move || {
            inner.waiting.refuse(&inner, |job| job.id == id);
            inner.send(&head(0, id), inner.epoch());
        });
    }

    /// Ends everything: the machine is gone.
    pub(crate) fn close(&self) {
        let _ = self.0.socket.shutdown(Shutdown::Both);
        if let Some(asked) = &self.0.asked {
            asked.close();
        }
        let shares =
            std::mem::take(&mut *self.0.shares.write().unwrap_or_else(PoisonError::into_inner));
        shares.values().for_each(|share| share.revoke());
        self.0.waiting.clear();
        self.0.echoes.clear();
        *lock(&self.0.workers) = None;
    }

    fn shares(&self) -> Vec<(u32, Arc<Share>)> {
        let shares = self.0.shares.read().unwrap_or_else(PoisonError::into_inner);
        shares.iter().map(|(id, share)| (*id, Arc::clone(share))).collect()
    }

    /// Has the guest see what the host has changed a moment ago: what it believes for a time without
    /// asking is compared with what there is. Waits for the guest, for a moment at most.
    pub(crate) async fn refresh(&self) {
        let shares = self.shares();
        if !shares.iter().any(|(_, share)| share.is_believed()) {
            return;
        }
        let (arrived, arrival) = tokio::sync::oneshot::channel();
        let inner = Arc::clone(&self.0);
        let sending = tokio::task::spawn_blocking(move || {
            let epoch = inner.epoch();
            let mut last = None;
            for (id, share) in shares {
                for message in share.changes() {
                    inner.send(&[&head(message.len(), id)[..], &message].concat(), epoch);
                    last = Some(id);
                }
            }
            if let Some(id) = last {
                inner.echo(id, Echo::Notify(arrived), epoch);
            }
        });
        let taken = async {
            let _ = sending.await;
            let _ = arrival.await;
        };
        if tokio::time::timeout(REFRESH_TIME, taken).await.is_err() {
            tracing::debug!("the guest did not take note of changes to its shares in time");
        }
    }

    /// What the guest knows of each share now.
    pub(crate) fn moments(&self) -> Moments {
        let all = self.shares().into_iter().map(|(id, share)| (id, share.moment()));
        Moments { all: all.collect() }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
    }
}

/// Starts a thread whose files come with the modes that the guest gives them.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let failed = |source| Error::System { action: "start a thread for shares", source };
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(move || {
            if let Err(error) = share_server::own_umask() {
                tracing::debug!(%error, "files of shares are made with the mask of this process");
            }
            work();
        })
        .map_err(failed)?;
    Ok(())
}

impl Inner {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Does something that the guest sees, unless it is the past's.
    pub(super) fn if_present(&self, epoch: u64, act: impl FnOnce()) {
        let _writing = lock(&self.writing);
        if epoch == self.epoch() {
            act();
        }
    }

    /// Sends a message, unless it is the past's.
    pub(super) fn send(&self, message: &[u8], epoch: u64) {
        let _writing = lock(&self.writing);
        if epoch == self.epoch()
            && let Err(error) = (&self.socket).write_all(message)
        {
            tracing::debug!(%error, "an answer of a share was not taken");
        }
    }

    /// Reads and answers until the machine is gone.
    fn serve(self: &Arc<Self>) {
        let (mut kept, mut portion, mut out) = (Vec::new(), vec![0; PORTION], Vec::new());
        loop {
            match (&self.socket).read(&mut portion) {
                Ok(0) => break,
                Ok(length) => kept.extend_from_slice(&portion[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            if !self.is_found(&mut kept) {
                continue;
            }
            let epoch = self.epoch();
            let mut taken = 0;
            loop {
                match next(&kept[taken..]) {
                    Next::Message { share, content, length } => {
                        self.take(share, content, epoch, &mut out);
                        taken += length;
                    }
                    Next::Wanting(_) => break,
                    Next::TooLong => {
                        tracing::warn!("the guest sent a message for shares that is too long");
                        let _ = self.socket.shutdown(Shutdown::Both);
                        return;
                    }
                }
            }
            kept.drain(..taken);
        }
    }

    pub(super) fn share(&self, id: u32) -> Option<Arc<Share>> {
        self.shares.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Answers a message on the port, or finds somebody who does.
    pub(super) fn take(self: &Arc<Self>, id: u32, request: &[u8], epoch: u64, out: &mut Vec<u8>) {
        if let Ok(number) = <[u8; ECHO]>::try_from(request) {
            if let Some(message) = self.echoes.take(u64::from_le_bytes(number)) {
                self.send(&message, epoch);
            }
            return;
        }
        let Some(share) = self.share(id) else {
            self.refuse(id, request, epoch, libc::ENOTCONN, out);
            return;
        };
        if let Some(unique) = share_server::interrupted(request) {
            self.waiting.refuse(self, |job| job.id == id && unique_of(&job.request) == unique);
            return;
        }
        let job = |request: &[u8]| Job {
            id,
            share: Arc::clone(&share),
            request: request.to_vec(),
            epoch,
        };
        if share_server::is_slow(request)
            && let Some(workers) = self.workers()
            && workers.send(job(request)).is_ok()
        {
            return;
        }
        match self.answer(id, &share, request, epoch, out) {
            Answer::Given | Answer::None => {}
            Answer::Later => {
                if !self.waiting.add(self, job(request)) {
                    self.refuse(id, request, epoch, libc::ENOLCK, out);
                }
            }
        }
    }

    /// Answers a message now, unless a lock is in the way.
    pub(super) fn answer(
        &self,
        id: u32,
        share: &Share,
        request: &[u8],
        epoch: u64,
        out: &mut Vec<u8>,
    ) -> Answer {
        out.clear();
        out.resize(HEAD, 0);
        let answer = share.answer(request, out);
        if answer == Answer::Given {
            let length = out.len() - HEAD;
            out[..HEAD].copy_from_slice(&head(length, id));
            match share.change_of_locked(request) {
                // Whoever has a lock now reads what the one before has written.
                Some(message) => {
                    self.send(&[&head(message.len(), id)[..], &message].concat(), epoch);
                    self.echo(id, Echo::Send(std::mem::take(out)), epoch);
                }
                None => self.send(out, epoch),
            }
        }
        answer
    }

    /// Does something once the guest's kernel has all that was sent so far.
    fn echo(&self, id: u32, then: Echo, epoch: u64) {
        match self.echoes.add(then) {
            Ok(number) => {
                self.send(&[&head(ECHO, id)[..], &number.to_le_bytes()].concat(), epoch);
            }
            // A guest that does not answer these gets its answers out of turn.
            Err(Echo::Send(message)) => self.send(&message, epoch),
            Err(Echo::Notify(_)) => {}
        }
    }

    pub(super) fn refuse(
        &self,
        id: u32,
        request: &[u8],
        epoch: u64,
        errno: i32,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        out.resize(HEAD, 0);
        if share_server::failure(request, errno, out) {
            let length = out.len() - HEAD;
            out[..HEAD].copy_from_slice(&head(length, id));
            self.send(out, epoch);
        }
    }

    /// The way to the threads for what may take long; they are started by the first of it.
    fn workers(self: &Arc<Self>) -> Option<SyncSender<Job>> {
        let mut workers = lock(&self.workers);
        if workers.is_none() {
            let (sender, jobs) = sync_channel::<Job>(QUEUE);
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..N_WORKERS {
                let (inner, jobs) = (Arc::downgrade(self), Arc::clone(&jobs));
                spawn("quicksand-share-work", move || {
                    let mut out = Vec::new();
                    loop {
                        let job = lock(&jobs).recv();
                        let (Ok(job), Some(inner)) = (job, inner.upgrade()) else { return };
                        inner.answer(job.id, &job.share, &job.request, job.epoch, &mut out);
                    }
                })
                .ok()?;
            }
            *workers = Some(sender);
        }
        workers.clone()
    }
}

/// The number of a request.
fn unique_of(request: &[u8]) -> u64 {
    let number = request.get(8..16).and_then(|bytes| bytes.first_chunk());
    number.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
