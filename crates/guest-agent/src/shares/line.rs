//! The ways to the host that all shares have: the window, where there is one, and the port, with the
//! thread that takes the host's messages from it.
//!
//! The host may ask to begin again between two messages, after the guest went back in time: what
//! either side had in its hands then means nothing any more.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_protocol::resync::{self, Scan, Scanner};
use agent_protocol::share_frame::{ECHO, HEAD, Next, SHARE_PORT_NAME, head, next};
use agent_protocol::share_window::Asked;

use super::mounted::Mounted;
use super::window::Window;
use crate::token::Tokens;
use crate::virtio_port;

/// Bytes of the port that are read at a time; its driver gives a page.
const PORTION: usize = 64 << 10;
/// Pause while nobody is at the host's end.
const PAUSE: Duration = Duration::from_millis(20);
/// `fuse_out_header.error` of the word that has the kernel send again what was not answered.
const NOTIFY_RESEND: [u8; 4] = 7i32.to_le_bytes();

/// A word of the host that the kernel may have to wait for: of which share, and what.
type Word = (u32, Vec<u8>);

/// The ways of all shares.
pub struct Line {
    port: File,
    window: Option<Window>,
    /// To the thread that tells the kernel what to forget. It may wait there for data that is on its
    /// way, and so must not be the thread that brings the data.
    words: Sender<Word>,
    /// Held while a message is written.
    writing: Mutex<()>,
    mounted: Mutex<HashMap<u32, Arc<Mounted>>>,
}

impl Line {
    /// Opens the port; `None` when the host has none.
    ///
    /// # Errors
    /// When the kernel has no thread to give.
    pub fn open(tokens: Tokens) -> std::io::Result<Option<Arc<Self>>> {
        let Some(port) = virtio_port::open_blocking(SHARE_PORT_NAME) else { return Ok(None) };
        let (words, queue) = channel();
        let line = Arc::new(Self {
            port,
            window: Window::find(),
            words,
            writing: Mutex::default(),
            mounted: Mutex::default(),
        });
        let telling = Arc::downgrade(&line);
        let thread = std::thread::Builder::new().name("share-words".into());
        thread.spawn(move || {
            while let (Ok((share, word)), Some(line)) = (queue.recv(), telling.upgrade()) {
                line.tell(share, &word);
            }
        })?;
        let taking = Arc::clone(&line);
        let thread = std::thread::Builder::new().name("shares".into());
        thread.spawn(move || taking.take_answers(&tokens))?;
        Ok(Some(line))
    }

    fn mounted(&self) -> MutexGuard<'_, HashMap<u32, Arc<Mounted>>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a share up. One of the same number is of a past that is gone.
    pub fn add(&self, share: u32, mounted: &Arc<Mounted>) {
        let old = self.mounted().insert(share, Arc::clone(mounted));
        if let Some(old) = old {
            old.end();
        }
    }

    /// Forgets a share that could not be mounted.
    pub fn remove(&self, share: u32) {
        let old = self.mounted().remove(&share);
        if let Some(old) = old {
            old.end();
        }
    }

    /// Forgets a share whose thread has ended, and tells the host.
    pub fn ended(&self, share: u32, mounted: &Arc<Mounted>) {
        {
            let mut all = self.mounted();
            if all.get(&share).is_none_or(|now| !Arc::ptr_eq(now, mounted)) {
                return;
            }
            all.remove(&share);
        }
        let _ = self.send(share, &mut [0; HEAD]);
    }

    /// Ends the shares that are mounted at a place.
    pub fn end_at(&self, target: &Path) {
        let all: Vec<_> =
            self.mounted().values().filter(|one| one.is_at(target)).cloned().collect();
        all.iter().for_each(|mounted| mounted.end());
    }

