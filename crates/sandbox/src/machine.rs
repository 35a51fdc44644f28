//! A machine that has answered: its process, connections and what can end it.
//!
//! Owns the rule that no call on a machine outlives it: each waits for its own answer and for the
//! machine's end, its host's full disk and a stop at the same time.

use crate::agent_client::AgentClient;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::deadline;
use crate::error::{Error, Result};
#[cfg(target_os = "linux")]
use crate::fork_source::Zygote;
#[cfg(target_os = "linux")]
use crate::located::Located;
use crate::network::Forward;
use crate::overlay::Origin;
use crate::qemu_process::{LAST_WORDS, QemuProcess};
use crate::qmp::Qmp;
use crate::quota::{Quota, default_limit};
use crate::shares::Shares;
use crate::timing::BootTiming;
use runtime_locator::Accelerator;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a call without a time of its own waits for a machine that goes back in time.
const WAIT: Duration = Duration::from_secs(120);

/// A running machine.
pub(crate) struct Machine {
    pub qemu: QemuProcess,
    pub qmp: Arc<Qmp>,
    pub agent: AgentClient,
    pub accelerator: Accelerator,
    pub reason: String,
    pub timing: BootTiming,
    pub shares: Shares,
    /// Ports that are forwarded now.
    pub forwards: tokio::sync::Mutex<Vec<Forward>>,
    /// When it answered for the first time.
    pub since: Instant,
    /// Where its disk came from.
    pub origin: Arc<Origin>,
    /// What it was started with, for those that go on from it.
    #[cfg(target_os = "linux")]
    pub located: Option<Box<Located>>,
    /// The waiting machine that this one descends from, whose end would be this one's too.
    #[cfg(target_os = "linux")]
    pub zygote: Option<Arc<Zygote>>,
    /// Keeps the overlay within its limit.
    pub quota: Quota,
    /// Held by whoever copies or replaces the machine's state.
    pub state: tokio::sync::Mutex<Checkpoints>,
    /// The checkpoints that there were when `state` last changed: whoever only looks at them does
    /// not wait for whoever holds it.
    listed: std::sync::Mutex<Vec<Checkpoint>>,
    stopping: watch::Sender<bool>,
    /// Counts how often the machine went back in time, and whether it does so now.
    past: watch::Sender<Past>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Past {
    n_reverts: u64,
    is_reverting: bool,
    /// Whether another machine has taken this one's place, which went on from its past.
    is_left: bool,
}

/// Ends the machine's way back in time when it is dropped.
struct Present<'a>(&'a watch::Sender<Past>);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|past| past.is_reverting = false);
    }
}

impl Machine {
    pub(crate) fn new(
        qemu: QemuProcess,
        qmp: Qmp,
        agent: AgentClient,
        (accelerator, reason): (Accelerator, String),
        timing: BootTiming,
        origin: Origin,
    ) -> Self {
        let forwards = qemu.forwards.clone();
        let (qmp, origin) = (Arc::new(qmp), Arc::new(origin));
        let default = || default_limit(origin.size, origin.memory.bytes());
        let limit = qemu.limits.disk().unwrap_or_else(default);
        let quota = Quota::watch(Arc::clone(&qmp), Arc::clone(&origin), limit);
        let stopping = watch::Sender::new(false);
        let past = watch::Sender::new(Past::default());
        Self {
            qemu,
            qmp,
            agent,
            accelerator,
            reason,
            timing,
            shares: Default::default(),
            forwards: tokio::sync::Mutex::new(forwards),
            since: Instant::now(),
            origin,
            #[cfg(target_os = "linux")]
            located: None,
            #[cfg(target_os = "linux")]
            zygote: None,
            quota,
            state: Default::default(),
            listed: Default::default(),
            stopping,
            past,
        }
    }

    /// Runs what takes the machine back in time: calls that are under way fail, new ones wait.
    pub(crate) async fn back_in_time<T>(&self, work: impl Future<Output = T>) -> T {
        self.past.send_modify(|past| {
            past.n_reverts += 1;
            past.is_reverting = true;
        });
        // Also when the work panics: otherwise every later call would wait for it.
        let _present = Present(&self.past);
        work.await
    }

    /// What lies between the image's own disks and the machine's, from bottom to top. Not the layers of
    /// a save that the image is: they are found with it.
    #[cfg(target_os = "linux")]
    pub(crate) fn own_layers(&self) -> Vec<Arc<std::fs::File>> {
        let image = self.located.as_ref().map(|located| &located.image);
        let found = image.map_or(0, |image| image.chain.len() - image.n_base_disks);
        self.origin.save_layers().into_iter().skip(found).collect()
    }

    /// The checkpoints, the oldest first.
    pub(crate) fn checkpoints(&self) -> Vec<Checkpoint> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of the checkpoints that there are now.
    pub(crate) fn list(&self, all: &Checkpoints) {
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = all.list();
    }

