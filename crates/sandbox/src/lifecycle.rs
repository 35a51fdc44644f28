//! The states of a sandbox and who may change them.
//!
//! ```text
//!             start()                    first answer
//!   Idle ───────────────────► Starting ───────────────► Running
//!    ▲ ▲                        │  │                      │  │
//!    │ │  error, stop(),        │  │                      │  │ QEMU ends by itself:
//!    │ └─ or the future is ─────┘  │                      │  │ still Running, but not alive;
//!    │    dropped                  │                      │  │ calls tell why, start() may
//!    │                             │ start(): "already    │  │ follow
//!    └─── stop() ──────────────────┼──────────────────────┘  │
//!                                  └─ running" ◄─────────────┘ (while alive)
//! ```
//! Invariant: a machine is owned by its state or by the future that starts it, never by both, so
//! that whoever drops the owner ends QEMU.

use crate::error::{Error, Result};
use crate::machine::Machine;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a stop waits for a start that nobody drives any more.
const GIVE_UP: Duration = Duration::from_secs(5);

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Starting(Ticket),
    Running(Arc<Machine>),
}

/// One start, distinguished from all others by its channel.
#[derive(Clone)]
struct Ticket {
    cancelled: watch::Sender<bool>,
}

impl Ticket {
    fn is(&self, other: &Self) -> bool {
        self.cancelled.same_channel(&other.cancelled)
    }
}

/// The state of one sandbox.
#[derive(Default)]
pub(crate) struct Lifecycle {
    state: Mutex<State>,
}

/// The right to start a machine. Dropping it makes the sandbox idle again.
pub(crate) struct Starting<'a> {
    lifecycle: &'a Lifecycle,
    ticket: Ticket,
}

impl Lifecycle {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a start, unless there is one or a machine already.
    pub(crate) fn begin(&self) -> Result<Starting<'_>> {
        let mut state = self.lock();
        match &*state {
            State::Starting(_) => return Err(Error::AlreadyRunning),
            State::Running(machine) if machine.is_alive() => return Err(Error::AlreadyRunning),
            State::Running(_) | State::Idle => {}
        }
        let ticket = Ticket { cancelled: watch::Sender::new(false) };
        *state = State::Starting(ticket.clone());
        Ok(Starting { lifecycle: self, ticket })
    }

    /// The machine that calls go to, alive or with a story to tell.
    pub(crate) fn machine(&self) -> Option<Arc<Machine>> {
        match &*self.lock() {
            State::Running(machine) => Some(Arc::clone(machine)),
            State::Idle | State::Starting(_) => None,
        }
    }

    /// Puts another machine into the place of this one; says whether it was there still.
    #[cfg(target_os = "linux")]
    pub(crate) fn replace(&self, machine: &Arc<Machine>, next: &Arc<Machine>) -> bool {
        let mut state = self.lock();
        match &*state {
            State::Running(current) if Arc::ptr_eq(current, machine) => {
                *state = State::Running(Arc::clone(next));
                true
            }
            _ => false,
        }
    }

    /// Ends whatever there is. Nothing is left when this returns.
    pub(crate) async fn stop(&self) {
        let state = std::mem::take(&mut *self.lock());
        match state {
            State::Idle => {}
            State::Running(machine) => machine.end_now().await,
            State::Starting(ticket) => {
                // The future that starts the machine owns it and sees this; its last act is to
                // drop its end of the channel.
                let Ticket { cancelled } = ticket;
                cancelled.send_replace(true);
                let _ = tokio::time::timeout(GIVE_UP, cancelled.closed()).await;
            }
        }
        // A start that was given up has ended its machine, and a template that was being made.
        crate::launch::dropped_are_gone().await;
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        // Calls that still hold the machine must see its end, and it must not wait for theirs.
        if let State::Running(machine) = &*self.lock() {
            machine.qemu.process.kill();
        }
    }
}

impl Starting<'_> {
    /// Runs the start to its end or to a stop, and puts the machine into the state.
    pub(crate) async fn run(self, boot: impl Future<Output = Result<Machine>>) -> Result<()> {
        let mut cancelled = self.ticket.cancelled.subscribe();
        let stopped = || Error::Stopped { action: "start" };
        let machine = tokio::select! {
            biased;
            _ = cancelled.wait_for(|cancelled| *cancelled) => return Err(stopped()),
            machine = boot => machine?,
        };
        let kept = {
            let mut state = self.lifecycle.lock();
            match &*state {
                State::Starting(ticket) if ticket.is(&self.ticket) => {
                    *state = State::Running(Arc::new(machine));
                    Ok(())
                }
                _ => Err(machine),
            }
        };
        match kept {
            Ok(()) => Ok(()),
            Err(machine) => {
                machine.end_now().await;
                Err(stopped())
            }
        }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let mut state = self.lifecycle.lock();
        if matches!(&*state, State::Starting(ticket) if ticket.is(&self.ticket)) {
            *state = State::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_or_dropped_start_makes_the_sandbox_idle() {
        let lifecycle = Lifecycle::default();
        let failing = lifecycle.begin().unwrap().run(async { Err(Error::OutputRefused) }).await;
        assert!(matches!(failing, Err(Error::OutputRefused)));
        drop(lifecycle.begin().unwrap().run(std::future::pending()));
        let start = lifecycle.begin().unwrap();
        assert!(matches!(lifecycle.begin(), Err(Error::AlreadyRunning)));
        drop(start);
        assert!(lifecycle.begin().is_ok());
    }

    #[tokio::test]
    async fn a_stop_ends_a_start_under_way() {
        let lifecycle = Arc::new(Lifecycle::default());
        let other = Arc::clone(&lifecycle);
        let starting =
            tokio::spawn(async move { other.begin().unwrap().run(std::future::pending()).await });
        while !matches!(&*lifecycle.lock(), State::Starting(_)) {
            tokio::task::yield_now().await;
        }
        lifecycle.stop().await;
        assert!(matches!(starting.await.unwrap(), Err(Error::Stopped { action: "start" })));
        lifecycle.stop().await;
        assert!(lifecycle.begin().is_ok());
    }
}
