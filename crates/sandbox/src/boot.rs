//! One attempt at a machine that answers, from whatever it begins with: the stages of a start, in their order.
//!
//! Composes the other modules and owns nothing but the order and the waiting. Dropping the future
//! at any point ends QEMU and removes everything. What it begins with is the caller's choice (`start`).

mod assembly;
#[cfg(target_os = "linux")]
mod live;
mod wires;

pub(crate) use assembly::preview;
#[cfg(target_os = "linux")]
pub(crate) use live::{paused, stand, stand_held};

use crate::agent_client::execution::run_to_end;
use crate::agent_client::{AgentClient, wait_on_port};
use crate::blocking::blocking;
use crate::config::{AccelChoice, SandboxConfig, WaitFor};
use crate::error::{Error, Result};
use crate::execute::ExecuteRequest;
#[cfg(target_os = "linux")]
use crate::fork_source::{Parent, Still, Zygote};
#[cfg(target_os = "linux")]
use crate::frozen::Frozen;
use crate::hardware::default_boot_timeout_s;
use crate::located::Located;
use crate::machine::Machine;
use crate::mounting::mount_all;
use crate::qemu_process::QemuProcess;
use crate::qmp::Qmp;
#[cfg(target_os = "linux")]
use crate::templates::Template;
use crate::timing::{BootTiming, STAGES, Stopwatch};
#[cfg(target_os = "linux")]
use crate::{new_file::reopened, vmstate};
#[cfg(target_os = "linux")]
use live::Pause;
use runtime_locator::{Accelerator, Search};
use std::sync::Arc;
use std::time::Duration;
use wires::Wires;

/// Under an accelerator the guest's first words come within a second or two. One that has said
/// nothing for this long, on however busy a host, runs on an accelerator that does not work.
const NO_PROGRESS: Duration = Duration::from_secs(20);
/// How long a copy of a template may take to its first answer; a start from the image follows.
const COPY_TIME: Duration = Duration::from_secs(20);

/// What a machine begins with.
#[derive(Clone)]
pub(crate) enum Source {
    /// Its image.
    Cold,
    /// Its image, with its memory in a file: it is to become a template.
    #[cfg(target_os = "linux")]
    Make,
    /// A template.
    #[cfg(target_os = "linux")]
    Copy(Template),
    /// Another machine, at the moment when it was frozen.
    #[cfg(target_os = "linux")]
    Resume(Arc<Frozen>),
    /// A template: it is to be forked.
    #[cfg(target_os = "linux")]
    Zygote(Template),
    /// A machine that was copied from a template before, and waits.
    #[cfg(target_os = "linux")]
    Fork(Arc<Zygote>),
    /// A machine that runs.
    #[cfg(target_os = "linux")]
    Live(Arc<Pause>),
    /// The same: a copy of it is made that stands still.
    #[cfg(target_os = "linux")]
    Stand(Arc<Pause>),
    /// Such a copy.
    #[cfg(target_os = "linux")]
    Still(Arc<Still>),
    /// The same: the machine itself goes back there, with the rules that its network has now.
    #[cfg(target_os = "linux")]
    Back(Arc<Still>, Option<crate::usernet::Policy>),
}

/// What a machine's process is forked from.
#[cfg(target_os = "linux")]
pub(crate) enum ForkedFrom {
    /// A machine that stands still.
    Waiting(Arc<Parent>),
    /// One that runs, and goes on.
    Running {
        /// The moment when it stands still.
        pause: Arc<Pause>,
        /// Whether the new process runs at once.
        runs: bool,
    },
}

impl Source {
    /// What lies between the image's disks and the machine's own.
    fn disks(&self) -> &[Arc<std::fs::File>] {
        match self {
            #[cfg(target_os = "linux")]
            Self::Resume(frozen) => &frozen.disks,
            #[cfg(target_os = "linux")]
            Self::Live(pause) | Self::Stand(pause) => &pause.layers,
            #[cfg(target_os = "linux")]
            Self::Still(still) | Self::Back(still, _) => &still.layers,
            _ => &[],
        }
    }

