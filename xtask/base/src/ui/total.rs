//! The line for what remains of a task whose steps are known. It draws; what remains is reckoned in
//! `remaining`.
//!
//! The line asks for the time left while it is drawn, which is while indicatif holds its own locks.
//! So nothing here calls a bar while it holds the state, and the state knows no bars.

use super::remaining::{Durations, Lane, Remaining, words};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often the line is drawn again.
const TICK: Duration = Duration::from_millis(500);

pub struct Total {
    /// The line; a hidden one where there is no terminal.
    pub bar: ProgressBar,
    state: Arc<Mutex<State>>,
}

struct State {
    start: Instant,
    remaining: Remaining,
    /// The steps at work, and since when.
    at_work: BTreeMap<String, Instant>,
}

impl Total {
    pub fn new(lanes: &[Lane], before: &Durations, bar: Option<ProgressBar>) -> Self {
        let n_processors = std::thread::available_parallelism().map_or(1, usize::from);
        let remaining = Remaining::new(lanes, before, n_processors);
        let state = State { start: Instant::now(), remaining, at_work: BTreeMap::new() };
        let state = Arc::new(Mutex::new(state));
        let bar = bar.unwrap_or_else(ProgressBar::hidden);
        let (drawn, counted) = (Arc::clone(&state), Arc::clone(&state));
        if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan} {done}, {left} [{elapsed}]")
        {
            let left = move |_: &ProgressState, text: &mut dyn Write| {
                let _ = text.write_str(&lock(&drawn).left());
            };
            let done = move |_: &ProgressState, text: &mut dyn Write| {
                let _ = write!(text, "{:.0} %", lock(&counted).remaining.done() * 100.0);
            };
            bar.set_style(style.with_key("left", left).with_key("done", done));
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, state }
    }

    /// A step begins.
    pub fn begin(&self, title: &str) {
        lock(&self.state).at_work.insert(title.to_owned(), Instant::now());
    }

    /// A step has done this share of its work, from 0 to 1.
    pub fn reach(&self, title: &str, done: f64) {
        let done = {
            let mut state = lock(&self.state);
            // It tells by itself how far it is.
            state.at_work.remove(title);
            state.remaining.reach(title, done.min(0.99));
            state.remaining.done()
        };
        self.show(done);
    }

    /// A step is done; gives what remains, in words.
    pub fn finish(&self, title: &str) -> String {
        let (left, done) = {
            let mut state = lock(&self.state);
            state.at_work.remove(title);
            state.remaining.reach(title, 1.0);
            (state.left(), state.remaining.done())
        };
        self.show(done);
        left
    }

    /// A lane has come to its end.
    pub fn end_lane(&self, lane: usize) {
        let done = {
            let mut state = lock(&self.state);
            state.remaining.end(lane);
            state.remaining.done()
        };
        self.show(done);
    }

    fn show(&self, done: f64) {
        self.bar.set_position((done * 100.0) as u64);
    }
}

impl State {
    fn left(&mut self) -> String {
        for (title, start) in &self.at_work {
            self.remaining.reach(title, self.remaining.share(title, start.elapsed()));
        }
        words(self.remaining.left(self.start.elapsed()))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
