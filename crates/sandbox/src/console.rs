//! What comes out of the machine before the agent speaks: the serial console and QEMU's stderr.
//!
//! Owns bounded memory of both, the agent's time marks, and the recognition of a kernel that gave
//! up. Every byte is the guest's word: it is bounded here and cleaned before a person sees it.

use agent_protocol::{MARK_PREFIX, READY_LINE};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// Bytes of each source that are remembered.
const KEPT: usize = 64 << 10;
/// The longest line that is looked at.
const MAX_LINE: usize = 4 << 10;
/// Time marks that are remembered; the agent makes three.
const MAX_MARKS: usize = 16;
/// Lines that an error message shows.
const SHOWN_LINES: usize = 20;
/// Characters of each line that an error message shows.
const SHOWN_CHARS: usize = 300;
/// The words of a kernel that gives up, which it prints even with `quiet` on its command line.
const PANIC: &str = "Kernel panic - not syncing";

/// What the console's lines have shown so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BootProgress {
    /// Whether anything was printed at all.
    pub alive: bool,
    /// Whether the agent says that it answers.
    pub ready: bool,
    /// The agent's marks: name and seconds since the kernel's start.
    pub marks: Vec<(String, f64)>,
    /// The line with which the kernel gave up.
    pub panic: Option<String>,
}

/// A source of text with a bounded memory.
#[derive(Clone)]
pub(crate) struct Console {
    kept: Arc<Mutex<VecDeque<u8>>>,
    progress: watch::Receiver<BootProgress>,
}

impl Console {
    /// Reads the source to its end in a task of its own.
    pub(crate) fn follow(mut source: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, progress) = watch::channel(BootProgress::default());
        let console = Self { kept: Arc::clone(&kept), progress };
        tokio::spawn(async move {
            let mut scanner = Scanner::default();
            let mut buffer = vec![0; 16 << 10];
            while let Ok(n_read @ 1..) = source.read(&mut buffer).await {
                let bytes = &buffer[..n_read];
                remember(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), bytes);
                sender.send_if_modified(|progress| scanner.scan(bytes, progress));
            }
        });
        console
    }

    /// Puts what another one remembers before what comes here.
    #[cfg(target_os = "linux")]
    pub(crate) fn begin_with(&self, past: &Self) {
        let mut all = past.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (one, other) = kept.as_slices();
        remember(&mut all, &[one, other].concat());
        *kept = all;
    }

    /// Everything that is remembered, cleaned.
    pub(crate) fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        clean(&kept.iter().copied().collect::<Vec<u8>>())
    }

    /// The last lines, for an error message.
    pub(crate) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<String> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| line.chars().take(SHOWN_CHARS).collect())
            .collect();
        let mut shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].to_vec();
        // A kernel's last words are followed by long lists; what they are about comes first.
        if let Some(panic) = self.progress().panic
            && !shown.contains(&panic)
        {
            shown.insert(0, panic);
        }
        shown.join("\n")
    }

    /// What was seen so far.
    pub(crate) fn progress(&self) -> BootProgress {
        self.progress.borrow().clone()
    }

    /// Waits until what was seen fulfils the condition; for ever when the source ends before.
    pub(crate) async fn wait_for(
        &self,
        condition: impl FnMut(&BootProgress) -> bool,
    ) -> BootProgress {
        let mut progress = self.progress.clone();
        let fulfilled = progress.wait_for(condition).await.ok().map(|progress| progress.clone());
        match fulfilled {
            Some(progress) => progress,
            None => std::future::pending().await,
        }
    }

    /// Waits until the source has ended, so that its last words are in [`Self::tail`].
    pub(crate) async fn ended(&self) {
        let mut progress = self.progress.clone();
        while progress.changed().await.is_ok() {}
    }
}

fn remember(kept: &mut VecDeque<u8>, bytes: &[u8]) {
    let bytes = &bytes[bytes.len().saturating_sub(KEPT)..];
    let excess = (kept.len() + bytes.len()).saturating_sub(KEPT);
    kept.drain(..excess);
    kept.extend(bytes);
}

/// Finds whole lines in portions of any size.
#[derive(Default)]
struct Scanner {
    line: Vec<u8>,
}

impl Scanner {
    /// Takes a portion in and says whether there was anything new in it.
    fn scan(&mut self, bytes: &[u8], progress: &mut BootProgress) -> bool {
        let before = progress.clone();
        progress.alive = true;
        for &byte in bytes {
            if byte == b'\n' {
                Self::judge(&clean(&self.line), progress);
                self.line.clear();
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
        }
        *progress != before
    }

    fn judge(line: &str, progress: &mut BootProgress) {
        // Other writers to the console may leave the start of a line behind.
        if let Some((_, mark)) = line.split_once(MARK_PREFIX) {
            let mut words = mark.split_whitespace();
            if let (Some(name), Some(seconds)) = (words.next(), words.next())
                && let Ok(seconds) = seconds.parse::<f64>()
                && seconds.is_finite()
                && progress.marks.len() < MAX_MARKS
            {
                progress.marks.push((name.to_owned(), seconds));
            }
        } else if line.contains(READY_LINE) {
            progress.ready = true;
        } else if line.contains(PANIC) && progress.panic.is_none() {
            progress.panic = Some(line.trim().chars().take(SHOWN_CHARS).collect());
        }
    }
}

/// Text that cannot steer the terminal of whoever reads it.
fn clean(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| *c == '\n' || *c == '\t' || !c.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(portions: &[&[u8]]) -> BootProgress {
        let mut progress = BootProgress::default();
        let mut scanner = Scanner::default();
        for portion in portions {
            scanner.scan(portion, &mut progress);
        }
        progress
    }

    #[test]
    fn marks_are_found_in_any_portions() {
        let text = b"noise\r\nquicksand-agent: mark init 1.25\r\n\
            login: quicksand-agent: mark root 1.5\nquicksand-agent: ready\r\n";
        let expect = BootProgress {
            alive: true,
            ready: true,
            marks: vec![("init".into(), 1.25), ("root".into(), 1.5)],
            panic: None,
        };
        assert_eq!(scan(&[text]), expect);
        let bytewise: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(scan(&bytewise), expect);
    }

    #[test]
    fn a_panic_is_its_first_line() {
        let progress = scan(&[
            b"[ 1.0] Kernel panic - not syncing: VFS\n[ 1.1] Kernel panic - not syncing: x\n",
        ]);
        assert_eq!(progress.panic.as_deref(), Some("[ 1.0] Kernel panic - not syncing: VFS"));
    }

    #[test]
    fn a_hostile_guest_is_bounded() {
        let progress = scan(&[&vec![b'x'; 10 << 20], b"\nquicksand-agent: ready\n"]);
        assert!(progress.ready);
        let marks = "quicksand-agent: mark a 1\n".repeat(1000);
        assert_eq!(scan(&[marks.as_bytes()]).marks.len(), MAX_MARKS);
        for nonsense in ["", " a", " a b", " a nan", " a inf"] {
            let line = format!("quicksand-agent: mark{nonsense}\n");
            assert!(scan(&[line.as_bytes()]).marks.is_empty(), "{nonsense}");
        }
        let mut kept = VecDeque::new();
        for _ in 0..10 {
            remember(&mut kept, &vec![b'x'; KEPT / 3]);
        }
        remember(&mut kept, &vec![b'y'; KEPT * 2]);
        assert_eq!(kept.len(), KEPT);
        assert!(kept.iter().all(|byte| *byte == b'y'));
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(clean(b"a\x1b[2Jb\x07\nc\xff"), "a[2Jb\nc\u{fffd}");
    }
}
