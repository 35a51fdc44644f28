//! Sandboxes that go on from a running one.

use crate::error::Result;
use crate::sandbox::Sandbox;
use std::num::NonZeroUsize;

impl Sandbox {
    /// Starts sandboxes that go on from this one: the same memory, processes, open files and disk, as
    /// they are at this moment. This one stands still and goes on: for a moment where it is a fork itself
    /// ([`Warm::Fork`](crate::Warm)), and otherwise for as long as its memory takes to be written to the
    /// folder for temporary files ([`BootTiming::unforked_reason`](crate::BootTiming) of the children).
    ///
    /// From then on each is a machine of its own: what one writes no other sees, and before it answers
    /// it has a token, clock, address, machine id, boot id and random numbers of its own. Its shares
    /// are those that this one has now, mounted again: what was open in them there ends with errors.
    /// Commands that are under way are this one's alone; what they left running in the background is in
    /// all of them. This one's TCP connections are reset in them. Children have no forwarded ports,
    /// save nothing when they stop, and start from the image when they are started again.
    ///
    /// ```no_run
    /// # async fn example(sandbox: sandbox::Sandbox) -> Result<(), sandbox::Error> {
    /// use sandbox::ExecuteRequest;
    ///
    /// sandbox.execute(ExecuteRequest::new("echo ready > /tmp/state")).await?;
    /// for child in sandbox.fork(3.try_into().unwrap()).await? {
    ///     println!("{}", child.execute(ExecuteRequest::new("cat /tmp/state")).await?.stdout_lossy());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotRunning`](crate::Error::NotRunning) without a machine, and
    /// [`Error::CannotFork`](crate::Error::CannotFork) for one with a display, a share by 9p,
    /// arguments of the user's own, the `tcp` transport, a guest for another architecture, or a host
    /// that is not Linux. When one child cannot be started, none is.
    pub async fn fork(&self, n: NonZeroUsize) -> Result<Vec<Self>> {
        let machine = self.machine("fork")?;
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (machine, n);
            Err(crate::Error::CannotFork { reason: "the host is not Linux".into() })
        }
        #[cfg(target_os = "linux")]
        self.fork_machine(&machine, n).await
    }

    #[cfg(target_os = "linux")]
    async fn fork_machine(
        &self,
        machine: &std::sync::Arc<crate::machine::Machine>,
        n: NonZeroUsize,
    ) -> Result<Vec<Self>> {
        use crate::boot::Source;
        use crate::error::Error;
        use std::sync::Arc;
        let cannot = |reason: String| Error::CannotFork { reason };
        let Some(located) = machine.located.as_deref() else {
            return Err(cannot("it is not known what it was started with".into()));
        };
        crate::frozen::check(self.config(), located).map_err(cannot)?;
        let mounts: Vec<_> = self.active_mounts().into_iter().map(|handle| handle.mount).collect();
        let config = self.config().for_child(mounts);
        let reason = match self.fork_process(machine, &config, located, n).await {
            Ok(children) => return Ok(children),
            // The guest itself does not become another, however its memory gets there.
            Err(error @ Error::AgentRefused { .. }) => return Err(error),
            Err(error) => error.to_string(),
        };
        tracing::info!(
            reason,
            "the machine's memory is written to a file: its process is not forked"
        );
        let freezing = crate::frozen::freeze(Arc::clone(machine));
        let frozen = machine.during("fork", freezing).await?;
        let source = Source::Resume(Arc::new(frozen));
        let mut located = located.clone();
        // The disk has grown already, and what the image says of it is of the past.
        located.disk_size = None;
        self.start_children(&config, &located, &source, Some(reason), n).await
    }

    /// Starts children whose processes are forks of the machine's.
    #[cfg(target_os = "linux")]
    async fn fork_process(
        &self,
        machine: &std::sync::Arc<crate::machine::Machine>,
        config: &crate::config::SandboxConfig,
        located: &crate::located::Located,
        n: NonZeroUsize,
    ) -> Result<Vec<Self>> {
        use crate::boot::{self, Source};
        use std::sync::Arc;
        if n == NonZeroUsize::MIN {
            let (child, located) = (self.child(config.clone()), located.clone());
            // It stands still for a moment, goes on, and gets the time.
            let going_on = boot::paused(Arc::clone(machine), |pause| async move {
                child.go_on(&located, &Source::Live(pause), None).await?;
                Ok(child)
            });
            return Ok(vec![machine.during("fork", going_on).await?]);
        }
        let standing = boot::stand(Arc::clone(machine), config.clone(), located.clone());
        let source = Source::Still(Arc::new(machine.during("fork", standing).await?));
        self.start_children(config, located, &source, None, n).await
    }

    /// Starts that many. When one cannot be started, none is.
    #[cfg(target_os = "linux")]
    async fn start_children(
        &self,
        config: &crate::config::SandboxConfig,
        located: &crate::located::Located,
        source: &crate::boot::Source,
        unforked: Option<String>,
        n: NonZeroUsize,
    ) -> Result<Vec<Self>> {
        // A few at once: each needs a processor until it answers.
        let n_at_once = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        let mut children = Vec::with_capacity(n.get());
        while children.len() < n.get() {
            let more: Vec<Self> = (0..n_at_once.min(n.get() - children.len()))
                .map(|_| self.child(config.clone()))
                .collect();
            let starts = more.iter().map(|child| child.go_on(located, source, unforked.clone()));
            for started in join_all(starts).await {
                // Dropping the others ends them.
                started?;
            }
            children.extend(more);
        }
        Ok(children)
    }
}

/// Drives all of them to their ends.
#[cfg(target_os = "linux")]
async fn join_all<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (future, result) in &mut waiting {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if waiting.iter().all(|(_, result)| result.is_some()) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
    waiting.into_iter().filter_map(|(_, result)| result).collect()
}