    /// Ends all shares, and says where they are mounted.
    pub fn end_all(&self) -> Vec<PathBuf> {
        let all: Vec<_> = self.mounted().values().cloned().collect();
        all.iter().for_each(|mounted| mounted.end());
        all.iter().map(|mounted| mounted.target().to_owned()).collect()
    }

    /// Sends a message, which has room for its head at the start.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn send(&self, share: u32, message: &mut [u8]) -> std::io::Result<()> {
        let content = message.len() - HEAD;
        message[..HEAD].copy_from_slice(&head(content, share));
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.port).write_all(message)
    }

    /// Takes a request to the host, whose message has room for a head at the start. Gives whether the
    /// answer is there already; it comes on the port otherwise, if one is waited for.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn ask(
        &self,
        share: u32,
        message: &mut [u8],
        answer: &mut Vec<u8>,
    ) -> std::io::Result<bool> {
        let asked = match &self.window {
            Some(window) => window.ask(share, &message[HEAD..], answer),
            None => Asked::Unasked,
        };
        if asked == Asked::Unasked {
            self.send(share, message)?;
        }
        Ok(asked == Asked::Answered)
    }

    fn tell(&self, share: u32, word: &[u8]) {
        if word.len() == ECHO {
            let _ = self.send(share, &mut [&[0; HEAD], word].concat());
            return;
        }
        let mounted = self.mounted().get(&share).cloned();
        if let Some(mounted) = mounted {
            mounted.answer(word);
        }
    }

    fn take_answers(&self, tokens: &Tokens) {
        let mut n_changes = tokens.n_changes();
        let mut scanner = Scanner::new(tokens.resync_secrets());
        let (mut kept, mut portion) = (Vec::new(), vec![0; PORTION]);
        loop {
            let length = match (&self.port).read(&mut portion) {
                Ok(0) => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            // Another host speaks, which knows another token.
            if n_changes != tokens.n_changes() {
                n_changes = tokens.n_changes();
                scanner = Scanner::new(tokens.resync_secrets());
            }
            match scanner.scan(&portion[..length]) {
                Scan::Data => {
                    kept.extend_from_slice(&portion[..length]);
                    self.deliver(&mut kept);
                }
                Scan::Begun => kept.clear(),
                Scan::Request(request, ahead) => {
                    kept.clear();
                    let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
                    let _ = (&self.port).write_all(&resync::answer(&request.nonce));
                    drop(writing);
                    if let Scan::Data = scanner.scan(&ahead) {
                        kept.extend_from_slice(&ahead);
                        self.deliver(&mut kept);
                    }
                }
            }
        }
    }

    fn deliver_one(&self, share: u32, content: &[u8]) {
        let is_word = content.get(8..16).is_none_or(|unique| unique.iter().all(|byte| *byte == 0));
        let is_resend = content.get(4..8).is_some_and(|code| *code == NOTIFY_RESEND);
        if is_word && !content.is_empty() && (content.len() == ECHO || !is_resend) {
            let _ = self.words.send((share, content.to_vec()));
            return;
        }
        let Some(mounted) = self.mounted().get(&share).cloned() else { return };
        if content.is_empty() {
            end_elsewhere(mounted);
        } else if is_word {
            mounted.resend(content);
        } else {
            mounted.answer(content);
        }
    }

    /// Gives whole messages to whom they belong.
    fn deliver(&self, kept: &mut Vec<u8>) {
        let mut taken = 0;
        loop {
            match next(&kept[taken..]) {
                Next::Message { share, content, length } => {
                    self.deliver_one(share, content);
                    taken += length;
                }
                Next::Wanting(_) => break,
                // Nothing but a new beginning helps.
                Next::TooLong => {
                    kept.clear();
                    return;
                }
            }
        }
        kept.drain(..taken);
    }
}

/// The thread that carries all answers does not wait for one that ends.
fn end_elsewhere(mounted: Arc<Mounted>) {
    let thread = std::thread::Builder::new().name("share-end".into());
    let _ = thread.spawn(move || mounted.end());
}