    /// What the machine's own disk begins with: what another has written until then. Copied, and no layer
    /// below it: a save of the machine has the layers of one that booted.
    #[cfg(target_os = "linux")]
    fn written(&self) -> Option<&std::fs::File> {
        match self {
            Self::Copy(template) | Self::Zygote(template) => Some(&template.disk),
            // Not of the template that is there now: it may have been made again.
            Self::Fork(zygote) => Some(&zygote.disk),
            Self::Still(still) | Self::Back(still, _) => Some(&still.disk),
            _ => None,
        }
    }

    /// How many layers count as what the machine has written itself, and QEMU's descriptor set of its disk,
    /// where another one's process says so.
    #[cfg(target_os = "linux")]
    fn place(&self) -> Option<(usize, u32)> {
        match self {
            Self::Live(pause) | Self::Stand(pause) => Some(pause.place()),
            Self::Still(still) | Self::Back(still, _) => Some(still.place),
            _ => None,
        }
    }

    /// The waiting machine that its process descends from.
    #[cfg(target_os = "linux")]
    fn zygote(&self) -> Option<&Arc<Zygote>> {
        match self {
            Self::Fork(zygote) => Some(zygote),
            Self::Live(pause) | Self::Stand(pause) => Some(&pause.zygote),
            Self::Still(still) | Self::Back(still, _) => Some(&still.zygote),
            _ => None,
        }
    }

    /// What its process is forked from.
    #[cfg(target_os = "linux")]
    fn forked_from(&self) -> Option<ForkedFrom> {
        match self {
            Self::Fork(zygote) => Some(ForkedFrom::Waiting(zygote.parent.clone())),
            Self::Live(pause) => Some(ForkedFrom::Running { pause: pause.clone(), runs: true }),
            Self::Stand(pause) => Some(ForkedFrom::Running { pause: pause.clone(), runs: false }),
            Self::Still(still) | Self::Back(still, _) => {
                Some(ForkedFrom::Waiting(still.parent.clone()))
            }
            _ => None,
        }
    }

    /// The token that the agent was given in the machine that this one is forked from, and whether that one had
    /// shares by FUSE.
    #[cfg(target_os = "linux")]
    fn past(&self) -> (&str, bool) {
        match self {
            Self::Fork(zygote) => (zygote.token(), false),
            Self::Live(pause) => pause.past(),
            Self::Still(still) | Self::Back(still, _) => (&still.token, still.had_shares),
            _ => ("", false),
        }
    }

    /// The rules of its network, where those of the configuration may have changed since.
    #[cfg(target_os = "linux")]
    fn rules(&self) -> Option<&crate::usernet::Policy> {
        match self {
            Self::Back(_, rules) => rules.as_ref(),
            _ => None,
        }
    }

    /// What the machine is to be, where that is not one that nobody has been yet.
    #[cfg(target_os = "linux")]
    fn identity(&self) -> Option<Arc<crate::agent_client::Identity>> {
        match self {
            Self::Back(still, _) => still.identity.clone(),
            _ => None,
        }
    }

    /// The connections of another machine that the guest believes to have.
    #[cfg(target_os = "linux")]
    fn connections(&self) -> &[crate::usernet::Connection] {
        match self {
            Self::Resume(frozen) => &frozen.connections,
            Self::Live(pause) => pause.connections(),
            Self::Still(still) | Self::Back(still, _) => &still.connections,
            _ => &[],
        }
    }

    /// Whether the guest has booted already.
    fn is_copy(&self) -> bool {
        match self {
            Self::Cold => false,
            #[cfg(target_os = "linux")]
            Self::Make => false,
            #[cfg(target_os = "linux")]
            Self::Copy(_)
            | Self::Resume(_)
            | Self::Zygote(_)
            | Self::Fork(_)
            | Self::Live(_)
            | Self::Stand(_)
            | Self::Still(_)
            | Self::Back(..) => true,
        }
    }
}

/// What a start needs to know.
pub(crate) struct Start<'a> {
    pub config: &'a SandboxConfig,
    pub search: &'a Search,
    /// Stands in for the probe's verdict (tests of the fallback).
    pub assumed: Option<Accelerator>,
    pub progress: &'a (dyn Fn(&str, usize, usize) + Send + Sync),
    /// When a copy of a template is made by a fork.
    pub forks: Forks,
}

