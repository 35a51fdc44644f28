//! A command from its start to its last byte, as one stream of events.
//!
//! ```text
//!   running --exit--> draining (what is in the pipes) --> Exit
//!      | timeout: everything is killed                     ^
//!      +--> killed --exit, or 2 s without one--> draining -+
//!      | dropped: everything is killed
//! ```

use std::cell::{Cell, RefCell};
use std::future::Future as _;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use agent_protocol::{ErrorResponse, ExitReport, exit_code_of_signal, timeout_message};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};

use super::group::{self, Group, Groups};
use super::plan::Plan;
use super::pty;
use super::reaper::{Ended, Ending, Reaper};
use super::sink::Input;
use super::source::{Chunk, Source};
use super::spawn::{self, Identity, Progress, Spawn, Stage};
use crate::{Error, Result};

/// How long a killed command may take to die before the result is given without it: a process
/// that waits for a device that does not answer cannot be killed.
const DEATH: Duration = Duration::from_secs(2);
/// How long a terminal may be silent after its command's end while others still hold it open.
const TERMINAL_REST: Duration = Duration::from_millis(50);

/// What is needed to start commands.
pub struct Launcher {
    /// Waits for them.
    pub reaper: Rc<Reaper>,
    /// Holds what they leave behind.
    pub groups: Rc<Groups>,
    /// `/dev/null`, opened once.
    pub null: OwnedFd,
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What lets a command run: shared with others, or alone.
pub enum Permit {
    /// Others may run too.
    Shared(tokio::sync::OwnedRwLockReadGuard<()>),
    /// No other command runs.
    Alone(tokio::sync::OwnedRwLockWriteGuard<()>),
    /// Neither waits for the other.
    Free,
}

/// What a command does.
pub enum Event {
    /// It wrote.
    Output(Stream, Chunk),
    /// It ended; nothing follows.
    Exit(ExitReport),
    /// It was ended because of what its host sent; nothing follows.
    Failed(ErrorResponse),
}

/// Whether the command gets input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// What is pushed into [`Process::input`].
    Queue,
}

/// A started process, for those who signal it and feed it.
pub struct Process {
    pid: i32,
    ended: Rc<Ended>,
    group: RefCell<Option<Group>>,
    groups: Rc<Groups>,
    master: Option<OwnedFd>,
    input: Rc<Input>,
    failure: RefCell<Option<ErrorResponse>>,
    killed: Cell<bool>,
    timed_out: Cell<Option<Duration>>,
}

impl Process {
    /// Sends a signal to the process group.
    pub fn signal(&self, signal: i32) {
        if self.ended.get().is_none() {
            group::signal(-self.pid, signal);
        }
    }

    /// The queue of its input.
    pub fn input(&self) -> &Rc<Input> {
        &self.input
    }

    /// Sets the size of its terminal, if it has one.
    pub fn resize(&self, rows: u16, cols: u16) {
        if let Some(master) = &self.master {
            // The terminal may be gone already, as the command may be.
            let _ = pty::resize(master.as_fd(), rows, cols);
        }
    }

    /// Kills it and whatever it started; its host gets the reason.
    pub fn fail(&self, error: ErrorResponse) {
        self.failure.borrow_mut().get_or_insert(error);
        self.kill();
    }

    fn expire(&self, timeout: Duration) {
        if self.ended.get().is_none() {
            self.timed_out.set(Some(timeout));
            self.kill();
        }
    }

    /// Kills it and whatever it started.
    pub fn kill(&self) {
        self.killed.set(true);
        let by_group = self.group.borrow().as_ref().is_some_and(|group| group.kill().is_ok());
        // The number of an ended process may belong to another one by now.
        if self.ended.get().is_none() {
            if !by_group {
                group::kill_tree(self.pid);
            }
            group::signal(-self.pid, libc::SIGKILL);
            self.ended.wake();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            self.groups.release(group);
        }
    }
}

