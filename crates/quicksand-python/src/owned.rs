//! The hold of Python's objects on a machine, and how an operation on it begins.
//!
//! Must not know which calls there are.

use crate::{
    errors,
    operation::{Channel, Operation, Value},
};
use pyo3::prelude::*;
use sandbox::{Result, Sandbox};
use std::{future::Future, mem::ManuallyDrop, sync::Arc};

/// A machine, held by all objects about it. The last one that goes ends it.
pub struct Owned {
    /// A fork of this process copies the value but not the machine: only the process that made it may drop it.
    sandbox: ManuallyDrop<Arc<Sandbox>>,
    process: u32,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: `drop` runs once and nothing uses the field after it.
            let sandbox = unsafe { ManuallyDrop::take(&mut self.sandbox) };
            // Ending a machine takes a moment; the interpreter's lock is not held for it.
            Python::attach(|py| py.detach(|| drop(sandbox)));
        }
    }
}

impl Owned {
    /// Holds a machine of this process.
    pub fn new(sandbox: Arc<Sandbox>) -> Self {
        Self { sandbox: ManuallyDrop::new(sandbox), process: std::process::id() }
    }

    /// What can be asked without an operation.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Whether the machine is of this process, and not of one that this was forked from.
    pub fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Begins an operation on the machine.
    pub fn operate<F>(
        &self,
        wake: Py<PyAny>,
        action: &'static str,
        work: impl FnOnce(Arc<Sandbox>) -> F,
    ) -> PyResult<Operation>
    where
        F: Future<Output = Result<Value>> + Send + 'static,
    {
        self.report(wake, action, |sandbox, _| work(sandbox), |_| async {})
    }

    /// The same for one that reports while it runs, or has something to do once it was cancelled.
    pub fn report<F, A>(
        &self,
        wake: Py<PyAny>,
        action: &'static str,
        work: impl FnOnce(Arc<Sandbox>, Arc<Channel>) -> F,
        after_cancel: impl FnOnce(Arc<Sandbox>) -> A,
    ) -> PyResult<Operation>
    where
        F: Future<Output = Result<Value>> + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        if !self.is_ours() {
            return Err(errors::foreign(action));
        }
        let (sandbox, tidied) = (Arc::clone(&self.sandbox), Arc::clone(&self.sandbox));
        Operation::begin(wake, |channel| work(sandbox, channel), after_cancel(tidied))
    }
}