/// When a copy of a template is made by a fork of another one that waits in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Forks {
    /// From this process' second start of the kind on: one start does not pay for what waits.
    #[default]
    Later,
    /// At once: more will follow.
    Now,
    Never,
}

/// The timeout of a start under an accelerator.
pub(crate) fn boot_timeout(config: &SandboxConfig, accelerator: Option<Accelerator>) -> Duration {
    config
        .boot_timeout()
        .unwrap_or_else(|| Duration::from_secs(default_boot_timeout_s(accelerator)))
}

impl Start<'_> {
    pub(crate) fn stage(&self, index: usize) {
        (self.progress)(STAGES[index], index, STAGES.len());
    }
}

/// Why an attempt failed, and whether another accelerator could do better.
pub(crate) struct Failure {
    pub error: Error,
    pub may_be_accelerator: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, may_be_accelerator: false }
    }
}

/// Starts a machine and waits for its first answer.
pub(crate) async fn attempt(
    start: &Start<'_>,
    located: &Located,
    source: &Source,
    watch: &mut Stopwatch,
    timing: &mut BootTiming,
) -> std::result::Result<Machine, Failure> {
    start.stage(1);
    let (config, finds, from) = (start.config.clone(), located.clone(), source.clone());
    #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "only Linux has templates"))]
    let mut limit = boot_timeout(start.config, Some(located.accelerator));
    #[cfg(target_os = "linux")]
    if source.is_copy() && !matches!(source, Source::Resume(_)) {
        limit = limit.min(COPY_TIME);
    }
    let preparing = blocking(move || assembly::prepare(&config, &finds, &from));
    let prepared = within(limit, "prepare the machine's disks", preparing).await?;
    timing.prepare = watch.lap();
    start.stage(2);
    let launching = prepared.launch();
    let (qemu, wires, origin) = within(limit, "start QEMU", launching).await?;
    let is_on_trial = !source.is_copy()
        && located.accelerator != Accelerator::Tcg
        && start.config.accel() == AccelChoice::Auto;
    let answered = async {
        let (qmp, agent) = first_answer(start, source, &qemu, wires, watch, timing).await?;
        if origin.is_grown {
            agent.grow().await?;
        }
        Ok((qmp, agent))
    };
    let no_progress = async {
        tokio::time::sleep(NO_PROGRESS).await;
        if !is_on_trial || qemu.console.progress().alive {
            std::future::pending::<()>().await;
        }
    };
    let result = tokio::select! {
        biased;
        answered = answered => match answered {
            // The connections break a moment before the process is reaped: tell the cause.
            Err(Error::Qmp { .. } | Error::AgentBroken { .. }) if qemu.ends_soon().await => {
                Err(explain_boot_failure(qemu.death().await, located.accelerator))
            }
            answered => answered,
        },
        error = qemu.death() => Err(explain_boot_failure(error, located.accelerator)),
        seen = qemu.console.wait_for(|seen| seen.panic.is_some()) => Err(Error::BootFailed {
            reason: seen.panic.unwrap_or_default(),
            console: qemu.console.tail(),
        }),
        () = no_progress => Err(timed_out(&qemu, NO_PROGRESS)),
        () = tokio::time::sleep(limit) => Err(timed_out(&qemu, limit)),
    };
    match result {
        Ok((qmp, agent)) => {
            timing.boot = watch.lap();
            timing.guest_marks = qemu.console.progress().marks;
            let accelerator = (located.accelerator, located.reason.clone());
            let mut machine = Machine::new(qemu, qmp, agent, accelerator, timing.clone(), origin);
            #[cfg(target_os = "linux")]
            {
                if let (Some(net), Some(identity)) = (machine.qemu.net(), machine.agent.identity())
                {
                    net.break_off(source.connections(), identity.mac());
                }
                machine.located = Some(Box::new(located.clone()));
                machine.zygote = source.zygote().cloned();
            }
            let mounts = start.config.mounts();
            let mounting = machine.during("mounting", mount_all(&machine, mounts));
            let silent = Err(timed_out(&machine.qemu, limit));
            if let Err(error) = tokio::time::timeout(limit, mounting).await.unwrap_or(silent) {
                machine.end_now().await;
                return Err(error.into());
            }
            timing.mount = watch.lap();
            timing.total = watch.total();
            machine.timing = timing.clone();
            Ok(machine)
        }
        Err(error) => {
            // A machine that was still being tried is gone before the next one starts.
            qemu.process.kill_and_wait().await;
            let may_be_accelerator = is_on_trial
                && qemu.console.progress().marks.is_empty()
                && !matches!(error, Error::PortInUse { .. });
            Err(Failure { error, may_be_accelerator })
        }
    }
}

