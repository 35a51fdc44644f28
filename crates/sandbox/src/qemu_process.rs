//! The process of a machine, with all that was made for it and ends with it.
//!
//! Must not know what is done with the machine, nor where its process came from.

use crate::console::Console;
use crate::error::Error;
use crate::launch::Process;
use crate::limits::Limits;
use crate::network::Forward;
#[cfg(target_os = "linux")]
use crate::share_port::Channel;
use crate::share_port::Moments;
use crate::usernet::UserNet;
use std::path::Path;
#[cfg(unix)]
use std::sync::Arc;
use std::time::Duration;

/// How long the last words of an ended QEMU may take to arrive.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// The QEMU process of a machine, and what was made for it and ends with it.
pub(crate) struct QemuProcess {
    pub process: Process,
    pub console: Console,
    pub stderr: Console,
    /// The display, when it has one.
    pub screen: Option<crate::screen::Screen>,
    /// The command line that may be shown, program first.
    pub command: Vec<String>,
    /// The forwards that it was started with.
    pub forwards: Vec<Forward>,
    /// What the guest can make the host hold.
    pub limits: Limits,
    /// The guest's network, when this process is the other end of its network link.
    pub net: Option<UserNet>,
    /// The port of the guest's shares, when its agent has a use for it.
    #[cfg(target_os = "linux")]
    pub shares: Option<Arc<Channel>>,
    /// The guest's memory, when the machine is to become a template, and the token that its agent was given.
    #[cfg(target_os = "linux")]
    pub memory: Option<std::fs::File>,
    #[cfg(target_os = "linux")]
    pub token: String,
    /// QEMU's numbers of the descriptors that no two machines share.
    #[cfg(target_os = "linux")]
    pub own: Vec<Own>,
    /// Counts what the guest makes this process hold.
    #[cfg(unix)]
    pub budget: Arc<crate::budget::Budget>,
    /// What must be removed with the machine where files have names.
    #[cfg(not(unix))]
    pub _overlay: tempfile::TempPath,
}

impl QemuProcess {
    /// The guest's network, when it is ours.
    pub(crate) fn net(&self) -> Option<&UserNet> {
        self.net.as_ref()
    }

    /// Whether shares have a port of their own.
    pub(crate) fn has_share_port(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.shares.is_some();
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Whether the guest has had a share by FUSE.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_used_shares(&self) -> bool {
        self.shares.as_ref().is_some_and(|shares| shares.is_running())
    }

    /// Has the guest see what the host has changed in its shares a moment ago.
    pub(crate) async fn refresh_shares(&self) {
        #[cfg(target_os = "linux")]
        if let Some(shares) = &self.shares {
            shares.refresh().await;
        }
    }

    /// What the guest knows of its shares now.
    pub(crate) fn moments(&self) -> Moments {
        #[cfg(target_os = "linux")]
        if let Some(shares) = &self.shares {
            return shares.moments();
        }
        Moments::default()
    }

    /// Ends what the guest's shares have under way, while the machine stands still and before it goes
    /// back in time.
    pub(crate) fn forget_shares(&self) {
        #[cfg(target_os = "linux")]
        if let Some(shares) = &self.shares {
            shares.forget_past();
        }
    }

    /// Goes on with the guest's shares as it knew them at a moment.
    pub(crate) fn resume_shares(&self, moments: Option<&Moments>) {
        #[cfg(target_os = "linux")]
        if let Some(shares) = &self.shares {
            shares.begin_again(moments);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = moments;
    }

    /// Whether QEMU has ended or does so in a moment.
    pub(crate) async fn ends_soon(&self) -> bool {
        tokio::time::timeout(LAST_WORDS, self.process.exited()).await.is_ok()
    }

    /// The error that tells why QEMU ended.
    pub(crate) async fn death(&self) -> Error {
        let status = self.process.exited().await;
        let last_words = async {
            self.stderr.ended().await;
            self.console.ended().await;
        };
        // A child of QEMU may hold the pipes open; what has arrived by then must do.
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
        let program = self.command.first().map(Path::new).and_then(Path::file_name);
        tracing::debug!(?program, %status, "QEMU ended");
        Error::QemuExited {
            status,
            stderr: self.stderr.tail(),
            console: self.console.tail(),
            command: self.command.join(" "),
        }
    }
}

/// A descriptor that each machine has of its own, with its number at QEMU's start.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub end: OwnEnd,
    pub number: i32,
}

/// What such a descriptor is.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnEnd {
    /// The disk, for reading and writing, and for reading alone.
    Disk,
    DiskForReading,
    Qmp,
    Agent,
    Shares,
    Link,
    /// The file of the agent's token.
    Token,
}
