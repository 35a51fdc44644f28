//! The threads behind the module: tokio's, which do the work, and the waker, which alone calls
//! into Python from outside of it.
//!
//! Must not know what an operation does. Invariant: no thread of tokio ever waits for the
//! interpreter's lock, so a busy Python program cannot stall the connection to a guest.

use pyo3::prelude::*;
use sandbox::fork::PerProcess;
use std::{
    future::Future,
    sync::{Arc, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
};

/// Something that can be told, with the interpreter's lock held, that there is news.
pub trait Wake: Send + Sync {
    /// Tells it.
    fn wake(&self, py: Python<'_>);
}

struct Background {
    runtime: tokio::runtime::Runtime,
    /// None when the interpreter is about to end.
    waker: Option<Waker>,
}

struct Waker {
    targets: mpsc::Sender<Arc<dyn Wake>>,
    thread: JoinHandle<()>,
}

/// A fork copies memory but no threads: the child makes threads of its own.
static BACKGROUND: PerProcess<Option<Background>> = PerProcess::new();

/// Starts work on tokio's threads.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> PyResult<()> {
    with(|background| {
        background.runtime.spawn(work);
    })
}

/// Runs work on tokio's threads and waits for it. The caller must not hold the interpreter's lock.
pub fn wait_for(work: impl Future<Output = ()> + Send + 'static) -> PyResult<()> {
    let (sender, receiver) = mpsc::channel();
    spawn(async move {
        work.await;
        let _ = sender.send(());
    })?;
    // The sender can only go away unused when the work panicked; that is no reason to hang.
    let _ = receiver.recv();
    Ok(())
}

/// Has `target` woken soon.
pub fn wake(target: Arc<dyn Wake>) {
    // Errors mean that the interpreter is on its way out; nobody is left to be woken.
    let _ = with(|background| {
        if let Some(waker) = &background.waker {
            let _ = waker.targets.send(target);
        }
    });
}

/// Ends the waker, and waits until it has left Python. The caller must not hold the interpreter's
/// lock.
///
/// An interpreter that is being torn down ends every thread that comes back for its lock, in the
/// middle of whatever the thread does; so none of ours may be inside by then.
pub fn end_waker() {
    let waker = lock().as_mut().and_then(|background| background.waker.take());
    if let Some(Waker { targets, thread }) = waker {
        drop(targets);
        let _ = thread.join();
    }
}

fn lock() -> MutexGuard<'static, Option<Background>> {
    BACKGROUND.get().lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(action: impl FnOnce(&Background) -> T) -> PyResult<T> {
    let mut place = lock();
    if place.is_none() {
        *place = Some(Background::new()?);
    }
    match place.as_ref() {
        Some(background) => Ok(action(background)),
        None => unreachable!("it was put there above"),
    }
}

impl Background {
    fn new() -> PyResult<Self> {
        #[cfg(unix)]
        has_descriptors()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("quicksand")
            .enable_all()
            .build()?;
        let (targets, waiting) = mpsc::channel::<Arc<dyn Wake>>();
        let thread =
            std::thread::Builder::new().name("quicksand-waker".into()).spawn(move || {
                for target in waiting {
                    // None while the interpreter is being torn down: then waking is pointless.
                    Python::try_attach(|py| target.wake(py));
                }
            })?;
        Ok(Self { runtime, waker: Some(Waker { targets, thread }) })
    }
}

/// Fails where no descriptors are left. The runtime takes some, and panics when it gets none for its
/// signals.
#[cfg(unix)]
fn has_descriptors() -> std::io::Result<()> {
    let pairs: std::io::Result<Vec<_>> =
        (0..5).map(|_| std::os::unix::net::UnixStream::pair()).collect();
    pairs.map(drop)
}
