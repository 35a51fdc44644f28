//! The sandbox: what users hold. Composes the life cycle, the boot and the agent's client.
//!
//! Owns the public calls and the bounds of what they collect; the work is done by the modules that
//! it names.

mod files;
#[cfg(target_os = "linux")]
mod revert;
mod shares;

use crate::agent_client::execution::{Discard, run_to_end, run_with_input};
use crate::agent_client::{SessionInput, SessionOutput};
use crate::boot::{self, Forks, Start};
use crate::checkpoint::{Checkpoint, check_tag};
use crate::checkpointing;
use crate::config::{AccelChoice, SandboxConfig};
use crate::deadline;
use crate::error::{Error, Result};
use crate::execute::{ExecuteRequest, ExecuteResult, OutputSink, Pty, SessionEvent};
use crate::files::Leftovers;
use crate::lifecycle::Lifecycle;
use crate::located::locate;
use crate::machine::Machine;
use crate::metrics::{self, Metrics};
use crate::save::{self, SaveManifest, SaveOptions};
use crate::saving::{self, SaveRequest};
use crate::start::boot;
#[cfg(target_os = "linux")]
use crate::start::go_on;
use crate::timing::BootTiming;
use bytes::Bytes;
use runtime_locator::{Accelerator, Search};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the start of a session may take before the agent is asked whether it is there.
const SESSION_START: Duration = Duration::from_secs(30);

type Progress = dyn Fn(&str, usize, usize) + Send + Sync;

/// One virtual machine, started and stopped any number of times.
///
/// All methods take `&self` and may be called from any thread at the same time. The asynchronous
/// ones need a tokio runtime with I/O and time, which must live as long as the machine runs.
/// Dropping the sandbox ends the machine; so does the end of this process, in whatever way.
///
/// ```no_run
/// # async fn example() -> Result<(), sandbox::Error> {
/// use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
///
/// let sandbox = Sandbox::new(SandboxConfig::builder("debian").build()?);
/// sandbox.start().await?;
/// let result = sandbox.execute(ExecuteRequest::new("uname -a")).await?;
/// println!("{}", result.stdout_lossy());
/// sandbox.stop().await?;
/// # Ok(())
/// # }
/// ```
pub struct Sandbox {
    config: SandboxConfig,
    search: Option<Search>,
    progress: Box<Progress>,
    assumed: Option<Accelerator>,
    forks: Forks,
    lifecycle: Lifecycle,
    /// Cancelled downloads that are still removing what they wrote.
    pub(crate) leftovers: Leftovers,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("config", &self.config)
            .field("is_running", &self.is_running())
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// A sandbox that is not running yet. Nothing is looked for before the start.
    pub fn new(config: SandboxConfig) -> Self {
        Self {
            config,
            search: None,
            progress: Box::new(|_, _, _| {}),
            assumed: None,
            forks: Forks::default(),
            lifecycle: Lifecycle::default(),
            leftovers: Leftovers::default(),
        }
    }

    /// Says where QEMU and images are looked for; by default where this process' environment says.
    pub fn with_locator(mut self, search: Search) -> Self {
        self.search = Some(search);
        self
    }

    /// Sets a function that is told each stage of a start as it begins: its name, how many are
    /// done, and how many there are ([`crate::STAGES`]); at last [`crate::DONE`] with all done.
    pub fn on_progress(
        mut self,
        progress: impl Fn(&str, usize, usize) + Send + Sync + 'static,
    ) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// With `accel="auto"`, uses this accelerator as if the probe had accepted it.
    #[doc(hidden)]
    pub fn assuming(mut self, accelerator: Accelerator) -> Self {
        self.assumed = Some(accelerator);
        self
    }

    /// Says that more sandboxes of this configuration will be started, so that it is worth to keep one
    /// in memory that they are forked from (`warm="fork"`). Otherwise the second start of a process is
    /// taken for a sign of that.
    pub fn one_of_many(mut self) -> Self {
        self.forks = Forks::Now;
        self
    }

    /// Has a start with `warm="fork"` copy the template's files, and fork nothing (figures of both).
    #[doc(hidden)]
    pub fn not_forked(mut self) -> Self {
        self.forks = Forks::Never;
        self
    }

    /// The configuration.
    pub fn config(&self) -> &SandboxConfig {
        &self.config
    }

