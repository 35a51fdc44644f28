//! Progress and failures of tasks, on stderr: a spinner or bar for each step at work, with a line for
//! what is being done, and one for what remains of all on a terminal; one line at the start and end of
//! a step elsewhere. Commands write to a log of their step.

mod commands;
mod remaining;
mod total;

use anyhow::Result;
use commands::{Commands, Ending, thread_time};
pub use commands::{Ended, used};
use fs_err as fs;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
pub use remaining::Lane;
use remaining::{Durations, Took};
use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use total::Total;

/// Draws steps.
pub struct Ui {
    bars: MultiProgress,
    is_terminal: bool,
    logs: PathBuf,
    commands: Commands,
    /// How many calls of [`Ui::enter`] are not left yet.
    n_entered: AtomicUsize,
    total: Mutex<Option<Arc<Total>>>,
    durations: Mutex<Durations>,
}

/// One step of a task while it runs.
pub struct Step<'a> {
    title: &'a str,
    bar: ProgressBar,
    /// What remains of the task that it is a part of.
    total: Option<Arc<Total>>,
    log: PathBuf,
    commands: &'a Commands,
    /// The processor time of its commands.
    processor_time: Mutex<Duration>,
}

/// A step that failed: names the step, the log and its last lines, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("Failed at the step `{step}`{tail}")]
struct StepFailed {
    step: String,
    tail: String,
    hint: String,
    #[source]
    source: anyhow::Error,
}

/// What to do about an error, printed apart from it as a `hint:` line.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// An error with a hint.
pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

impl Ui {
    /// Logs of steps go below `logs`.
    pub fn new(logs: PathBuf) -> Self {
        Self {
            bars: MultiProgress::new(),
            is_terminal: std::io::stderr().is_terminal(),
            logs,
            commands: Commands::default(),
            n_entered: AtomicUsize::new(0),
            total: Mutex::default(),
            durations: Mutex::default(),
        }
    }

    /// Runs one step. What its commands print goes to `LOGS/<title>.log`.
    pub fn step<T>(&self, title: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        if self.commands.have_ended() {
            return Err(Ended.into());
        }
        let name: String = title
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let (log, turn) = own_log(&self.logs, &name)?;
        let bar = self.begin(title)?;
        let (start, own_time) = (Instant::now(), thread_time());
        let (commands, total) = (&self.commands, self.total());
        let step = Step { title, bar, total, log, commands, processor_time: Mutex::default() };
        let outcome = work(&step);
        step.bar.finish_and_clear();
        drop(turn);
        if outcome.is_ok() && step.log != self.logs.join(format!("{name}.log")) {
            // Nobody will ask for it, and the next one is called otherwise.
            let _ = fs::remove_file(&step.log);
        }
        match outcome {
            Ok(value) => {
                let time = *step.processor_time.lock().unwrap_or_else(PoisonError::into_inner);
                self.finish(title, start.elapsed(), time + thread_time().saturating_sub(own_time));
                Ok(value)
            }
            // A step inside a step was shown already, and one that was ended has none.
            Err(error) if error.is::<StepFailed>() || error.is::<Ended>() => Err(error),
            Err(_) if self.commands.have_ended() => Err(Ended.into()),
            Err(error) => {
                let tail = tail(&step.log);
                let full = || tail.contains(FULL).then(|| FREE_SOME.to_owned());
                let hint = hint(&error).or_else(full).unwrap_or_else(|| {
                    format!(
                        "mend what the log names and run the same command again; log: {}",
                        step.log.display()
                    )
                });
                Err(StepFailed { step: title.to_owned(), tail, hint, source: error }.into())
            }
        }
    }

