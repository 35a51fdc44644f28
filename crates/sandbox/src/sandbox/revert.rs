//! The way back to a checkpoint that is in memory: another machine takes the place of this one.

use super::Sandbox;
use crate::boot::{Forks, Source, Start};
use crate::checkpoint::Copy;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::start::go_on;
use std::sync::Arc;

impl Sandbox {
    /// Takes the machine back to a checkpoint that is in memory, which stays; says whether it is. What
    /// fails leaves the machine as it is, and what is given up leaves it so or takes it back wholly.
    pub(super) async fn revert_in_memory(&self, machine: &Arc<Machine>, tag: &str) -> Result<bool> {
        let mut all = machine.lock_state("revert").await?;
        let Some(copy) = all.in_memory(tag)? else { return Ok(false) };
        let mut next = machine.during("revert", self.fork_of(machine, &copy)).await?;
        next.shares.take_over(&copy.shares).await;
        next.follow(machine, &mut all).await;
        let next = Arc::new(next);
        if !self.lifecycle.replace(machine, &next) {
            next.end_now().await;
            return Err(Error::Stopped { action: "revert" });
        }
        machine.leave_to(&next).await;
        Ok(true)
    }

    async fn fork_of(&self, machine: &Machine, copy: &Copy) -> Result<Machine> {
        let Some(located) = machine.located.as_deref() else {
            let reason = "it is not known what it was started with".into();
            return Err(Error::CannotFork { reason });
        };
        let shares = copy.shares.iter().map(|handle| handle.mount.clone()).collect();
        let (config, search) = (self.config().for_child(shares), self.search());
        let start = Start {
            config: &config,
            search: &search,
            assumed: None,
            progress: &|_, _, _| {},
            forks: Forks::Never,
        };
        // From the guest's first moment on: the configuration may have allowed more.
        let rules = machine.qemu.net().map(|net| net.change(|policy| policy.clone()));
        let source = Source::Back(Arc::clone(&copy.still), rules);
        // On the heap, as every start.
        Box::pin(go_on(start, located, &source, None)).await
    }
}