/// A command as a stream of events. Dropped before its end, it is killed with all it started.
pub struct Running {
    process: Rc<Process>,
    sources: [Option<Source>; 2],
    /// Sources that have given all that belongs to the command.
    spent: Vec<Source>,
    turn: usize,
    /// What works for the command beside this: timeout, input.
    tasks: Vec<AbortHandle>,
    timer: Option<Pin<Box<Sleep>>>,
    ending: Option<Ending>,
    /// Whether the timeout was written to standard error.
    timeout_is_reported: bool,
    done: bool,
    _permit: Option<Permit>,
}

impl Launcher {
    /// Starts a command. `since` is when its timeout began to count.
    ///
    /// # Errors
    /// What is wrong with directory or shell, or which resource is used up.
    pub async fn start(&self, plan: &Plan, stdin: Stdin, since: Instant) -> Result<Running> {
        let failed = |stage| move |source| Error::Spawn { stage, source };
        let mut group = Lent { group: self.groups.acquire(), groups: &self.groups };
        let uid = plan.account.as_ref().map(|account| account.uid);
        let terminal = match &plan.pty {
            Some(request) => Some(pty::open(request, uid).map_err(failed("terminal"))?),
            None => None,
        };
        let mut sources = [None, None];
        let mut feed = None;
        let mut end = None;
        let ended = if let Some((master, slave)) = &terminal {
            feed = Some(master.try_clone().map_err(failed("terminal"))?);
            end = Some(CTRL_D);
            let reader = master.try_clone().map_err(failed("terminal"))?;
            sources[0] = Some(Source::terminal(reader).map_err(failed("terminal"))?);
            let streams = [slave, slave, slave].map(|slave| slave.as_fd());
            self.spawn(plan, streams, &mut group).await?
        } else {
            let stdout = Source::pipe().map_err(failed("pipe"))?;
            let stderr = Source::pipe().map_err(failed("pipe"))?;
            let null = self.null.as_fd();
            let mut reader = None;
            if stdin == Stdin::Queue {
                let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
                let (read, write) = pipe.map_err(|error| failed("pipe")(error.into()))?;
                rustix::io::ioctl_fionbio(&write, true)
                    .map_err(|error| failed("pipe")(error.into()))?;
                reader = Some(read);
                feed = Some(write);
            }
            let input = reader.as_ref().map_or(null, |reader| reader.as_fd());
            let streams = [input, stdout.writer().unwrap_or(null), stderr.writer().unwrap_or(null)];
            let ended = self.spawn(plan, streams, &mut group).await?;
            sources = [Some(stdout), Some(stderr)];
            ended
        };
        let (pid, ended) = ended;
        let process = Rc::new(Process {
            pid,
            ended,
            group: RefCell::new(group.group.take()),
            groups: Rc::clone(&self.groups),
            master: terminal.map(|(master, _)| master),
            input: Rc::default(),
            failure: RefCell::default(),
            killed: Cell::new(false),
            timed_out: Cell::new(None),
        });
        let mut tasks = Vec::new();
        match feed {
            Some(descriptor) => {
                let input = Rc::clone(&process.input);
                let task = tokio::task::spawn_local(async move {
                    // A command that does not read its input to the end is nobody's error.
                    let _ = input.write_to(descriptor, end).await;
                });
                tasks.push(task.abort_handle());
            }
            None => process.input.close(),
        }
        tasks.extend(plan.timeout.map(|timeout| expire_after(&process, since, timeout)));
        Ok(Running {
            process,
            sources,
            spent: Vec::new(),
            turn: 0,
            tasks,
            timer: None,
            ending: None,
            timeout_is_reported: false,
            done: false,
            _permit: None,
        })
    }