    /// Starts the machine and waits until it answers.
    ///
    /// # Errors
    /// [`Error::AlreadyRunning`] while it runs or starts. Every failure leaves nothing behind.
    pub async fn start(&self) -> Result<()> {
        let starting = self.lifecycle.begin()?;
        let search = self.search();
        if let Some(name) = self.config.save() {
            // Better told now than after the work that was to be kept.
            save::check_place(&save::place(&search, name, self.config.workspace())?)?;
        }
        let start = Start {
            config: &self.config,
            search: &search,
            assumed: self.assumed.filter(|_| self.config.accel() == AccelChoice::Auto),
            progress: &*self.progress,
            forks: self.forks,
        };
        // On the heap: a start is large for the stack of a thread.
        starting.run(Box::pin(boot(start))).await
    }

    /// A sandbox like this one that is not running yet.
    #[cfg(target_os = "linux")]
    pub(crate) fn child(&self, config: SandboxConfig) -> Self {
        Self { search: self.search.clone(), assumed: self.assumed, ..Self::new(config) }
    }

    /// Starts the machine as another one was. `unforked` says why it is not a fork of that one's process.
    #[cfg(target_os = "linux")]
    pub(crate) async fn go_on(
        &self,
        located: &crate::located::Located,
        source: &boot::Source,
        unforked: Option<String>,
    ) -> Result<()> {
        let starting = self.lifecycle.begin()?;
        let (search, progress) = (self.search(), &*self.progress);
        let forks = Forks::Never;
        let start = Start { config: &self.config, search: &search, assumed: None, progress, forks };
        starting.run(Box::pin(go_on(start, located, source, unforked))).await
    }

    /// Ends the machine. Does nothing when it does not run; calls that are under way fail with
    /// [`Error::Stopped`]. With the option `save` its disk is saved first, otherwise it is gone. A
    /// save that cannot be made ends with an error in bounded time: a guest that does not answer is
    /// waited for 30 s, one that writes to its disk two minutes, and a copy that makes no progress
    /// two minutes.
    ///
    /// # Errors
    /// When the save fails. The machine is ended all the same, and a save that was there before is
    /// untouched.
    pub async fn stop(&self) -> Result<()> {
        let saved = match (self.config.save(), self.lifecycle.machine()) {
            (Some(name), Some(machine)) if !machine.is_stopping() => {
                self.save_machine(machine, name, &SaveOptions::default(), true).await
            }
            _ => Ok(None),
        };
        self.lifecycle.stop().await;
        saved.map(|_| ())
    }

    /// Saves the disk under a name, or under an absolute path, while the machine runs on. A save of
    /// that name is replaced in one step.
    ///
    /// The guest writes everything out and stands still for a moment, so that the save needs no
    /// repair. Its memory is in it only where [`SaveOptions::memory`] asks for it.
    ///
    /// ```no_run
    /// # async fn example(sandbox: sandbox::Sandbox) -> Result<(), sandbox::Error> {
    /// use sandbox::{Sandbox, SandboxConfig, save::SaveOptions};
    ///
    /// sandbox.save("my-env", &SaveOptions::default()).await?;
    /// let again = Sandbox::new(SandboxConfig::builder("my-env").build()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a name that leads elsewhere, [`Error::SaveInTheWay`] for a place
    /// where something else is, [`Error::SaveFailed`] with the cause otherwise.
    pub async fn save(&self, name: &str, options: &SaveOptions) -> Result<SaveManifest> {
        save::check_name(name)?;
        let machine = self.machine("save")?;
        let saved = self.save_machine(machine, name, options, false).await?;
        saved.ok_or(Error::Stopped { action: "save" })
    }

    async fn save_machine(
        &self,
        machine: Arc<Machine>,
        name: &str,
        options: &SaveOptions,
        is_last: bool,
    ) -> Result<Option<SaveManifest>> {
        let workspace = options.workspace.as_deref().or(self.config.workspace());
        let search = self.search();
        let target = save::place(&search, name, workspace)?;
        if options.memory && options.compress {
            return Err(Error::InvalidValue {
                option: "compress",
                value: "true".into(),
                allowed: "false for a save with memory".into(),
                hint: Some("Leave out one of both".into()),
            });
        }
        #[cfg(target_os = "linux")]
        let memory = match options.memory {
            true => Some(saving::memory::Needs::new(&self.config, &machine)?),
            false => None,
        };
        #[cfg(not(target_os = "linux"))]
        if options.memory {
            return Err(Error::CannotFork { reason: "the host is not Linux".into() });
        }
        let request = SaveRequest {
            target,
            data_dir: search.data_dir.clone(),
            compress: options.compress,
            #[cfg(target_os = "linux")]
            memory,
            config: serde_json::from_value(self.config.to_value()).unwrap_or_default(),
            is_last,
        };
        let manifest = saving::take(Arc::clone(&machine), request).await?;
        if options.delete_checkpoints {
            checkpointing::delete_all(&machine).await?;
        }
        Ok(manifest)
    }

