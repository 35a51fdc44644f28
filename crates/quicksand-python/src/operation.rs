//! Work in the background as Python sees it: a queue of events, and a way to end it early.
//!
//! `python/quicksand/_bridge.py` is the other side. Invariant: at most [`ROOM`] bytes of output and
//! one chunk wait in a queue, so a slow callback holds the guest back instead of filling memory.

use crate::{background, errors};
use bytes::Bytes;
use pyo3::{
    IntoPyObjectExt as _,
    prelude::*,
    types::{PyBytes, PyDict},
};
use sandbox::{OutputStream, SessionEvent};
use std::{
    collections::VecDeque,
    future::Future,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Bytes of output that may wait for Python.
const ROOM: usize = 4 << 20;

/// Makes an object of Python's, with the interpreter's lock held.
type MakeObject = Box<dyn FnOnce(Python<'_>) -> PyResult<Bound<'_, PyAny>> + Send>;

/// What an operation gives in the end.
pub enum Value {
    /// Nothing.
    Nothing,
    /// Yes or no.
    Flag(bool),
    /// Two numbers, when there are any.
    Pair(Option<(u32, u32)>),
    /// A command's result.
    Command(sandbox::ExecuteResult),
    /// A file or a picture.
    Bytes(Vec<u8>),
    /// Anything small, as JSON.
    Json(serde_json::Value),
    /// JSON.
    Text(String),
    /// A checkpoint that was made.
    Checkpoint(sandbox::Checkpoint),
    /// All checkpoints.
    Checkpoints(Vec<sandbox::Checkpoint>),
    /// What the machine uses.
    Metrics(sandbox::Metrics),
    /// An object of Python's, made when Python asks for it.
    Object(MakeObject),
    /// What such a command did; nothing after its end.
    Event(Option<sandbox::SessionEvent>),
}

impl Value {
    /// One or several objects of a class of this module.
    pub fn object<T>(value: T) -> Self
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        Self::Object(Box::new(|py| value.into_bound_py_any(py)))
    }
}

enum Event {
    Progress { stage: String, current: usize, total: usize },
    Output(OutputStream, Bytes),
    Done(Value),
    Failed(sandbox::Error),
    Cancelled,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    n_bytes: usize,
}

/// The side of an operation that the work sees.
pub struct Channel {
    queue: Mutex<Queue>,
    has_room: Notify,
    is_cancelled: Notify,
    wake: Py<PyAny>,
}

impl background::Wake for Channel {
    fn wake(&self, py: Python<'_>) {
        if let Err(error) = self.wake.call0(py) {
            error.write_unraisable(py, None);
        }
    }
}

impl Channel {
    /// Reports how far a start has come.
    pub fn progress(self: &Arc<Self>, stage: &str, current: usize, total: usize) {
        self.push(Event::Progress { stage: stage.to_owned(), current, total }, 0);
    }

    /// Passes a chunk of output on once there is room for it.
    pub async fn output(self: &Arc<Self>, stream: OutputStream, data: Bytes) -> ControlFlow<()> {
        loop {
            let has_room = self.has_room.notified();
            if self.queue().n_bytes < ROOM {
                break;
            }
            has_room.await;
        }
        let n_bytes = data.len();
        self.push(Event::Output(stream, data), n_bytes);
        ControlFlow::Continue(())
    }

    fn push(self: &Arc<Self>, event: Event, n_bytes: usize) {
        let was_empty = {
            let mut queue = self.queue();
            let was_empty = queue.events.is_empty();
            queue.events.push_back(event);
            queue.n_bytes += n_bytes;
            was_empty
        };
        // Whoever was woken takes everything, so only the first event of a batch has to wake.
        if was_empty {
            background::wake(self.clone());
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work in the background; see `quicksand._bridge`.
#[pyclass(frozen, module = "quicksand._native")]
pub struct Operation {
    channel: Arc<Channel>,
}

impl Operation {
    /// Begins work. When it is cancelled its future is dropped and `after_cancel` runs before the
    /// end is reported, so that whoever waits for the end finds things tidy.
    pub fn begin<W, A>(
        wake: Py<PyAny>,
        work: impl FnOnce(Arc<Channel>) -> W,
        after_cancel: A,
    ) -> PyResult<Self>
    where
        W: Future<Output = sandbox::Result<Value>> + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let channel = Arc::new(Channel {
            queue: Mutex::default(),
            has_room: Notify::new(),
            is_cancelled: Notify::new(),
            wake,
        });
        let work = work(channel.clone());
        let shared = channel.clone();
        background::spawn(async move {
            let outcome = tokio::select! {
                outcome = work => Some(outcome),
                () = shared.is_cancelled.notified() => None,
            };
            let last = match outcome {
                Some(Ok(value)) => Event::Done(value),
                Some(Err(error)) => Event::Failed(error),
                None => {
                    after_cancel.await;
                    Event::Cancelled
                }
            };
            shared.push(last, 0);
        })?;
        Ok(Self { channel })
    }
}

#[pymethods]
impl Operation {
    /// Takes the events that are waiting.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let events = {
            let mut queue = self.channel.queue();
            queue.n_bytes = 0;
            std::mem::take(&mut queue.events)
        };
        // The one sender of output waits for this; a permit is kept when it does not wait yet.
        self.channel.has_room.notify_one();
        join(events).into_iter().map(|event| to_python(py, event)).collect()
    }

    /// Ends the work early; a last event still follows.
    fn cancel(&self) {
        self.channel.is_cancelled.notify_one();
    }
}

/// Joins neighbouring chunks of one stream: a call into Python costs more than a copy.
fn join(events: VecDeque<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::with_capacity(events.len());
    let mut run: Vec<Bytes> = Vec::new();
    let mut run_of = OutputStream::Stdout;
    let close = |run: &mut Vec<Bytes>, stream, joined: &mut Vec<Event>| match run.len() {
        0 => {}
        1 => joined.extend(run.pop().map(|only| Event::Output(stream, only))),
        _ => joined.push(Event::Output(stream, Bytes::from(std::mem::take(run).concat()))),
    };
    for event in events {
        match event {
            Event::Output(stream, data) => {
                if stream != run_of {
                    close(&mut run, run_of, &mut joined);
                    run_of = stream;
                }
                run.push(data);
            }
            other => {
                close(&mut run, run_of, &mut joined);
                joined.push(other);
            }
        }
    }
    close(&mut run, run_of, &mut joined);
    joined
}

fn to_python(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyAny>> {
    match event {
        Event::Progress { stage, current, total } => {
            ("progress", stage, current, total).into_bound_py_any(py)
        }
        Event::Output(stream, data) => {
            let name = match stream {
                OutputStream::Stdout => "stdout",
                OutputStream::Stderr => "stderr",
            };
            (name, PyBytes::new(py, &data)).into_bound_py_any(py)
        }
        Event::Done(Value::Nothing) => ("done", py.None()).into_bound_py_any(py),
        Event::Done(Value::Bytes(bytes)) => {
            ("done", PyBytes::new(py, &bytes)).into_bound_py_any(py)
        }
        Event::Done(Value::Json(value)) => ("done", value.to_string()).into_bound_py_any(py),
        Event::Done(Value::Flag(flag)) => ("done", flag).into_bound_py_any(py),
        Event::Done(Value::Pair(pair)) => ("done", pair).into_bound_py_any(py),
        Event::Done(Value::Command(result)) => {
            let stdout = PyBytes::new(py, &result.stdout);
            let stderr = PyBytes::new(py, &result.stderr);
            let dropped = (result.stdout_dropped, result.stderr_dropped);
            let value = (stdout, stderr, result.exit_code, dropped.0, dropped.1);
            ("done", value).into_bound_py_any(py)
        }
        Event::Done(Value::Text(text)) => ("done", text).into_bound_py_any(py),
        Event::Done(Value::Checkpoint(made)) => ("done", fields(&made)).into_bound_py_any(py),
        Event::Done(Value::Checkpoints(all)) => {
            let all: Vec<_> = all.iter().map(fields).collect();
            ("done", all).into_bound_py_any(py)
        }
        Event::Done(Value::Metrics(metrics)) => {
            ("done", measures(py, &metrics)?).into_bound_py_any(py)
        }
        Event::Done(Value::Object(make)) => ("done", make(py)?).into_bound_py_any(py),
        Event::Done(Value::Event(event)) => match event {
            Some(SessionEvent::Stdout(data) | SessionEvent::Stderr(data)) => {
                ("done", PyBytes::new(py, &data)).into_bound_py_any(py)
            }
            Some(SessionEvent::Exit { exit_code, .. }) => ("done", exit_code).into_bound_py_any(py),
            None => ("done", py.None()).into_bound_py_any(py),
        },
        Event::Failed(error) => ("failed", errors::to_python(py, &error)).into_bound_py_any(py),
        Event::Cancelled => ("failed", errors::cancelled(py)).into_bound_py_any(py),
    }
}

/// The fields of Python's `Checkpoint`, in their order.
fn fields(checkpoint: &sandbox::Checkpoint) -> (String, f64, u64) {
    let created = checkpoint.created.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (checkpoint.tag.clone(), created.as_secs_f64(), checkpoint.state_bytes)
}

/// The fields of Python's `Metrics`.
fn measures<'py>(py: Python<'py>, metrics: &sandbox::Metrics) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("uptime", metrics.uptime.as_secs_f64())?;
    fields.set_item("cpu_seconds", metrics.cpu.map(|cpu| cpu.as_secs_f64()))?;
    fields.set_item("memory_rss", metrics.memory_rss)?;
    fields.set_item("disk_read_bytes", metrics.disk_read_bytes)?;
    fields.set_item("disk_written_bytes", metrics.disk_written_bytes)?;
    fields.set_item("overlay_bytes", metrics.overlay_bytes)?;
    fields.set_item("network_received_bytes", metrics.network_received_bytes)?;
    fields.set_item("network_sent_bytes", metrics.network_sent_bytes)?;
    fields.set_item("guest_memory_total", metrics.guest_memory_total)?;
    fields.set_item("guest_memory_available", metrics.guest_memory_available)?;
    Ok(fields)
}
