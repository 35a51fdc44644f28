//! The commands that steps run. Each is known while it runs, so that the failure of one step can end
//! what runs beside it, and the processor time of each is measured. It knows no steps and no bars.

use anyhow::{Context as _, Result};
use duct::{Expression, Handle};
use std::{
    io::{BufRead as _, BufReader},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a command may take to end in good order once another step has failed.
const GRACE: Duration = Duration::from_secs(10);

/// The commands of this process.
#[derive(Default)]
pub struct Commands(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether a step has failed beside the others, which then have to end.
    has_ended: bool,
    running: Vec<Arc<Handle>>,
}

/// What a step gives that was ended because another one failed: the other has the story to tell.
#[derive(Debug, thiserror::Error)]
#[error("Ended, because another step failed")]
pub struct Ended;

/// Whether a command may be ended when another step fails.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It may: what it makes is thrown away then.
    Early,
    /// It may not: it changes the host, and must come to its end.
    Never,
}

impl Commands {
    /// Runs a command, gives each line of its output to `each`, and returns its processor time, with
    /// that of the programs it waited for.
    pub fn run(
        &self,
        command: Expression,
        ending: Ending,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Duration> {
        let (output, handle) = self.start(command, ending)?;
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        let mut outcome = Ok(());
        while outcome.is_ok() && lines.read_until(b'\n', &mut line)? > 0 {
            outcome = each(&line);
            line.clear();
        }
        let time = processor_time(&handle.pids());
        let status = handle.wait().map(|_| ());
        self.state().running.retain(|other| !Arc::ptr_eq(other, &handle));
        outcome?;
        status.context("The command failed; its last lines are above")?;
        Ok(time)
    }

    fn start(
        &self,
        command: Expression,
        ending: Ending,
    ) -> Result<(std::io::PipeReader, Arc<Handle>)> {
        // The lock is held meanwhile: no command starts unseen by the one that ends them all.
        let mut state = self.state();
        if state.has_ended {
            return Err(Ended.into());
        }
        let (output, input) = std::io::pipe()?;
        let command = if ending == Ending::Early { tied(command) } else { command };
        // The command holds the pipe's other end, and must be gone for the output to have an end.
        let command = command.stdin_null().stderr_to_stdout().stdout_file(input);
        let handle = Arc::new(command.start()?);
        if ending == Ending::Early {
            state.running.push(Arc::clone(&handle));
        }
        Ok((output, handle))
    }

    /// Ends what runs, and lets nothing start any more: politely at first.
    pub fn end(&self) {
        let running = {
            let mut state = self.state();
            state.has_ended = true;
            state.running.clone()
        };
        for handle in &running {
            signal(handle, Signal::Terminate);
        }
        let end = Instant::now() + GRACE;
        while Instant::now() < end && !self.state().running.is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = self.state().running.clone();
        for handle in &left {
            signal(handle, Signal::Kill);
            let _ = handle.kill();
        }
    }

    /// Lets commands start again.
    pub fn begin(&self) {
        self.state().has_ended = false;
    }

    /// Whether commands were ended.
    pub fn have_ended(&self) -> bool {
        self.state().has_ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
enum Signal {
    Terminate,
    Kill,
}

/// Sends a signal to the programs of a command and to all that they started. They are stopped first:
/// what one of them starts meanwhile would be missed, and hold the output of the command open.
#[cfg(target_os = "linux")]
fn signal(handle: &Handle, signal: Signal) {
    use rustix::process::{Pid, Signal as Number, kill_process};
    let number = match signal {
        Signal::Terminate => Number::TERM,
        Signal::Kill => Number::KILL,
    };
    // One may have ended by now, or belong to root.
    let send = |pid: u32, number| {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, number));
    };
    let is_running = |pid: u32| {
        let state = stat(pid).and_then(|fields| fields.into_iter().next());
        state.is_some_and(|state| !matches!(state.as_str(), "T" | "t" | "Z" | "X"))
    };
    let end = Instant::now() + Duration::from_secs(1);
    let mut found = descendants(&handle.pids());
    loop {
        for pid in &found {
            send(*pid, Number::STOP);
        }
        let are_stopped = !found.iter().any(|pid| is_running(*pid));
        let again = descendants(&handle.pids());
        if (are_stopped && again == found) || Instant::now() > end {
            break;
        }
        found = again;
        std::thread::sleep(Duration::from_millis(1));
    }
    for pid in found {
        send(pid, number);
        send(pid, Number::CONT);
    }
}

/// Elsewhere the program itself is all that is known.
#[cfg(not(target_os = "linux"))]
fn signal(handle: &Handle, _signal: Signal) {
    let _ = handle.kill();
}

/// These processes and all below them, the makers first: a maker that is gone starts nothing more.
#[cfg(target_os = "linux")]
fn descendants(pids: &[u32]) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs_err::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = pids.to_vec();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// The fields of `/proc/PID/stat` after the name, from the state on: proc_pid_stat(5).
#[cfg(target_os = "linux")]
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold any others.
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// How long this process is at work, and the processor time that it and what it waited for took: cargo
/// became this process after it had compiled the tasks, so that this is part of both. In words; nothing
/// where the system does not tell.
#[cfg(target_os = "linux")]
pub fn used() -> Option<String> {
    let fields = stat(std::process::id())?;
    let ticks = |range: std::ops::Range<usize>| -> Option<f64> {
        let sum: Option<u64> =
            fields.get(range)?.iter().map(|field| field.parse::<u64>().ok()).sum();
        Some(sum? as f64 / rustix::param::clock_ticks_per_second() as f64)
    };
    let uptime = fs_err::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let (processor, start) = (ticks(11..15)?, ticks(19..20)?);
    Some(format!("{:.1} s, {processor:.1} s of processor time", uptime - start))
}

#[cfg(not(target_os = "linux"))]
pub fn used() -> Option<String> {
    None
}

/// The processor time of this thread.
#[cfg(target_os = "linux")]
pub fn thread_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
pub fn thread_time() -> Duration {
    Duration::ZERO
}

/// Waits for the programs without taking their status, which is duct's, and reads what they used.
#[cfg(target_os = "linux")]
fn processor_time(pids: &[u32]) -> Duration {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let ticks = pids.iter().filter_map(|pid| {
        let id = WaitId::Pid(Pid::from_raw(i32::try_from(*pid).ok()?)?);
        while matches!(
            waitid(id.clone(), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT),
            Err(rustix::io::Errno::INTR)
        ) {}
        // utime, stime, cutime, cstime.
        let fields = stat(*pid)?;
        let times = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok());
        times.sum::<Option<u64>>()
    });
    let ticks: u64 = ticks.sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Elsewhere it is not measured.
#[cfg(not(target_os = "linux"))]
fn processor_time(_pids: &[u32]) -> Duration {
    Duration::ZERO
}

/// Lets the command end when this process does, however that ends: a compiler that goes on unseen
/// would be in the way of the next run.
#[cfg(target_os = "linux")]
fn tied(command: Expression) -> Expression {
    use rustix::process::{Signal, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt as _;
    command.before_spawn(|command| {
        // SAFETY: it makes one system call: it neither allocates nor locks.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        Ok(())
    })
}

#[cfg(not(target_os = "linux"))]
fn tied(command: Expression) -> Expression {
    command
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use duct::cmd;

    #[test]
    fn a_command_is_measured_with_what_it_started() {
        let commands = Commands::default();
        let busy =
            "for i in $(seq 3); do sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; done";
        let time = commands.run(cmd!("sh", "-c", busy), Ending::Early, |_| Ok(())).unwrap();
        assert!(time > Duration::from_millis(50), "{time:?}");
        let time = commands.run(cmd!("sleep", "0.3"), Ending::Early, |_| Ok(())).unwrap();
        assert!(time < Duration::from_millis(100), "{time:?}");
    }

    #[test]
    fn what_was_started_ends_with_its_starter_and_nothing_starts_after() {
        let commands = Commands::default();
        // A shell that heeds no polite word, and a grandchild that holds the pipe open.
        let stubborn = cmd!("sh", "-c", "trap '' TERM; sleep 600 & echo ready; wait; wait");
        std::thread::scope(|scope| {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let commands = &commands;
            let run = scope.spawn(move || {
                commands.run(stubborn, Ending::Early, |_| Ok(ready.send(())?)).map(drop)
            });
            is_ready.recv().unwrap();
            let start = Instant::now();
            commands.end();
            assert!(run.join().unwrap().is_err());
            assert!(start.elapsed() < GRACE * 2);
        });
        let error = commands.run(cmd!("true"), Ending::Early, |_| Ok(())).unwrap_err();
        assert!(error.is::<Ended>(), "{error}");
        commands.begin();
        commands.run(cmd!("true"), Ending::Early, |_| Ok(())).unwrap();
    }
}
