//! The loop that serves the listeners, and how it is set up.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::LocalOptions;

use crate::agent::Agent;
use crate::listen::{self, Listener};
use crate::process::group::Groups;
use crate::process::pty;
use crate::process::reaper::Reaper;
use crate::process::running::Launcher;
use crate::token::Tokens;
use crate::{Error, Result, endpoints};

/// How long threads for work that may wait are kept.
const KEEP_THREADS: Duration = Duration::from_secs(3600);

/// How an agent is set up.
pub struct Setup {
    /// Who is let in.
    pub tokens: Tokens,
    /// Where it answers.
    pub listeners: Vec<Listener>,
    /// Where cgroup2 is mounted, when commands are to have groups.
    pub control_groups: Option<PathBuf>,
}

/// Serves until the machine ends. `on_ready` runs when every listener that can be is open.
///
/// # Errors
/// When the kernel refuses what the agent cannot do without.
pub fn run(setup: Setup, on_ready: impl FnOnce()) -> Result<()> {
    keep_memory();
    let failed = |step: &str| {
        let step = step.to_owned();
        move |source| Error::Boot { step, source }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // One that waits for the next command that may stall saves that command its birth.
        .thread_keep_alive(KEEP_THREADS)
        .build_local(LocalOptions::default())
        .map_err(failed("start the runtime"))?;
    runtime.block_on(async move {
        let launcher = Launcher {
            reaper: Reaper::new().map_err(failed("take over child processes"))?,
            groups: Rc::new(Groups::new(setup.control_groups.as_deref())),
            null: pty::null().map_err(failed("open /dev/null"))?,
        };
        let agent = Rc::new(Agent::new(setup.tokens, launcher));
        for listener in setup.listeners {
            listen::open(&agent, listener).await?;
        }
        on_ready();
        let reaper = Rc::clone(&agent.launcher.reaper);
        let on_signal = move |signal| {
            tokio::task::spawn_local(endpoints::shutdown::power(Rc::clone(&agent), signal));
        };
        reaper.run(on_signal).await;
        Ok(())
    })
}

/// Keeps freed memory for the next chunk of output instead of giving it back to the kernel each
/// time, which costs a page fault for each page of each chunk.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets two numbers of the allocator before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}
