//! The signals that end a run or change the terminal's size, as one stream of events.

use crate::report::INTERRUPTED;
use std::io;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// The process is to end, with this exit code (128 plus the signal's number).
    End(i32),
    /// The terminal has a new size.
    Resize,
}

impl Signal {
    /// The exit code of a process that this signal ended.
    pub fn exit_code(self) -> Option<i32> {
        match self {
            Self::Interrupt => Some(INTERRUPTED),
            Self::End(code) => Some(code),
            Self::Resize => None,
        }
    }
}

/// The signals of this process.
#[cfg(unix)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    resize: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes over the signals.
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::End(143),
            _ = self.hang_up.recv() => Signal::End(129),
            _ = self.resize.recv() => Signal::Resize,
        }
    }
}

/// The signals of this process.
#[cfg(not(unix))]
pub struct Signals(());

#[cfg(not(unix))]
impl Signals {
    /// Takes over Ctrl-C.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(()))
    }

    pub async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