    /// Holds the machine's state, unless another machine has taken its place.
    pub(crate) async fn lock_state(
        &self,
        action: &'static str,
    ) -> Result<tokio::sync::MutexGuard<'_, Checkpoints>> {
        let state = self.state.lock().await;
        if self.past.borrow().is_left { Err(Error::Reverted { action }) } else { Ok(state) }
    }

    /// Goes on where another machine was, in its place: with its ports, times and checkpoints. Whoever
    /// holds the state of that one gives it here.
    #[cfg(target_os = "linux")]
    pub(crate) async fn follow(&mut self, past: &Self, state: &mut Checkpoints) {
        self.since = past.since;
        self.timing = past.timing.clone();
        self.qemu.console.begin_with(&past.qemu.console);
        *self.forwards.get_mut() = past.forwards.lock().await.clone();
        self.list(state);
        *self.state.get_mut() = std::mem::take(state);
    }

    /// Ends the machine for another one that has taken its place. Calls that are under way fail.
    #[cfg(target_os = "linux")]
    pub(crate) async fn leave_to(self: &Arc<Self>, next: &Self) {
        self.past.send_modify(|past| {
            past.n_reverts += 1;
            past.is_left = true;
        });
        if let (Some(past), Some(net)) = (self.qemu.net(), next.qemu.net()) {
            net.take_over(past);
        }
        let left = Arc::clone(self);
        // A task of its own: a caller who gives up here has another machine already.
        let ending = tokio::spawn(async move { left.end_now().await });
        if let Err(error) = ending.await {
            tracing::debug!(%error, "the end of a machine that was left was not waited for");
        }
    }

    /// Waits until the machine is not going back in time, and gives how often it has.
    async fn present(&self) -> Past {
        let mut past = self.past.subscribe();
        // The sender lives as long as this value.
        let present = past.wait_for(|past| !past.is_reverting).await.map(|past| *past);
        present.unwrap_or_default()
    }

    async fn reverted(&self, since: u64) {
        let mut past = self.past.subscribe();
        let _ = past.wait_for(|past| past.n_reverts != since).await;
    }

    /// Whether QEMU runs and is not about to be ended.
    pub(crate) fn is_alive(&self) -> bool {
        !*self.stopping.borrow() && self.qemu.process.exit_status().is_none()
    }

    /// Whether it is about to be ended by us.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Runs a call to its end, or to the machine's.
    pub(crate) async fn during<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.during_within(action, Some(WAIT), call).await
    }

    /// The same for a call with a time of its own: while the machine goes back in time it waits no
    /// longer than that for its beginning.
    pub(crate) async fn during_within<T>(
        &self,
        action: &'static str,
        limit: Option<Duration>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let ready = async {
            let present = self.present().await;
            if present.is_left {
                return Err(Error::Reverted { action });
            }
            self.resume_if_space().await?;
            self.qemu.refresh_shares().await;
            Ok(present.n_reverts)
        };
        let present = tokio::select! {
            present = deadline::within(limit, ready) => present?,
            () = self.stopped() => return Err(Error::Stopped { action }),
            _ = self.qemu.process.exited() => return Err(self.end(action).await),
        };
        let result = tokio::select! {
            biased;
            () = self.reverted(present) => return Err(Error::Reverted { action }),
            result = call => result,
            () = self.stopped() => return Err(Error::Stopped { action }),
            _ = self.qemu.process.exited() => return Err(self.end(action).await),
            () = self.qmp.no_space() => return Err(Error::HostDiskFull),
            () = self.quota.exceeded() => return Err(self.over_quota()),
        };
        match result {
            // Connections break a moment before the process is reaped: tell the cause.
            Err(broken @ (Error::AgentBroken { .. } | Error::Qmp { .. })) => {
                let end = async {
                    tokio::select! {
                        () = self.stopped() => {}
                        _ = self.qemu.process.exited() => {}
                    }
                };
                match tokio::time::timeout(LAST_WORDS, end).await {
                    Ok(()) => Err(self.end(action).await),
                    Err(_) => Err(broken),
                }
            }
            result => result,
        }
    }

    /// Ends the machine and waits until it is gone.
    pub(crate) async fn end_now(&self) {
        self.stopping.send_replace(true);
        // A session that somebody still holds must not hold the host's ports open.
        if let Some(net) = self.qemu.net() {
            net.close();
        }
        self.qemu.process.kill_and_wait().await;
        // Whoever holds it ends them with the machine.
        if let Ok(mut checkpoints) = self.state.try_lock() {
            checkpoints.end().await;
        }
        #[cfg(target_os = "linux")]
        if let Some(shares) = &self.qemu.shares {
            shares.close();
        }
    }

    async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as this value.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    async fn end(&self, action: &'static str) -> Error {
        if *self.stopping.borrow() {
            return Error::Stopped { action };
        }
        self.qemu.death().await
    }

    /// Lets a machine go on that stands still for want of space: the user may have made some. It
    /// stops again at once when not.
    async fn resume_if_space(&self) -> Result<()> {
        self.check_quota()?;
        let was_over = self.quota.was_over();
        if self.qmp.events().no_space || was_over {
            match self.qmp.execute("cont", serde_json::json!({})).await {
                Ok(_) => self.tell_time_beside(),
                Err(error) => {
                    // The name of its logger is public, and older than this module's name.
                    tracing::debug!(target: "sandbox::running", %error, "the machine could not go on");
                }
            }
        }
        if was_over {
            self.quota.look().await;
        }
        Ok(())
    }

    /// Tells the guest the time once its machine goes on: its clock stood still as well.
    pub(crate) async fn tell_time(&self) {
        tokio::select! {
            _ = self.agent.set_clock() => {}
            () = self.stopped() => {}
            _ = self.qemu.process.exited() => {}
        }
    }

    /// The same beside what follows.
    pub(crate) fn tell_time_beside(&self) {
        let agent = self.agent.clone();
        tokio::spawn(async move { agent.set_clock().await });
    }

    /// Refuses what would make an overlay larger that is over its limit already.
    pub(crate) fn check_quota(&self) -> Result<()> {
        if self.quota.is_over() { Err(self.over_quota()) } else { Ok(()) }
    }

    fn over_quota(&self) -> Error {
        Error::DiskLimit { limit: self.quota.limit() }
    }
}
