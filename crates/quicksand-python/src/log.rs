//! What the Rust side tells by `tracing`, for Python's `logging`.
//!
//! Owns the bridge: events of our own crates become records of the logger `quicksand` (see
//! `python/quicksand/_logging.py`). They are handed over by the waker, the one thread that calls
//! into Python from outside, so that no thread of ours waits for the interpreter's lock to log.

use crate::background::{self, Wake};
use pyo3::prelude::*;
use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    subscriber::Interest,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

/// Crates whose events are logged; those of HTTP and TLS are of no use to a user.
const OURS: &[&str] = &["sandbox", "runtime_locator", "host_platform", "_native"];

/// Records that may wait for Python; what comes while so many wait is lost.
const MAX_WAITING: usize = 1000;

/// The lowest level that Python wants, as its own number (WARNING).
static LEVEL: AtomicI32 = AtomicI32::new(30);

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Says from which level on (Python's numbers) events are worth the trip.
#[pyfunction]
pub fn set_log_level(level: i32) {
    LEVEL.store(level, Ordering::Relaxed);
}

/// Lays the bridge; once, when the module is loaded.
pub fn install() {
    let subscriber = tracing_subscriber::registry().with(Bridge);
    // Another extension module cannot have set one: statics are each module's own.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn number(level: &Level) -> i32 {
    match *level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

struct Bridge;

impl<S: Subscriber> Layer<S> for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let crate_name = metadata.target().split("::").next().unwrap_or_default();
        // The level may change at any time, so that the answer to it must not be remembered.
        if OURS.contains(&crate_name) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        number(metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if WAITING.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            WAITING.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let record = Record {
            level: number(event.metadata().level()),
            target: event.metadata().target().replace("::", "."),
            message: sandbox::printable(&(text.message + &text.fields)).into_owned(),
        };
        background::wake(Arc::new(record));
    }
}

/// An event as one line: the message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

struct Record {
    level: i32,
    target: String,
    message: String,
}

impl Wake for Record {
    fn wake(&self, py: Python<'_>) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        let emitted = py
            .import("quicksand._logging")
            .and_then(|module| module.getattr("emit"))
            .and_then(|emit| emit.call1((self.level, &self.target, &self.message)));
        if let Err(error) = emitted {
            error.write_unraisable(py, None);
        }
    }
}
