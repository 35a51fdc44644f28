//! Commands that are talked to while they run: streamed input, and shells in a terminal.
//!
//! Owns the handles that Python holds; the queues and frames are `sandbox`'s business.

use crate::{
    background,
    operation::{Operation, Value},
};
use bytes::Bytes;
use pyo3::{prelude::*, types::PyBytes};
use sandbox::{SessionInput, SessionOutput};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// Portions of input that wait for a command that does not read.
const QUEUE: usize = 4;

/// Input for one command, written while it runs.
#[pyclass(frozen, module = "quicksand._native")]
pub struct Input {
    sender: Mutex<Option<mpsc::Sender<Bytes>>>,
    receiver: Mutex<Option<mpsc::Receiver<Bytes>>>,
}

impl Input {
    /// The command's end; it can be taken once.
    pub fn take(&self) -> Option<mpsc::Receiver<Bytes>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Input {
    #[new]
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender: Mutex::new(Some(sender)), receiver: Mutex::new(Some(receiver)) }
    }

    /// Passes data on once there is room. The answer is whether anybody still reads.
    fn write(&self, wake: Py<PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<Operation> {
        let data = Bytes::copy_from_slice(data.as_bytes());
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let work = |_| async move {
            let Some(sender) = sender else { return Ok(Value::Flag(false)) };
            Ok(Value::Flag(sender.send(data).await.is_ok()))
        };
        Operation::begin(wake, work, async {})
    }

    /// Ends the input.
    fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// A running command with a terminal.
#[pyclass(frozen, module = "quicksand._native")]
pub struct Session {
    input: Mutex<Option<SessionInput>>,
    output: Arc<AsyncMutex<Option<SessionOutput>>>,
}

impl Session {
    /// Holds both ends of a session.
    pub fn new(input: SessionInput, output: SessionOutput) -> Self {
        Self { input: Mutex::new(Some(input)), output: Arc::new(AsyncMutex::new(Some(output))) }
    }

    fn send<F>(
        &self,
        wake: Py<PyAny>,
        work: impl FnOnce(SessionInput) -> F + Send + 'static,
    ) -> PyResult<Operation>
    where
        F: Future<Output = sandbox::Result<()>> + Send + 'static,
    {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let work = |_| async move {
            let Some(input) = input else { return Ok(Value::Flag(false)) };
            // A command that has ended reads nothing; `next` gives its exit.
            Ok(Value::Flag(work(input).await.is_ok()))
        };
        Operation::begin(wake, work, async {})
    }
}

#[pymethods]
impl Session {
    /// The next output as bytes, the exit code at last, and then nothing.
    fn next(&self, wake: Py<PyAny>) -> PyResult<Operation> {
        let output = Arc::clone(&self.output);
        let work = |_| async move {
            match output.lock().await.as_mut() {
                Some(output) => Ok(Value::Event(output.next().await?)),
                None => Ok(Value::Event(None)),
            }
        };
        Operation::begin(wake, work, async {})
    }

    fn write(&self, wake: Py<PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<Operation> {
        let data = Bytes::copy_from_slice(data.as_bytes());
        self.send(wake, |input| async move { input.write(data).await })
    }

    fn resize(&self, wake: Py<PyAny>, rows: u16, cols: u16) -> PyResult<Operation> {
        self.send(wake, move |input| async move { input.resize(rows, cols).await })
    }

    fn signal(&self, wake: Py<PyAny>, signal: i32) -> PyResult<Operation> {
        self.send(wake, move |input| async move { input.signal(signal).await })
    }

    /// Kills the command, if it still runs.
    fn close(&self) -> PyResult<()> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let output = Arc::clone(&self.output);
        // A reader that waits holds the lock; it was cancelled by then, or gets the exit.
        background::spawn(async move { drop(output.lock().await.take()) })
    }
}