/// Waits for QEMU's greeting and the agent's first answer.
async fn first_answer(
    start: &Start<'_>,
    source: &Source,
    qemu: &QemuProcess,
    wires: Wires,
    watch: &mut Stopwatch,
    timing: &mut BootTiming,
) -> Result<(Qmp, AgentClient)> {
    let (qmp, agent) = match wires {
        #[cfg(target_os = "linux")]
        Wires::Socket { qmp, agent, token } if source.zygote().is_some() => {
            let (old, had_shares) = source.past();
            timing.launch = watch.lap();
            start.stage(3);
            let (window, identity) = (qemu.limits.wire(), source.identity());
            let agent = AgentClient::for_copy(agent, old, &token, window, identity);
            let (qmp, agent) = tokio::try_join!(Qmp::for_fork(qmp), agent)?;
            if let Some(shares) = qemu.shares.as_ref().filter(|_| had_shares) {
                shares.take_up().await?;
            }
            (qmp, agent)
        }
        #[cfg(target_os = "linux")]
        Wires::Socket { qmp, agent, token } if source.is_copy() => {
            let qmp = Qmp::connect_socket(qmp).await?;
            timing.launch = watch.lap();
            start.stage(3);
            let old = load(source, &qmp).await?;
            let agent = AgentClient::for_copy(agent, old, &token, qemu.limits.wire(), None).await?;
            if let Source::Resume(frozen) = source
                && let Some(shares) = qemu.shares.as_ref().filter(|_| frozen.had_shares)
            {
                shares.take_up().await?;
            }
            (qmp, agent)
        }
        #[cfg(unix)]
        Wires::Socket { qmp, agent, token } => {
            // The request waits in the socket until the guest opens its end, so that the answer
            // comes the moment the agent is there.
            let agent = AgentClient::on_stream(agent, &token, qemu.limits.wire()).await?;
            let greeting = async {
                let qmp = Qmp::connect_socket(qmp).await?;
                timing.launch = watch.lap();
                start.stage(3);
                Ok(qmp)
            };
            let (qmp, ()) = tokio::try_join!(greeting, agent.ping())?;
            (qmp, agent)
        }
        Wires::Tcp { qmp, forwards, port, token, guest_port } => {
            let qmp = qmp.connect().await?;
            timing.launch = watch.lap();
            start.stage(3);
            let port = match port {
                Some(port) => port,
                None => wires::agent_port(&qmp, &forwards, guest_port).await?,
            };
            let agent = AgentClient::on_port(port, &token);
            let ready = async {
                qemu.console.wait_for(|progress| progress.ready).await;
            };
            wait_on_port(&agent, ready).await?;
            (qmp, agent)
        }
    };
    if let Some(screen) = &qemu.screen {
        screen.open_vnc(&qmp).await?;
    }
    // A template's guest has finished its boot.
    if start.config.wait_for() == WaitFor::Boot && !source.is_copy() {
        wait_for_init(&agent).await?;
    }
    Ok((qmp, agent))
}

/// Has QEMU take up the state that a machine begins with; gives the token that its agent knows.
#[cfg(target_os = "linux")]
async fn load<'a>(source: &'a Source, qmp: &Qmp) -> Result<&'a str> {
    // Opened again: another machine may read the same file at this moment, from a position of its own.
    let open = |state: &std::fs::File| {
        let state = reopened(state);
        state.map_err(|source| Error::System { action: "hand a file to QEMU", source })
    };
    match source {
        Source::Copy(template) | Source::Zygote(template) => {
            vmstate::read(qmp, open(&template.state)?).await?;
            Ok(&template.token)
        }
        Source::Resume(frozen) => {
            // The start's own time ends this.
            let state = open(&frozen.state)?;
            vmstate::read_all(qmp, state, Duration::from_secs(3600)).await?;
            Ok(&frozen.token)
        }
        Source::Cold
        | Source::Make
        | Source::Fork(_)
        | Source::Live(_)
        | Source::Stand(_)
        | Source::Still(_)
        | Source::Back(..) => {
            let source = std::io::ErrorKind::InvalidInput.into();
            Err(Error::System { action: "take up a machine that boots", source })
        }
    }
}