    /// Keeps memory and disk of the running machine under a name, for [`Self::revert`]. The machine
    /// stands still meanwhile. A checkpoint of that name is replaced; all of them end with the
    /// machine. One of a machine that is a fork itself ([`Warm::Fork`](crate::Warm)) and has had no
    /// share is kept in memory, as a copy of its process; all others are on its disk.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a name that cannot be one, [`Error::CheckpointFailed`] with
    /// QEMU's words.
    pub async fn checkpoint(&self, tag: &str) -> Result<Checkpoint> {
        check_tag(tag)?;
        let machine = self.machine("make a checkpoint")?;
        checkpointing::make(machine, self.config.clone(), tag.to_owned()).await
    }

    /// Takes the machine back to a checkpoint: memory, processes, open files and disk. The guest's
    /// clock and random numbers are of now. Calls that are under way fail with [`Error::Reverted`].
    /// With a checkpoint in memory another process takes the place of the machine's: [`Self::pid`]
    /// changes, and ports stay open. A call that is given up has either done all of it or nothing.
    ///
    /// # Errors
    /// [`Error::UnknownCheckpoint`], [`Error::CheckpointFailed`] with QEMU's words.
    pub async fn revert(&self, tag: &str) -> Result<()> {
        let machine = self.machine("revert")?;
        #[cfg(target_os = "linux")]
        // On the heap, as a start is.
        if Box::pin(self.revert_in_memory(&machine, tag)).await? {
            return Ok(());
        }
        checkpointing::revert(machine, tag.to_owned()).await
    }