    /// Shows a step that begins.
    fn begin(&self, title: &str) -> Result<ProgressBar> {
        let total = self.total();
        let bar = ProgressBar::new_spinner();
        let bar = match total.as_ref().map(|total| &total.bar) {
            // What remains of all stays the last line.
            Some(last) if self.is_terminal => self.bars.insert_before(last, bar),
            _ => self.bars.add(bar),
        };
        let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}")?;
        bar.set_style(style);
        bar.set_prefix(title.to_owned());
        if self.is_terminal {
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            eprintln!("==> {title}");
        }
        if let Some(total) = total {
            total.begin(title);
        }
        Ok(bar)
    }

    /// Says what a step took.
    fn finish(&self, title: &str, elapsed: Duration, processor_time: Duration) {
        let took = Took {
            seconds: elapsed.as_secs_f64(),
            processor_seconds: processor_time.as_secs_f64(),
        };
        let Took { seconds, processor_seconds } = took;
        let left = self.total().map(|total| total.finish(title));
        let left = left.map(|left| format!("; {left}")).unwrap_or_default();
        self.line(&format!(
            "    {title}: done in {seconds:.1} s ({processor_seconds:.1} s of processor time){left}"
        ));
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.insert(title.to_owned(), took);
    }

    /// Shows from now on what remains of a task whose steps are known.
    pub fn plan(&self, lanes: &[Lane]) {
        let before = remaining::read(&self.durations_file());
        let bar = self.is_terminal.then(|| self.bars.add(ProgressBar::new(100)));
        *self.total.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::new(Total::new(lanes, &before, bar)));
    }

    /// A lane of the plan, by its number, has come to its end.
    pub fn end_lane(&self, lane: usize) {
        if let Some(total) = self.total() {
            total.end_lane(lane);
        }
    }

    /// Shows no longer what remains, and keeps what each step took for the next run.
    pub fn end_plan(&self) {
        if let Some(total) = self.total.lock().unwrap_or_else(PoisonError::into_inner).take() {
            total.bar.finish_and_clear();
        }
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        // They make an estimate better, and a task is no worse without them.
        let _ = remaining::write(&self.durations_file(), &durations);
    }

    fn durations_file(&self) -> PathBuf {
        self.logs.join("durations.json")
    }

    fn total(&self) -> Option<Arc<Total>> {
        self.total.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins parts that run side by side; the guard ends them. What [`Ui::end_others`] ended may
    /// start again when the outermost of them has come to its end.
    pub fn enter(&self) -> Entered<'_> {
        self.n_entered.fetch_add(1, Ordering::SeqCst);
        Entered(self)
    }

    /// Ends every command that runs, because a part has failed.
    pub fn end_others(&self) {
        self.commands.end();
    }

    /// One line of news, above the bars.
    pub fn line(&self, text: &str) {
        if self.is_terminal {
            let _ = self.bars.println(text);
        } else {
            eprintln!("{text}");
        }
    }
}

/// Parts run side by side while it lives.
pub struct Entered<'a>(&'a Ui);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.0.n_entered.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.commands.begin();
        }
    }
}

impl Step<'_> {
    /// Says what is being done now.
    pub fn say(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// Shows a bar for `n_total` units of work instead of the spinner.
    pub fn expect(&self, n_total: u64) {
        if let Ok(style) = ProgressStyle::with_template(
            "{spinner} {prefix} [{elapsed}] {bar:24} {pos}/{len} {wide_msg:.dim}",
        ) {
            self.bar.set_style(style);
        }
        self.bar.set_length(n_total);
    }

    /// Moves the bar to `n_done` units.
    pub fn reach(&self, n_done: u64) {
        self.bar.set_position(n_done);
        if let (Some(total), Some(n_total @ 1..)) = (&self.total, self.bar.length()) {
            total.reach(self.title, n_done as f64 / n_total as f64);
        }
    }

    /// Where this step's commands log to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Runs a command: its output goes to the log and its newest line is shown. ninja's `[n/m]`
    /// moves the bar.
    pub fn run(&self, command: duct::Expression) -> Result<()> {
        self.run_with(command, Ending::Early)
    }

    /// The same for a command that changes the host: it comes to its end even when a step beside
    /// this one fails.
    pub fn run_to_its_end(&self, command: duct::Expression) -> Result<()> {
        self.run_with(command, Ending::Never)
    }

    fn run_with(&self, command: duct::Expression, ending: Ending) -> Result<()> {
        let mut log = fs::OpenOptions::new().append(true).create(true).open(&self.log)?;
        writeln!(log, "$ {}", argv(&command))?;
        let time = self.commands.run(command, ending, |line| {
            log.write_all(line)?;
            let text = String::from_utf8_lossy(line);
            if let Some((n_done, n_total)) = ninja_progress(&text) {
                self.expect(n_total);
                self.reach(n_done);
            }
            self.say(text.trim_end().to_owned());
            Ok(())
        })?;
        *self.processor_time.lock().unwrap_or_else(PoisonError::into_inner) += time;
        Ok(())
    }

    /// Whether a command of this step has printed this.
    pub fn has_printed(&self, text: &str) -> bool {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).contains(text)
    }
}

/// The program and its arguments, without the settings that duct nests around them.
fn argv(command: &duct::Expression) -> String {
    let text = format!("{command:?}");
    match text.split_once("Cmd(") {
        Some((_, line)) => line.trim_end_matches(')').to_owned(),
        None => text,
    }
}