    /// Starts the process and announces it. What may wait for others in the child before the program
    /// runs (a user who stops it, a folder of a stalled server) is waited for in another thread.
    async fn spawn(
        &self,
        plan: &Plan,
        streams: [BorrowedFd<'_>; 3],
        group: &mut Lent<'_>,
    ) -> Result<(i32, Rc<Ended>)> {
        if !plan.may_stall {
            let folder = group.group.as_ref().map(Group::folder);
            let pid = spawn_plan(plan, streams, folder, None);
            let pid = pid.map_err(|failure| explain(failure, plan))?;
            return Ok((pid, self.reaper.expect(pid)));
        }
        let failed = |source| Error::Spawn { stage: "thread", source };
        let owned = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(failed);
        let [stdin, stdout, stderr] = streams;
        let streams = [owned(stdin)?, owned(stdout)?, owned(stderr)?];
        let folder = group.group.as_ref().map(|group| owned(group.folder())).transpose()?;
        let starting = self.reaper.starting();
        let pending = Pending { progress: Arc::default(), group };
        let (progress, copy) = (Arc::clone(&pending.progress), plan.clone());
        let started = tokio::task::spawn_blocking(move || {
            let streams = std::array::from_fn(|index| streams[index].as_fd());
            spawn_plan(
                &copy,
                streams,
                folder.as_ref().map(|folder| folder.as_fd()),
                Some(&progress),
            )
        });
        let result = match started.await {
            Ok(result) => result.map_err(|failure| explain(failure, plan)),
            Err(error) => Err(failed(io::Error::other(error.to_string()))),
        };
        // It has started, or it is gone: either way nobody needs to be killed for it.
        pending.progress.end();
        let pid = result?;
        let ended = self.reaper.expect(pid);
        drop(starting);
        Ok((pid, ended))
    }
}

/// A group until its process owns it.
struct Lent<'a> {
    group: Option<Group>,
    groups: &'a Rc<Groups>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            self.groups.release(group);
        }
    }
}

/// A process that is being started in another thread. Given up, it is killed, which ends the thread's
/// wait.
struct Pending<'a, 'b> {
    progress: Arc<Progress>,
    group: &'a mut Lent<'b>,
}

impl Drop for Pending<'_, '_> {
    fn drop(&mut self) {
        let Some(pid) = self.progress.give_up() else { return };
        // Its number is its own still: nobody has waited for it.
        group::signal(pid, libc::SIGKILL);
        if let Some(group) = &self.group.group {
            let _ = group.kill();
        }
    }
}