/// Waits until systemd has started everything; other inits have no such moment.
async fn wait_for_init(agent: &AgentClient) -> Result<()> {
    const SCRIPT: &str = "case $(readlink -f /sbin/init) in *systemd*) ;; *) exit 0 ;; esac
        while :; do
            case $(systemctl is-system-running --wait 2>/dev/null) in
                running|degraded|maintenance|stopping) exit 0 ;;
            esac
            sleep 0.2
        done";
    // The boot's own timeout ends this, so that the command needs none.
    let request = ExecuteRequest::new(SCRIPT).timeout(Duration::MAX).cwd("/");
    let mut ignore = crate::agent_client::execution::Discard;
    run_to_end(agent, &request, &mut ignore).await?;
    Ok(())
}

fn timed_out(qemu: &QemuProcess, timeout: Duration) -> Error {
    Error::BootTimeout { timeout, stderr: qemu.stderr.tail(), console: qemu.console.tail() }
}

/// Finds the causes that a user can do something about in QEMU's last words.
fn explain_boot_failure(error: Error, accelerator: Accelerator) -> Error {
    let Error::QemuExited { stderr, .. } = &error else { return error };
    // "Could not set up host forwarding rule 'tcp:127.0.0.1:8080-:80'"
    let rule = stderr
        .split_once("host forwarding rule '")
        .and_then(|(_, rest)| rest.split_once('\''))
        .and_then(|(rule, _)| rule.strip_prefix("tcp:"))
        .and_then(|rule| rule.split_once('-'))
        .and_then(|(host, _)| host.rsplit_once(':'));
    if let Some((address, port)) = rule
        && let Ok(port) = port.parse()
    {
        return Error::PortInUse { port, address: address.to_owned() };
    }
    // "invalid accelerator hvf", "failed to initialize kvm: No such file or directory"
    let refusal = |line: &&str| {
        line.contains("invalid accelerator ") || line.contains("failed to initialize ")
    };
    match stderr.lines().find(refusal) {
        Some(line) => Error::AcceleratorUnusable {
            accelerator: accelerator.name().to_owned(),
            reason: line.to_owned(),
        },
        None => error,
    }
}

/// Waits for a part of the start that looks at the host's files.
pub(crate) async fn within<T>(
    limit: Duration,
    action: &'static str,
    wait: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| {
        let words = format!("it took longer than {} s (boot_timeout)", limit.as_secs_f64());
        let source = std::io::Error::new(std::io::ErrorKind::TimedOut, words);
        Err(Error::System { action, source })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_recognised_in_qemus_words() {
        let error = |stderr: &str| {
            let error = Error::QemuExited {
                status: "exit code 1".into(),
                stderr: stderr.into(),
                console: String::new(),
                command: String::new(),
            };
            explain_boot_failure(error, Accelerator::Kvm)
        };
        let taken = error(
            "qemu-system-x86_64: -netdev user,id=net0: Could not set up host forwarding rule \
             'tcp:127.0.0.1:8080-:80'",
        );
        assert!(matches!(taken, Error::PortInUse { port: 8080, .. }), "{taken}");
        assert!(matches!(error("Could not set up host forwarding rule"), Error::QemuExited { .. }));
        for words in [
            "qemu-system-x86_64: -accel hvf: invalid accelerator hvf",
            "Could not access KVM kernel module: No such file or directory\n\
             qemu-system-x86_64: -accel kvm: failed to initialize kvm: No such file or directory",
        ] {
            let error = error(words);
            assert!(matches!(error, Error::AcceleratorUnusable { .. }), "{error}");
        }
        assert!(matches!(error("no such device"), Error::QemuExited { .. }));
    }
}