fn ninja_progress(line: &str) -> Option<(u64, u64)> {
    let (n_done, n_total) = line.strip_prefix('[')?.split_once(']')?.0.split_once('/')?;
    Some((n_done.parse().ok()?, n_total.parse().ok()?))
}

/// The empty log of a step, held until the step ends: `<name>.log`, and one with the process' number
/// where another run is at the same step.
fn own_log(logs: &Path, name: &str) -> Result<(PathBuf, fs::File)> {
    let own = format!("{name}-{}", std::process::id());
    for name in [name, &own] {
        let path = logs.join(format!("{name}.log"));
        let file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        // A file system without locks is taken as it is.
        if !matches!(file.file().try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
            file.set_len(0)?;
            return Ok((path, file));
        }
    }
    let path = logs.join(format!("{own}.log"));
    let file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
    Ok((path, file))
}

/// The last lines of a log, indented, for an error.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(15))
        .map(|line| format!("\n    | {line}"))
        .collect()
}

/// What the system and every program call a full disk.
const FULL: &str = "No space left on device";

/// What to do then.
const FREE_SOME: &str = "free some space and run the same command again, which goes on where it stopped; QUICKSAND_CACHE=DIR, \
     CARGO_TARGET_DIR=DIR and TMPDIR=DIR name other folders";

/// What libraries say to do about their own errors.
static HINTS: OnceLock<Vec<HintOf>> = OnceLock::new();

/// The hint of an error, where it is one of a library's own.
pub type HintOf = fn(&(dyn std::error::Error + 'static)) -> Option<String>;

/// Whom to ask for hints, once for the whole process.
pub fn ask_for_hints(libraries: Vec<HintOf>) {
    // A second call is a test's, with the same.
    let _ = HINTS.set(libraries);
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        cause
            .downcast_ref::<Hinted>()
            .map(|hinted| hinted.hint.clone())
            .or_else(|| cause.downcast_ref::<StepFailed>().map(|failed| failed.hint.clone()))
            .or_else(|| HINTS.get()?.iter().find_map(|hint| hint(cause)))
            .or_else(|| cause.to_string().contains(FULL).then(|| FREE_SOME.to_owned()))
    })
}

/// Prints an error, its causes and its hint, and gives the exit code of a failed task.
pub fn report(error: &anyhow::Error) -> std::process::ExitCode {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {cause}");
    }
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
    std::process::ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninja_lines_move_the_bar() {
        assert_eq!(ninja_progress("[3/120] Compiling C object"), Some((3, 120)));
        assert_eq!(ninja_progress("[info] hello"), None);
        assert_eq!(ninja_progress("plain"), None);
    }

    #[test]
    fn two_runs_at_one_step_have_logs_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let (first, turn) = own_log(folder.path(), "fetch").unwrap();
        fs::write(&first, "of the first").unwrap();
        let (second, _) = own_log(folder.path(), "fetch").unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::read_to_string(&first).unwrap(), "of the first");
        drop(turn);
        let (third, _) = own_log(folder.path(), "fetch").unwrap();
        assert_eq!(third, first);
        assert_eq!(fs::read_to_string(&third).unwrap(), "");
    }

    #[test]
    fn a_log_shows_the_command_line_alone() {
        let command = duct::cmd!("echo", "(a)").env("X", "1").dir("/").stderr_null();
        assert_eq!(argv(&command), "[\"echo\", \"(a)\"]");
    }

    #[test]
    fn a_full_disk_has_its_own_hint() {
        let folder = tempfile::tempdir().unwrap();
        let ui = Ui::new(folder.path().to_path_buf());
        let printed = |step: &Step| {
            step.run(duct::cmd!("sh", "-c", "echo cc: No space left on device; exit 1"))
        };
        let written = |_: &Step| Err(std::io::Error::from_raw_os_error(28).into());
        for error in [ui.step("Build", printed), ui.step("Write", written)] {
            assert!(hint(&error.unwrap_err()).unwrap().contains("QUICKSAND_CACHE"));
        }
    }

    #[test]
    fn a_failed_step_names_step_log_and_hint() {
        let folder = tempfile::tempdir().unwrap();
        let ui = Ui::new(folder.path().to_path_buf());
        let error = ui
            .step("Count sheep", |step| step.run(duct::cmd!("sh", "-c", "echo woolly; exit 3")))
            .unwrap_err();
        assert!(error.to_string().contains("`Count sheep`"), "{error}");
        assert!(error.to_string().contains("woolly"), "{error}");
        assert!(hint(&error).unwrap().contains("count-sheep.log"));
    }
}