fn spawn_plan(
    plan: &Plan,
    streams: [BorrowedFd<'_>; 3],
    group: Option<BorrowedFd<'_>>,
    progress: Option<&Progress>,
) -> Result<i32, spawn::Failure> {
    spawn::spawn(&Spawn {
        program: &plan.program,
        arguments: &plan.arguments,
        environment: &plan.environment,
        directory: &plan.directory,
        identity: plan.account.as_ref().map(|account| Identity {
            uid: account.uid,
            gid: account.gid,
            groups: &account.groups,
        }),
        streams,
        terminal: plan.pty.is_some(),
        group,
        progress,
    })
}

/// Kills the command at its time, whether or not its output is being read just then.
fn expire_after(process: &Rc<Process>, since: Instant, timeout: Duration) -> AbortHandle {
    let process = Rc::downgrade(process);
    let task = tokio::task::spawn_local(async move {
        tokio::time::sleep_until(since + timeout).await;
        if let Some(process) = process.upgrade() {
            process.expire(timeout);
        }
    });
    task.abort_handle()
}

/// The control character that ends the input of a terminal.
const CTRL_D: u8 = 4;

fn explain(failure: spawn::Failure, plan: &Plan) -> Error {
    let source = failure.source;
    let text = |value: &std::ffi::CString| value.to_string_lossy().into_owned();
    match failure.stage {
        Stage::Directory => Error::Directory { path: text(&plan.directory), source },
        // Too long an argument list is the command's, everything else the shell's fault.
        Stage::Execute if source.raw_os_error() != Some(libc::ENOMEM) => {
            Error::Shell { path: text(&plan.program), source }
        }
        Stage::Execute => Error::Spawn { stage: "execute", source },
        Stage::Clone => Error::Spawn { stage: "clone", source },
        Stage::Session => Error::Spawn { stage: "session", source },
        Stage::Identity => Error::Spawn { stage: "user", source },
    }
}

impl Running {
    /// The process, for those who signal it and feed it.
    pub fn process(&self) -> &Rc<Process> {
        &self.process
    }

    /// Holds the permit until the command has ended.
    pub fn hold(&mut self, permit: Permit) {
        self._permit = Some(permit);
    }

    /// Remembers a frame that was made of a chunk of `stream`, whose memory can be used again.
    pub fn lend(&mut self, stream: Stream, frame: &bytes::Bytes) {
        if let Some(source) = &mut self.sources[stream as usize] {
            source.lend(frame);
        }
    }

    /// The next event; `None` after the last. Nothing is read unless somebody asks.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.done {
            return Poll::Ready(None);
        }
        self.poll_ending(cx);
        if let Poll::Ready(event) = self.poll_output(cx) {
            return Poll::Ready(Some(event));
        }
        let Some(ending) = self.ending else { return Poll::Pending };
        let drained = self.sources.iter().flatten().all(Source::is_ended);
        if !drained && !self.rested(cx) {
            return Poll::Pending;
        }
        let timed_out = self.process.timed_out.get();
        if let (Some(timeout), false) =
            (timed_out, std::mem::replace(&mut self.timeout_is_reported, true))
        {
            let message = Chunk::from_bytes(timeout_message(timeout.as_secs_f64()).as_bytes());
            return Poll::Ready(Some(Event::Output(Stream::Stderr, message)));
        }
        self.done = true;
        self._permit = None;
        if let Some(error) = self.process.failure.take() {
            return Poll::Ready(Some(Event::Failed(error)));
        }
        Poll::Ready(Some(Event::Exit(report(ending, timed_out.is_some()))))
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) {
        if self.ending.is_some() {
            return;
        }
        if let Poll::Ready(ending) = self.process.ended.poll(cx) {
            self.end(ending);
        } else if self.process.killed.get() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(DEATH)));
            if timer.as_mut().poll(cx).is_ready() {
                self.end(Ending::Signal(libc::SIGKILL));
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.timer = None;
        self.sources.iter_mut().flatten().for_each(Source::finish);
        self.process.input.close();
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        for _ in 0..2 {
            let turn = self.turn;
            // The other stream is asked first next time, so that neither starves.
            self.turn = 1 - turn;
            let Some(source) = &mut self.sources[turn] else { continue };
            match source.poll_chunk(cx) {
                Poll::Ready(Ok(Some(chunk))) => {
                    self.timer = None;
                    let stream = if turn == 0 { Stream::Stdout } else { Stream::Stderr };
                    return Poll::Ready(Event::Output(stream, chunk));
                }
                Poll::Ready(Ok(None)) => self.spent.extend(self.sources[turn].take()),
                Poll::Ready(Err(error)) => {
                    self.sources[turn] = None;
                    self.process.fail(read_failure(&error));
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Whether a terminal that background processes still hold has been silent long enough.
    fn rested(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(TERMINAL_REST)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Closes what the ended command needed, once the answer is on its way: closing costs more
    /// system calls than answering. What processes of the background hold open is read on.
    pub fn retire(&mut self) {
        let mut sources = std::mem::take(&mut self.spent);
        sources.extend(std::mem::take(&mut self.sources).into_iter().flatten());
        if sources.is_empty() {
            return;
        }
        tokio::task::spawn_local(async move {
            tokio::task::yield_now().await;
            for mut source in sources {
                if source.outlives() {
                    tokio::task::spawn_local(source.drain());
                }
            }
        });
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        if !self.done {
            self.process.kill();
        }
        self.retire();
    }
}

fn report(ending: Ending, timed_out: bool) -> ExitReport {
    let signal = match ending {
        Ending::Signal(signal) => Some(signal),
        Ending::Exit(_) => None,
    };
    let exit_code = match ending {
        _ if timed_out => -1,
        Ending::Exit(code) => code,
        Ending::Signal(signal) => exit_code_of_signal(signal),
    };
    ExitReport { exit_code, timed_out, signal }
}

fn read_failure(error: &io::Error) -> ErrorResponse {
    ErrorResponse { error: format!("Failed to read the command's output: {error}"), hint: None }
}