    /// The checkpoints of the running machine, the oldest first. Waits for nobody: one that is being
    /// made is not among them yet.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>> {
        let machine = self.machine("list checkpoints")?;
        Ok(machine.checkpoints())
    }

    /// Removes a checkpoint.
    ///
    /// # Errors
    /// [`Error::UnknownCheckpoint`], [`Error::CheckpointFailed`] with QEMU's words.
    pub async fn delete_checkpoint(&self, tag: &str) -> Result<()> {
        let machine = self.machine("delete a checkpoint")?;
        checkpointing::delete(machine, tag.to_owned()).await
    }

    /// Runs a command and gives all of its output.
    ///
    /// # Errors
    /// [`Error::NotRunning`] without a machine. A command that fails or times out is no error:
    /// its result says so.
    pub async fn execute(&self, request: ExecuteRequest) -> Result<ExecuteResult> {
        self.stream(request, Discard).await
    }

    /// Runs a command and passes its output on as it arrives, and gives all of it at the end.
    pub async fn stream(
        &self,
        request: ExecuteRequest,
        mut sink: impl OutputSink,
    ) -> Result<ExecuteResult> {
        let machine = self.machine("execute")?;
        let limit = deadline::with_grace(request.timeout);
        let run = run_to_end(&machine.agent, &request, &mut sink);
        machine.during_within("execute", limit, run).await
    }

    /// [`Self::stream`] with input that arrives while the command runs: first the request's own
    /// `stdin`, then what the channel brings, until its senders are gone. The channel fills when the
    /// command does not read.
    pub async fn stream_with_input(
        &self,
        request: ExecuteRequest,
        input: mpsc::Receiver<Bytes>,
        mut sink: impl OutputSink,
    ) -> Result<ExecuteResult> {
        let machine = self.machine("execute")?;
        let limit = deadline::with_grace(request.timeout);
        let run = run_with_input(&machine.agent, &request, Some(input), &mut sink);
        machine.during_within("execute", limit, run).await
    }

    /// Runs a command whose input and output pass both ways while it runs. With a terminal the
    /// command may be empty: the shell is then interactive.
    ///
    /// # Errors
    /// [`Error::GuestSilent`] when the guest's agent answers neither this nor a ping for a minute.
    pub async fn session(
        &self,
        request: ExecuteRequest,
        pty: Option<Pty>,
    ) -> Result<(SessionInput, Session)> {
        let machine = self.machine("open a session")?;
        // It may wait for a command that runs alone, but not for a guest that does not answer.
        let opening = machine.agent.session(&request, pty.as_ref(), true);
        let limit = deadline::with_grace(request.timeout);
        let call = async {
            let opening = machine.agent.while_alive(SESSION_START, opening);
            deadline::within(limit, opening).await
        };
        let (input, output) = machine.during("a session's start", call).await?;
        Ok((input, Session { machine, output }))
    }

    /// What the machine uses: processor, memory, disk and network.
    ///
    /// # Errors
    /// [`Error::NotRunning`] without a machine. A guest that does not tell its own figures is none.
    pub async fn metrics(&self) -> Result<Metrics> {
        let machine = self.machine("measure")?;
        machine.during("measure", metrics::measure(&machine)).await
    }

    /// Whether the machine answers calls.
    pub fn is_running(&self) -> bool {
        self.lifecycle.machine().is_some_and(|machine| machine.is_alive())
    }

    /// The accelerator; `None` before the start.
    pub fn accelerator(&self) -> Option<Accelerator> {
        self.lifecycle.machine().map(|machine| machine.accelerator)
    }

    /// Why it is this accelerator; `None` before the start.
    pub fn accelerator_reason(&self) -> Option<String> {
        self.lifecycle.machine().map(|machine| machine.reason.clone())
    }

    /// How long a start may take: what the configuration says, or what fits the accelerator.
    pub fn boot_timeout(&self) -> Duration {
        let accelerator = self.accelerator().or(match self.config.accel() {
            AccelChoice::Fixed(accelerator) => Some(accelerator),
            AccelChoice::Auto => None,
        });
        boot::boot_timeout(&self.config, accelerator)
    }

    /// QEMU's command line, program first, with the token redacted. Before the start it is the
    /// one that a start would use, as far as that can be known.
    pub fn qemu_command(&self) -> Result<Vec<String>> {
        if let Some(machine) = self.lifecycle.machine() {
            return Ok(machine.qemu.command.clone());
        }
        // A fixed accelerator is shown as it was asked for; a start finds out whether it works.
        let assumed = match self.config.accel() {
            AccelChoice::Fixed(accelerator) => Some(accelerator),
            AccelChoice::Auto => self.assumed,
        };
        let located = locate(&self.config, &self.search(), assumed)?;
        boot::preview(&self.config, &located)
    }

    /// Where the time of the last start went; `None` before it.
    pub fn boot_timing(&self) -> Option<BootTiming> {
        self.lifecycle.machine().map(|machine| machine.timing.clone())
    }

    /// The last 64 KiB of the serial console.
    pub fn console(&self) -> String {
        self.lifecycle.machine().map(|machine| machine.qemu.console.text()).unwrap_or_default()
    }

    /// QEMU's process number while it runs.
    pub fn pid(&self) -> Option<u32> {
        let machine = self.lifecycle.machine().filter(|machine| machine.is_alive())?;
        Some(machine.qemu.process.pid())
    }

    pub(crate) fn lifecycle_machine(&self) -> Option<Arc<Machine>> {
        self.lifecycle.machine().filter(|machine| machine.is_alive())
    }

    pub(crate) fn machine(&self, action: &'static str) -> Result<Arc<Machine>> {
        self.lifecycle.machine().ok_or(Error::NotRunning { action })
    }

    fn search(&self) -> Search {
        self.search.clone().unwrap_or_else(|| Search::from_process(Vec::new()))
    }
}

/// The receiving half of a session. Dropping it kills the command.
pub struct Session {
    machine: Arc<Machine>,
    output: SessionOutput,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.output.fmt(f)
    }
}

impl Session {
    /// The next event; `None` after [`SessionEvent::Exit`]. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<SessionEvent>> {
        self.machine.during("a session", self.output.next()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    fn is_send<T: Send>(_: T) {}

    #[test]
    fn every_call_may_move_between_threads() {
        let sandbox = Sandbox::new(SandboxConfig::builder("x").build().unwrap());
        fn is_shared<T: Send + Sync>(_: &T) {}
        is_shared(&sandbox);
        is_send(sandbox.start());
        is_send(sandbox.execute(ExecuteRequest::new("true")));
        is_send(
            sandbox.stream(ExecuteRequest::new("true"), |_, _| async { ControlFlow::Continue(()) }),
        );
        is_send(sandbox.session(ExecuteRequest::new("true"), None));
        is_send(sandbox.stop());
    }

    #[tokio::test]
    async fn calls_without_a_machine_say_so() {
        let sandbox = Sandbox::new(SandboxConfig::builder("x").build().unwrap());
        let error = sandbox.execute(ExecuteRequest::new("true")).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains("not running") && message.contains("non-running"), "{message}");
        assert!(!sandbox.is_running());
        assert_eq!(sandbox.accelerator(), None);
        assert_eq!(sandbox.boot_timeout(), Duration::from_secs(60));
        sandbox.stop().await.unwrap();
    }
}
